//! Connected objects. Their methods only say what to do; see `operation`.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rocketmq_thin_bridge as bridge;

use crate::input::{Given, Message, Seconds, subscriptions};
use crate::operation::Operation;
use crate::output::Delivery;

#[pyfunction]
#[pyo3(signature = (endpoints, **options))]
pub(crate) fn connect(endpoints: String, options: Option<&Bound<'_, PyDict>>) -> PyResult<Operation> {
    let options = Given(options).client(endpoints)?;
    Ok(Operation::new(bridge::Operation::Connect(options)))
}

/// How long to wait for a close.
fn deadline(given: Option<Seconds>) -> Duration {
    given.map_or(bridge::CLOSE_DEADLINE, Into::into)
}

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Client(pub(crate) bridge::Client);

#[pymethods]
impl Client {
    #[pyo3(signature = (**options))]
    fn producer(&self, options: Option<&Bound<'_, PyDict>>) -> PyResult<Operation> {
        let options = Given(options).producer()?;
        Ok(Operation::new(bridge::Operation::Producer(self.0.clone(), options)))
    }

    #[pyo3(signature = (group, subscriptions, **options))]
    fn simple_consumer(
        &self,
        group: String,
        #[pyo3(from_py_with = subscriptions)] subscriptions: Vec<bridge::Subscription>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let options = Given(options).simple_consumer(group, subscriptions)?;
        Ok(Operation::new(bridge::Operation::SimpleConsumer(self.0.clone(), options)))
    }

    fn close(&self, within: Option<Seconds>) -> Operation {
        Operation::new(bridge::Operation::CloseClient(self.0.clone(), deadline(within)))
    }
}

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Producer(pub(crate) bridge::Producer);

#[pymethods]
impl Producer {
    fn send(&self, message: Message) -> Operation {
        Operation::new(bridge::Operation::Send(self.0.clone(), message.into()))
    }

    fn send_all(&self, messages: Vec<Message>) -> Operation {
        let messages = messages.into_iter().map(Into::into).collect();
        Operation::new(bridge::Operation::SendAll(self.0.clone(), messages))
    }

    fn close(&self, within: Option<Seconds>) -> Operation {
        Operation::new(bridge::Operation::CloseProducer(self.0.clone(), deadline(within)))
    }
}

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct SimpleConsumer(pub(crate) bridge::SimpleConsumer);

#[pymethods]
impl SimpleConsumer {
    #[pyo3(signature = (**options))]
    fn receive(&self, options: Option<&Bound<'_, PyDict>>) -> PyResult<Operation> {
        Ok(Operation::new(bridge::Operation::Receive(self.0.clone(), Given(options).receive()?)))
    }

    fn ack(&self, delivery: &Delivery) -> Operation {
        Operation::new(bridge::Operation::Ack(self.0.clone(), delivery.0.clone()))
    }

    fn ack_all(&self, deliveries: Vec<PyRef<'_, Delivery>>) -> Operation {
        let deliveries = deliveries.iter().map(|delivery| delivery.0.clone()).collect();
        Operation::new(bridge::Operation::AckAll(self.0.clone(), deliveries))
    }

    fn change_invisible(&self, delivery: &Delivery, duration: Seconds) -> Operation {
        let operation = bridge::Operation::ChangeInvisible(self.0.clone(), delivery.0.clone(), duration.0);
        Operation::new(operation)
    }

    fn close(&self, within: Option<Seconds>) -> Operation {
        Operation::new(bridge::Operation::CloseConsumer(self.0.clone(), deadline(within)))
    }
}
