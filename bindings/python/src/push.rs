//! Push consumers and their tasks.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rocketmq_thin_bridge as bridge;

use crate::consumer::LiteRevocations;
use crate::error::py_error;
use crate::input::{Seconds, argument};
use crate::operation::Operation;
use crate::options::close_deadline;
use crate::output::{Delivery, subscriptions};

type Any<'py> = Bound<'py, PyAny>;

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct PushConsumer(pub(crate) bridge::PushConsumer);

#[pymethods]
impl PushConsumer {
    fn next_tasks(&self, max: usize) -> Operation {
        Operation::new(self.0.next_tasks(max))
    }

    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.0.pause().map_err(|error| py_error(py, &error))
    }

    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.0.resume().map_err(|error| py_error(py, &error))
    }

    fn is_paused(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.is_paused().map_err(|error| py_error(py, &error))
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

    /// Whether a close has begun.
    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Closes the consumer in the background.
    fn abandon(&self) {
        self.0.abandon();
    }

    fn close(&self, deadline: &Any<'_>) -> PyResult<Operation> {
        Ok(Operation::new(self.0.close(close_deadline(deadline)?)))
    }
}

/// A message for the handler. Dropping it without a result counts as a failure.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Task {
    delivery: Py<Delivery>,
    task: Mutex<Option<bridge::Task>>,
}

impl Task {
    /// Returns `None` in a forked child, which must not handle the message.
    pub(crate) fn new(py: Python<'_>, task: bridge::Task) -> PyResult<Option<Self>> {
        let Some(delivery) = task.get().map(|task| Delivery(task.delivery.clone())) else { return Ok(None) };
        Ok(Some(Self { delivery: Py::new(py, delivery)?, task: Mutex::new(Some(task)) }))
    }

    fn take(&self) -> Option<bridge::Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn complete(&self, result: bridge::ConsumeResult) {
        if let Some(task) = self.take() {
            task.complete(result);
        }
    }
}

#[pymethods]
impl Task {
    #[getter]
    fn delivery(&self, py: Python<'_>) -> Py<Delivery> {
        self.delivery.clone_ref(py)
    }

    /// Waits until the message is settled. To be called before the task is completed.
    fn settled(&self) -> PyResult<Operation> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let completed = || PyRuntimeError::new_err("this task is already completed");
        Ok(Operation::new(task.as_mut().ok_or_else(completed)?.settled()))
    }

    fn ack(&self) {
        self.complete(bridge::ConsumeResult::Ack);
    }

    fn retry(&self, after: &Any<'_>) -> PyResult<()> {
        let after: Option<Seconds> = argument("after", after)?;
        self.complete(match after {
            Some(Seconds(after)) => bridge::ConsumeResult::RetryAfter(after),
            None => bridge::ConsumeResult::Retry,
        });
        Ok(())
    }

    fn dead_letter(&self) {
        self.complete(bridge::ConsumeResult::DeadLetter);
    }

    /// Returns the message to its consumer, because the handler has not seen it.
    fn put_back(&self) {
        if let Some(task) = self.take() {
            task.put_back();
        }
    }
}
