//! Simple consumers and their streams. Methods create an [`Operation`], or return a value at once.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rocketmq_thin_bridge as bridge;

use crate::error::py_error;
use crate::input::{Deliveries, Seconds, argument};
use crate::operation::Operation;
use crate::options::{Keywords, close_deadline};
use crate::output::{Delivery, subscriptions};

type Any<'py> = Bound<'py, PyAny>;

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct SimpleConsumer(pub(crate) bridge::SimpleConsumer);

#[pymethods]
impl SimpleConsumer {
    #[pyo3(signature = (**options))]
    fn receive(&self, options: Option<&Bound<'_, PyDict>>) -> PyResult<Operation> {
        let options = Keywords(options).receive()?;
        Ok(Operation::new(self.0.receive(options)))
    }

    /// Returns deliveries to the consumer, because their receive was cancelled. The next receive gets them.
    /// Never blocks.
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

    fn nack(&self, delivery: &Any<'_>, after: &Any<'_>) -> PyResult<Operation> {
        let Delivery(delivery) = argument("delivery", delivery)?;
        let Seconds(after) = argument("after", after)?;
        Ok(Operation::new(self.0.nack(delivery, after)))
    }

    fn dead_letter(&self, delivery: &Any<'_>) -> PyResult<Operation> {
        let Delivery(delivery) = argument("delivery", delivery)?;
        Ok(Operation::new(self.0.dead_letter(delivery)))
    }

    fn keep_lease(&self, py: Python<'_>, delivery: &Any<'_>, max: &Any<'_>) -> PyResult<()> {
        let Delivery(delivery) = argument("delivery", delivery)?;
        let Seconds(max) = argument("max", max)?;
        self.0.keep_lease(&delivery, max).map_err(|error| py_error(py, &error))
    }

    fn subscribe(&self, topic: &Any<'_>, filter: &Any<'_>) -> PyResult<Operation> {
        let filter = argument("filter", filter)?;
        let subscription = bridge::Subscription::new(argument::<String>("topic", topic)?, filter);
        Ok(Operation::new(self.0.subscribe(subscription)))
    }

    fn unsubscribe(&self, topic: &Any<'_>) -> PyResult<Operation> {
        Ok(Operation::new(self.0.unsubscribe(argument("topic", topic)?)))
    }

    fn subscriptions<'py>(&self, py: Python<'py>) -> PyResult<Any<'py>> {
        subscriptions(py, self.0.subscriptions().map_err(|error| py_error(py, &error))?)
    }

    #[pyo3(signature = (**options))]
    fn messages(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Messages> {
        let options = Keywords(options).stream()?;
        self.0.messages(options).map(Messages).map_err(|error| py_error(py, &error))
    }

    fn subscribe_lite(&self, lite_topic: &Any<'_>, start: &Any<'_>) -> PyResult<Operation> {
        let (lite_topic, start) = (argument("lite_topic", lite_topic)?, argument("start", start)?);
        Ok(Operation::new(self.0.subscribe_lite(lite_topic, start)))
    }

    fn unsubscribe_lite(&self, lite_topic: &Any<'_>) -> PyResult<Operation> {
        Ok(Operation::new(self.0.unsubscribe_lite(argument("lite_topic", lite_topic)?)))
    }

    fn lite_topics(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.0.lite_topics().map_err(|error| py_error(py, &error))
    }

    fn lite_revocations(&self, py: Python<'_>) -> PyResult<LiteRevocations> {
        self.0.lite_revocations().map(LiteRevocations).map_err(|error| py_error(py, &error))
    }

    fn close(&self, deadline: &Any<'_>) -> PyResult<Operation> {
        let deadline = close_deadline(deadline)?;
        Ok(Operation::new(self.0.close(deadline)))
    }
}

/// A stream of deliveries.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Messages(bridge::Messages);

#[pymethods]
impl Messages {
    fn next_batch(&self, max: usize) -> Operation {
        Operation::new(self.0.next_batch(max))
    }

    /// Returns deliveries to the stream, because the call that took them was cancelled. The stream hands them
    /// out next. Never blocks.
    fn put_back(&self, deliveries: &Any<'_>) -> PyResult<()> {
        let Deliveries(deliveries) = argument("deliveries", deliveries)?;
        self.0.put_back(deliveries);
        Ok(())
    }

    fn close(&self) -> Operation {
        Operation::new(self.0.close(bridge::CLOSE_DEADLINE))
    }
}

/// A stream of the lite topics whose subscriptions the server ends.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct LiteRevocations(pub(crate) bridge::LiteRevocations);

#[pymethods]
impl LiteRevocations {
    fn next(&self) -> Operation {
        Operation::new(self.0.next())
    }
}
