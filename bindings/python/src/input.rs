//! What Python code gives: keyword arguments, and the dataclasses of `rocketmq_thin.values`, read by their
//! attributes. What is left out, or `None`, stays as the core has it.

use std::time::Duration;

use bytes::Bytes;
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyMapping};
use rocketmq_thin_bridge as bridge;

/// A length of time: a number of seconds or a `timedelta`.
pub(crate) struct Seconds(pub(crate) Duration);

impl FromPyObject<'_, '_> for Seconds {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match value.extract::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds)
                .map(Self)
                .map_err(|error| PyValueError::new_err(error.to_string())),
            Err(_) => value.extract().map(Self),
        }
    }
}

impl From<Seconds> for Duration {
    fn from(Seconds(duration): Seconds) -> Self {
        duration
    }
}

#[derive(FromPyObject)]
pub(crate) struct Message {
    topic: String,
    body: PyBackedBytes,
    tag: Option<String>,
    keys: Vec<String>,
    #[pyo3(from_py_with = pairs)]
    properties: Vec<(String, String)>,
}

fn pairs(mapping: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    mapping.cast::<PyMapping>()?.items()?.extract()
}

impl From<Message> for bridge::Message {
    fn from(message: Message) -> Self {
        let Message { topic, body, tag, keys, properties } = message;
        Self { topic, body: Bytes::from_owner(body), tag, keys, properties }
    }
}

#[derive(FromPyObject)]
struct Credentials {
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
}

impl From<Credentials> for Option<bridge::Credentials> {
    fn from(given: Credentials) -> Self {
        let Credentials { access_key, secret_key, session_token } = given;
        Some(bridge::Credentials { access_key, secret_key, session_token })
    }
}

#[derive(FromPyObject)]
struct Tls {
    ca: Option<Vec<u8>>,
}

impl From<Tls> for bridge::Tls {
    fn from(given: Tls) -> Self {
        given.ca.map_or(Self::SystemRoots, |pem| Self::Ca { pem })
    }
}

#[derive(FromPyObject)]
enum Filter {
    Tags { tags: Vec<String> },
    Sql { expression: String },
}

impl From<Filter> for bridge::Filter {
    fn from(given: Filter) -> Self {
        match given {
            Filter::Tags { tags } => Self::Tags(tags),
            Filter::Sql { expression } => Self::Sql(expression),
        }
    }
}

/// A mapping of topics to filters, or the topics alone.
pub(crate) fn subscriptions(given: &Bound<'_, PyAny>) -> PyResult<Vec<bridge::Subscription>> {
    let Ok(mapping) = given.cast::<PyMapping>() else {
        return Ok(given.extract::<Vec<String>>()?.into_iter().map(Into::into).collect());
    };
    let filters: Vec<(String, Option<Filter>)> = mapping.items()?.extract()?;
    let subscription = |(topic, filter): (String, Option<Filter>)| {
        bridge::Subscription::new(topic, filter.map(Into::into).unwrap_or_default())
    };
    Ok(filters.into_iter().map(subscription).collect())
}

/// Keyword arguments.
pub(crate) struct Given<'a, 'py>(pub(crate) Option<&'a Bound<'py, PyDict>>);

impl<'py> Given<'_, 'py> {
    /// Converts the argument `name`, a `V` in Python's terms, into `slot` if it was given.
    fn set<V: FromPyObjectOwned<'py> + Into<T>, T>(&self, name: &str, slot: &mut T) -> PyResult<()> {
        if let Some(given) = self.0
            && let Some(value) = given.get_item(name)?
            && !value.is_none()
        {
            *slot = value.extract::<V>().map_err(Into::into)?.into();
        }
        Ok(())
    }

    pub(crate) fn client(&self, endpoints: String) -> PyResult<bridge::ClientOptions> {
        let mut options = bridge::ClientOptions::new(endpoints);
        options.language = bridge::Language::Python;
        self.set::<String, _>("namespace", &mut options.namespace)?;
        self.set::<Credentials, _>("credentials", &mut options.credentials)?;
        self.set::<Tls, _>("tls", &mut options.tls)?;
        self.set::<Seconds, _>("request_timeout", &mut options.request_timeout)?;
        self.set::<Seconds, _>("operation_timeout", &mut options.operation_timeout)?;
        self.set::<Seconds, _>("startup_timeout", &mut options.startup_timeout)?;
        self.set::<u32, _>("max_attempts", &mut options.retry.max_attempts)?;
        Ok(options)
    }

    pub(crate) fn producer(&self) -> PyResult<bridge::ProducerOptions> {
        let mut options = bridge::ProducerOptions::default();
        self.set::<Vec<String>, _>("topics", &mut options.topics)?;
        self.set::<usize, _>("max_in_flight_messages", &mut options.max_in_flight_messages)?;
        self.set::<usize, _>("max_in_flight_bytes", &mut options.max_in_flight_bytes)?;
        Ok(options)
    }

    pub(crate) fn simple_consumer(
        &self,
        group: String,
        subscriptions: Vec<bridge::Subscription>,
    ) -> PyResult<bridge::SimpleConsumerOptions> {
        let mut options = bridge::SimpleConsumerOptions::new(group, subscriptions);
        self.set::<usize, _>("max_body_size", &mut options.decode.max_body_size)?;
        Ok(options)
    }

    pub(crate) fn receive(&self) -> PyResult<bridge::ReceiveOptions> {
        let mut options = bridge::ReceiveOptions::default();
        self.set::<u32, _>("max_messages", &mut options.max_messages)?;
        self.set::<Seconds, _>("invisible_duration", &mut options.invisible_duration)?;
        self.set::<Seconds, _>("await_duration", &mut options.await_duration)?;
        Ok(options)
    }
}
