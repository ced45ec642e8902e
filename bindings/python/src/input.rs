//! Conversion of Python values. The error of a failed conversion names the argument or attribute and what it
//! must be.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyList, PyMapping, PyString, PyTuple};
use rocketmq_thin_bridge as bridge;

use crate::output::Delivery;

/// A Rust type that Python values are converted to.
pub(crate) trait Input: Sized {
    /// The expected value, for error messages.
    const EXPECTED: &'static str;

    /// Converts `value`. `name` names it in errors.
    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self>;
}

/// Converts the argument `name`.
pub(crate) fn argument<T: Input>(name: &str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    T::convert(&name, value)
}

/// Creates the error for a value of the wrong type.
fn wrong_type<T: Input>(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyErr {
    match value.get_type().name() {
        Ok(given) => PyTypeError::new_err(format!("{name} must be {}, got {given}", T::EXPECTED)),
        Err(error) => error,
    }
}

/// Creates the error for a value that is out of range.
fn out_of_range<T: Input>(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!("{name} must be {}, got {value}", T::EXPECTED))
}

/// Converts each element of an iterable.
fn elements<T: Input, C: Input>(name: &dyn Display, iterable: &Bound<'_, PyAny>) -> PyResult<Vec<T>> {
    let element = |(index, element)| T::convert(&format_args!("{name}[{index}]"), &element);
    // Lists and tuples are read directly, which saves an iterator object.
    if let Ok(list) = iterable.cast::<PyList>() {
        return list.iter().enumerate().map(element).collect();
    }
    if let Ok(tuple) = iterable.cast::<PyTuple>() {
        return tuple.iter().enumerate().map(element).collect();
    }
    let elements = iterable.try_iter().map_err(|_| wrong_type::<C>(name, iterable))?;
    elements.enumerate().map(|(index, value)| element((index, value?))).collect()
}

/// Converts each item of a mapping whose keys are strings.
fn items<'py, T, C: Input>(
    name: &dyn Display,
    mapping: &Bound<'py, PyAny>,
    convert: impl Fn(String, Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    let item = |(key, value)| convert(String::convert(&format_args!("a key of {name}"), &key)?, value);
    // A dict is read directly, which saves a list of its items.
    if let Ok(dict) = mapping.cast::<PyDict>() {
        return dict.iter().map(item).collect();
    }
    let mapping = mapping.cast::<PyMapping>().map_err(|_| wrong_type::<C>(name, mapping))?;
    mapping.items()?.iter().map(|pair| item(pair.extract()?)).collect()
}

impl Input for String {
    const EXPECTED: &'static str = "a str";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        match value.cast::<PyString>() {
            // The string may contain surrogates, which are not valid UTF-8. Python's own error says where.
            Ok(text) => Ok(text.to_cow()?.into_owned()),
            Err(_) => Err(wrong_type::<Self>(name, value)),
        }
    }
}

impl<T: Input> Input for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() { Ok(None) } else { T::convert(name, value).map(Some) }
    }
}

impl Input for u32 {
    const EXPECTED: &'static str = "an int from 0 to 4294967295";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        value.extract().map_err(|error| int_error::<Self>(name, value, &error))
    }
}

impl Input for i32 {
    const EXPECTED: &'static str = "an int from -2147483648 to 2147483647";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        value.extract().map_err(|error| int_error::<Self>(name, value, &error))
    }
}

impl Input for f64 {
    const EXPECTED: &'static str = "a number";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        value.extract().map_err(|_| wrong_type::<Self>(name, value))
    }
}

/// A point in time. A `datetime` without a time zone is refused, because its time zone could only be guessed.
pub(crate) struct Time(pub(crate) SystemTime);

impl Input for Time {
    const EXPECTED: &'static str = "a datetime with a time zone, from 1970 on";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        match value.extract() {
            Ok(time) => Ok(Self(time)),
            Err(error) if !error.is_instance_of::<PyTypeError>(value.py()) => {
                Err(out_of_range::<Self>(name, value))
            }
            Err(_) if value.getattr("tzinfo").is_ok_and(|zone| zone.is_none()) => {
                let expected = Self::EXPECTED;
                Err(PyTypeError::new_err(format!(
                    "{name} must be {expected}, got {value}, which has no time zone"
                )))
            }
            Err(_) => Err(wrong_type::<Self>(name, value)),
        }
    }
}

impl Input for usize {
    const EXPECTED: &'static str = "an int, not negative";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        value.extract().map_err(|error| int_error::<Self>(name, value, &error))
    }
}

fn int_error<T: Input>(name: &dyn Display, value: &Bound<'_, PyAny>, error: &PyErr) -> PyErr {
    if error.is_instance_of::<PyTypeError>(value.py()) {
        wrong_type::<T>(name, value)
    } else {
        out_of_range::<T>(name, value)
    }
}

/// A duration: a number of seconds or a `timedelta`.
pub(crate) struct Seconds(pub(crate) Duration);

impl Input for Seconds {
    const EXPECTED: &'static str = "a number of seconds or a timedelta, from 0 to 1.8e19 seconds";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let duration = match value.extract::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => match value.extract::<Duration>() {
                Ok(duration) => Some(duration),
                Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => {
                    return Err(wrong_type::<Self>(name, value));
                }
                Err(_) => None,
            },
        };
        duration.map(Self).ok_or_else(|| out_of_range::<Self>(name, value))
    }
}

/// One name or several. A `str` is one name, not an iterable of letters.
pub(crate) struct Names(pub(crate) Vec<String>);

impl Input for Names {
    const EXPECTED: &'static str = "a str or an iterable of str";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyString>() {
            return Ok(Self(vec![String::convert(name, value)?]));
        }
        elements::<String, Self>(name, value).map(Self)
    }
}

struct Properties(Vec<(String, String)>);

impl Input for Properties {
    const EXPECTED: &'static str = "a mapping of str to str";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let property = |key: String, value: Bound<'_, PyAny>| {
            let value = String::convert(&format_args!("{name}[{key:?}]"), &value)?;
            Ok((key, value))
        };
        items::<_, Self>(name, value, property).map(Self)
    }
}

/// A message body. `bytes` are not copied, but kept alive. A `bytearray` is copied, because it can change.
struct Body(Bytes);

impl Input for Body {
    const EXPECTED: &'static str = "bytes or bytearray";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let body: PyBackedBytes = value.extract().map_err(|_| wrong_type::<Self>(name, value))?;
        Ok(Self(Bytes::from_owner(body)))
    }
}

/// A message to send.
pub(crate) struct Message(pub(crate) bridge::Message);

impl Input for Message {
    const EXPECTED: &'static str = "a rocketmq_thin.Message";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = value.py();
        let Ok(topic) = value.getattr(intern!(py, "topic")) else {
            return Err(wrong_type::<Self>(name, value));
        };
        let topic = String::convert(&"Message.topic", &topic)?;
        let mut message = bridge::Message::new(topic, Bytes::new());
        message.body = Body::convert(&"Message.body", &value.getattr(intern!(py, "body"))?)?.0;
        message.tag = Option::convert(&"Message.tag", &value.getattr(intern!(py, "tag"))?)?;
        message.keys = Names::convert(&"Message.keys", &value.getattr(intern!(py, "keys"))?)?.0;
        let properties = value.getattr(intern!(py, "properties"))?;
        message.properties = Properties::convert(&"Message.properties", &properties)?.0;
        message.message_group =
            Option::convert(&"Message.message_group", &value.getattr(intern!(py, "message_group"))?)?;
        let deliver_at: Option<Time> =
            Option::convert(&"Message.deliver_at", &value.getattr(intern!(py, "deliver_at"))?)?;
        message.deliver_at = deliver_at.map(|Time(time)| time);
        let delay: Option<Seconds> =
            Option::convert(&"Message.delay", &value.getattr(intern!(py, "delay"))?)?;
        message.delay = delay.map(|Seconds(delay)| delay);
        message.priority = Option::convert(&"Message.priority", &value.getattr(intern!(py, "priority"))?)?;
        message.lite_topic =
            Option::convert(&"Message.lite_topic", &value.getattr(intern!(py, "lite_topic"))?)?;
        Ok(Self(message))
    }
}

/// Messages to send.
pub(crate) struct Messages(pub(crate) Vec<bridge::Message>);

impl Input for Messages {
    const EXPECTED: &'static str = "an iterable of rocketmq_thin.Message";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let messages = elements::<Message, Self>(name, value)?;
        Ok(Self(messages.into_iter().map(|Message(message)| message).collect()))
    }
}

/// The attributes of a receipt that a recall needs.
pub(crate) struct Receipt {
    pub(crate) topic: String,
    pub(crate) recall_handle: Option<String>,
}

impl Input for Receipt {
    const EXPECTED: &'static str = "a rocketmq_thin.Receipt";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (Ok(topic), Ok(handle)) = (value.getattr("topic"), value.getattr("recall_handle")) else {
            return Err(wrong_type::<Self>(name, value));
        };
        Ok(Self {
            topic: argument("Receipt.topic", &topic)?,
            recall_handle: argument("Receipt.recall_handle", &handle)?,
        })
    }
}

impl Input for Delivery {
    const EXPECTED: &'static str = "a rocketmq_thin.Delivery";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let delivery = value.cast::<Self>().map_err(|_| wrong_type::<Self>(name, value))?;
        Ok(Self(delivery.get().0.clone()))
    }
}

/// Deliveries to acknowledge.
pub(crate) struct Deliveries(pub(crate) Vec<bridge::Delivery>);

impl Input for Deliveries {
    const EXPECTED: &'static str = "an iterable of rocketmq_thin.Delivery";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let deliveries = elements::<Delivery, Self>(name, value)?;
        Ok(Self(deliveries.into_iter().map(|Delivery(delivery)| delivery).collect()))
    }
}

impl Input for bridge::Credentials {
    const EXPECTED: &'static str = "a rocketmq_thin.Credentials";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(access_key) = value.getattr("access_key") else {
            return Err(wrong_type::<Self>(name, value));
        };
        let access_key: String = argument("Credentials.access_key", &access_key)?;
        let secret_key: String = argument("Credentials.secret_key", &value.getattr("secret_key")?)?;
        let mut credentials = Self::new(access_key, secret_key);
        credentials.session_token = argument("Credentials.session_token", &value.getattr("session_token")?)?;
        let expires_at: Option<Time> = argument("Credentials.expires_at", &value.getattr("expires_at")?)?;
        credentials.expires_at = expires_at.map(|Time(time)| time);
        Ok(credentials)
    }
}

impl Input for bridge::Tls {
    const EXPECTED: &'static str = "a rocketmq_thin.Tls";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(ca) = value.getattr("ca") else {
            return Err(wrong_type::<Self>(name, value));
        };
        let pem = |attribute: &str, value: &Bound<'_, PyAny>| {
            let pem: Option<Body> = argument(attribute, value)?;
            PyResult::Ok(pem.map(|Body(pem)| pem.to_vec()))
        };
        let mut tls = pem("Tls.ca", &ca)?.map_or_else(Self::system_roots, Self::ca);
        let certificate = pem("Tls.certificate", &value.getattr("certificate")?)?;
        let key = pem("Tls.key", &value.getattr("key")?)?;
        if certificate.is_some() || key.is_some() {
            tls = tls.client_certificate(certificate.unwrap_or_default(), key.unwrap_or_default());
        }
        let server_name: Option<String> = argument("Tls.server_name", &value.getattr("server_name")?)?;
        if let Some(server_name) = server_name {
            tls = tls.server_name(server_name);
        }
        let skip = value.getattr("dangerously_skip_verification")?;
        Ok(if argument("Tls.dangerously_skip_verification", &skip)? {
            tls.dangerously_skip_verification()
        } else {
            tls
        })
    }
}

impl Input for bool {
    const EXPECTED: &'static str = "a bool";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        value.extract().map_err(|_| wrong_type::<Self>(name, value))
    }
}

impl Input for bridge::Startup {
    const EXPECTED: &'static str = "'eager', 'wait' or 'lazy'";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        match String::convert(name, value)?.as_str() {
            "eager" => Ok(Self::Eager),
            "wait" => Ok(Self::Wait),
            "lazy" => Ok(Self::Lazy),
            _ => Err(out_of_range::<Self>(name, value)),
        }
    }
}

impl Input for bridge::Filter {
    const EXPECTED: &'static str = "rocketmq_thin.Tags, rocketmq_thin.Sql or None";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            Ok(Self::All)
        } else if let Ok(tags) = value.getattr("tags") {
            Ok(Self::Tags(Names::convert(&format_args!("{name}.tags"), &tags)?.0))
        } else if let Ok(expression) = value.getattr("expression") {
            Ok(Self::Sql(String::convert(&format_args!("{name}.expression"), &expression)?))
        } else {
            Err(wrong_type::<Self>(name, value))
        }
    }
}

impl Input for bridge::OffsetOption {
    const EXPECTED: &'static str = "a rocketmq_thin.OffsetOption";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (Ok(kind), Ok(given)) = (value.getattr("kind"), value.getattr("value")) else {
            return Err(wrong_type::<Self>(name, value));
        };
        let number = |name: &str| usize::convert(&format_args!("OffsetOption.{name}"), &given);
        match String::convert(&"OffsetOption.kind", &kind)?.as_str() {
            "last" => Ok(Self::Last),
            "min" => Ok(Self::Min),
            "max" => Ok(Self::Max),
            "offset" => Ok(Self::Offset(number("offset")? as u64)),
            "tail" => Ok(Self::Tail(number("tail")? as u64)),
            "timestamp" => Ok(Self::Timestamp(Time::convert(&"OffsetOption.timestamp", &given)?.0)),
            _ => Err(wrong_type::<Self>(name, value)),
        }
    }
}

impl Input for bridge::Decision {
    const EXPECTED: &'static str = "a rocketmq_thin.Decision";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let name_of_decision: String = match value.getattr("value") {
            Ok(decision) => argument("Decision.value", &decision)?,
            Err(_) => return Err(wrong_type::<Self>(name, value)),
        };
        match name_of_decision.as_str() {
            "commit" => Ok(Self::Commit),
            "rollback" => Ok(Self::Rollback),
            "unknown" => Ok(Self::Unknown),
            _ => Err(wrong_type::<Self>(name, value)),
        }
    }
}

/// The subscriptions of a consumer: topics, a mapping of topics to filters, or the lite topics of one topic.
pub(crate) enum Subscriptions {
    Topics(Vec<bridge::Subscription>),
    Lite(String),
}

impl Input for Subscriptions {
    const EXPECTED: &'static str =
        "a str, an iterable of str, a mapping of str to Tags, Sql or None, or a rocketmq_thin.Lite";

    fn convert(name: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyString>() {
            return Ok(Self::Topics(vec![String::convert(name, value)?.into()]));
        }
        if let Ok(topic) = value.getattr("bind_topic") {
            return String::convert(&"Lite.bind_topic", &topic).map(Self::Lite);
        }
        if value.cast::<PyMapping>().is_err() {
            let topics = elements::<String, Self>(name, value)?;
            return Ok(Self::Topics(topics.into_iter().map(Into::into).collect()));
        }
        let subscription = |topic: String, filter: Bound<'_, PyAny>| {
            let filter = bridge::Filter::convert(&format_args!("{name}[{topic:?}]"), &filter)?;
            Ok(bridge::Subscription::new(topic, filter))
        };
        items::<_, Self>(name, value, subscription).map(Self::Topics)
    }
}
