//! Options, which Python passes as keyword arguments. Options that are missing or `None` have the core's
//! defaults.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rocketmq_thin_bridge as bridge;

use crate::input::{Input, Names, Seconds, Subscriptions, argument};

/// Converts the `deadline` argument of a close.
pub(crate) fn close_deadline(deadline: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let deadline: Option<Seconds> = argument("deadline", deadline)?;
    Ok(deadline.map_or(bridge::CLOSE_DEADLINE, |Seconds(deadline)| deadline))
}

/// The keyword arguments of a call.
pub(crate) struct Keywords<'a, 'py>(pub(crate) Option<&'a Bound<'py, PyDict>>);

impl Keywords<'_, '_> {
    /// Returns the argument `name`, or `None` if it is missing or `None`.
    fn get<T: Input>(&self, name: &str) -> PyResult<Option<T>> {
        match self.0.map(|arguments| arguments.get_item(name)).transpose()?.flatten() {
            Some(value) => argument(name, &value),
            None => Ok(None),
        }
    }

    /// Sets `option` to the argument `name`, unless it is missing or `None`.
    fn set<T: Input>(&self, name: &str, option: &mut T) -> PyResult<()> {
        if let Some(value) = self.get(name)? {
            *option = value;
        }
        Ok(())
    }

    fn set_duration(&self, name: &str, option: &mut Duration) -> PyResult<()> {
        if let Some(Seconds(duration)) = self.get(name)? {
            *option = duration;
        }
        Ok(())
    }

    pub(crate) fn client(&self, endpoints: String) -> PyResult<bridge::ClientOptions> {
        let mut options = bridge::ClientOptions::new(endpoints);
        options.language = bridge::Language::Python;
        self.set("namespace", &mut options.namespace)?;
        self.set("tls", &mut options.tls)?;
        self.set_duration("request_timeout", &mut options.request_timeout)?;
        self.set_duration("operation_timeout", &mut options.operation_timeout)?;
        self.set_duration("startup_timeout", &mut options.startup_timeout)?;
        self.set("max_attempts", &mut options.retry.max_attempts)?;
        self.set_duration("initial_retry_delay", &mut options.retry.initial)?;
        self.set_duration("max_retry_delay", &mut options.retry.max)?;
        self.set("startup", &mut options.startup)?;
        options.credentials = self.get("credentials")?;
        Ok(options)
    }

    pub(crate) fn producer(&self) -> PyResult<bridge::ProducerOptions> {
        let mut options = bridge::ProducerOptions::default();
        if let Some(Names(topics)) = self.get("topics")? {
            options.topics = topics;
        }
        self.set("max_in_flight_messages", &mut options.max_in_flight_messages)?;
        self.set("max_in_flight_bytes", &mut options.max_in_flight_bytes)?;
        options.compress_above = self.get("compress_above")?;
        Ok(options)
    }

    pub(crate) fn simple_consumer(
        &self,
        group: String,
        subscriptions: Subscriptions,
    ) -> PyResult<bridge::SimpleConsumerOptions> {
        let mut options = match subscriptions {
            Subscriptions::Topics(topics) => bridge::SimpleConsumerOptions::new(group, topics),
            Subscriptions::Lite(topic) => bridge::SimpleConsumerOptions::lite(group, topic),
        };
        self.set("max_body_size", &mut options.decode.max_body_size)?;
        Ok(options)
    }

    pub(crate) fn push_consumer(
        &self,
        group: String,
        subscriptions: Subscriptions,
    ) -> PyResult<bridge::PushConsumerOptions> {
        let mut options = match subscriptions {
            Subscriptions::Topics(topics) => bridge::PushConsumerOptions::new(group, topics),
            Subscriptions::Lite(topic) => bridge::PushConsumerOptions::lite(group, topic),
        };
        self.set("concurrency", &mut options.concurrency)?;
        self.set("max_cached_messages", &mut options.max_cached_messages)?;
        self.set("max_cached_bytes", &mut options.max_cached_bytes)?;
        self.set_duration("invisible_duration", &mut options.invisible_duration)?;
        options.max_rate = self.get("max_rate")?;
        self.set("max_body_size", &mut options.decode.max_body_size)?;
        Ok(options)
    }

    pub(crate) fn stream(&self) -> PyResult<bridge::StreamOptions> {
        let mut options = bridge::StreamOptions::default();
        self.set("max_messages", &mut options.max_messages)?;
        self.set("max_bytes", &mut options.max_bytes)?;
        self.set_duration("invisible_duration", &mut options.invisible_duration)?;
        Ok(options)
    }

    pub(crate) fn receive(&self) -> PyResult<bridge::ReceiveOptions> {
        let mut options = bridge::ReceiveOptions::default();
        self.set("max_messages", &mut options.max_messages)?;
        self.set_duration("invisible_duration", &mut options.invisible_duration)?;
        self.set_duration("await_duration", &mut options.await_duration)?;
        Ok(options)
    }
}
