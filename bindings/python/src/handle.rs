//! Clients, producers and consumers. Their methods only make an [`Operation`].

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rocketmq_thin_bridge as bridge;

use crate::error::raised;
use crate::input::{Deliveries, Message, Messages, Seconds, Subscriptions, argument};
use crate::operation::Operation;
use crate::options::Keywords;
use crate::output::Delivery;

type Any<'py> = Bound<'py, PyAny>;

#[pyfunction]
#[pyo3(signature = (endpoints, **options))]
pub(crate) fn connect(
    py: Python<'_>,
    endpoints: &Any<'_>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<Operation> {
    let options = Keywords(options).client(argument("endpoints", endpoints)?)?;
    Ok(Operation::new(bridge::connect(options).map_err(|error| raised(py, &error))?))
}

fn close_deadline(deadline: &Any<'_>) -> PyResult<Duration> {
    let deadline: Option<Seconds> = argument("deadline", deadline)?;
    Ok(deadline.map_or(bridge::CLOSE_DEADLINE, |Seconds(deadline)| deadline))
}

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Client(pub(crate) bridge::Client);

#[pymethods]
impl Client {
    #[pyo3(signature = (**options))]
    fn producer(&self, options: Option<&Bound<'_, PyDict>>) -> PyResult<Operation> {
        let options = Keywords(options).producer()?;
        Ok(Operation::new(self.0.producer(options)))
    }

    #[pyo3(signature = (group, subscriptions, **options))]
    fn simple_consumer(
        &self,
        group: &Any<'_>,
        subscriptions: &Any<'_>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let group = argument("group", group)?;
        let Subscriptions(subscriptions) = argument("subscriptions", subscriptions)?;
        let options = Keywords(options).simple_consumer(group, subscriptions)?;
        Ok(Operation::new(self.0.simple_consumer(options)))
    }

    fn close(&self, deadline: &Any<'_>) -> PyResult<Operation> {
        let deadline = close_deadline(deadline)?;
        Ok(Operation::new(self.0.close(deadline)))
    }
}

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Producer(pub(crate) bridge::Producer);

#[pymethods]
impl Producer {
    fn send(&self, message: &Any<'_>) -> PyResult<Operation> {
        let Message(message) = argument("message", message)?;
        Ok(Operation::new(self.0.send(message)))
    }

    fn send_all(&self, messages: &Any<'_>) -> PyResult<Operation> {
        let Messages(messages) = argument("messages", messages)?;
        Ok(Operation::new(self.0.send_all(messages)))
    }

    fn close(&self, deadline: &Any<'_>) -> PyResult<Operation> {
        let deadline = close_deadline(deadline)?;
        Ok(Operation::new(self.0.close(deadline)))
    }
}

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct SimpleConsumer(pub(crate) bridge::SimpleConsumer);

#[pymethods]
impl SimpleConsumer {
    #[pyo3(signature = (**options))]
    fn receive(&self, options: Option<&Bound<'_, PyDict>>) -> PyResult<Operation> {
        let options = Keywords(options).receive()?;
        Ok(Operation::new(self.0.receive(options)))
    }

    /// Returns deliveries whose receive was cancelled to the consumer, at once: the next receive gets them.
    fn put_back(&self, deliveries: &Any<'_>) -> PyResult<()> {
        let Deliveries(deliveries) = argument("deliveries", deliveries)?;
        self.0.put_back(deliveries);
        Ok(())
    }

    fn ack(&self, delivery: &Any<'_>) -> PyResult<Operation> {
        let Delivery(delivery) = argument("delivery", delivery)?;
        Ok(Operation::new(self.0.ack(delivery)))
    }

    fn ack_all(&self, deliveries: &Any<'_>) -> PyResult<Operation> {
        let Deliveries(deliveries) = argument("deliveries", deliveries)?;
        Ok(Operation::new(self.0.ack_all(deliveries)))
    }

    fn change_invisible(&self, delivery: &Any<'_>, duration: &Any<'_>) -> PyResult<Operation> {
        let Delivery(delivery) = argument("delivery", delivery)?;
        let Seconds(duration) = argument("duration", duration)?;
        Ok(Operation::new(self.0.change_invisible(delivery, duration)))
    }

    fn close(&self, deadline: &Any<'_>) -> PyResult<Operation> {
        let deadline = close_deadline(deadline)?;
        Ok(Operation::new(self.0.close(deadline)))
    }
}
