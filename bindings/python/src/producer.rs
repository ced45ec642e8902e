//! Producers. Methods create an [`Operation`], or return a value at once.

use pyo3::prelude::*;
use rocketmq_thin_bridge as bridge;

use crate::error::py_error;
use crate::input::{Message, Messages, Receipt, argument};
use crate::operation::Operation;
use crate::options::close_deadline;
use crate::transaction::{OrphanChecks, Transaction};

type Any<'py> = Bound<'py, PyAny>;

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

    fn recall(&self, receipt: &Any<'_>) -> PyResult<Operation> {
        let Receipt { topic, recall_handle } = argument("receipt", receipt)?;
        // The client refuses an empty handle.
        let handle = recall_handle.unwrap_or_default();
        Ok(Operation::new(self.0.recall(topic, handle)))
    }

    fn recall_by_handle(&self, topic: &Any<'_>, handle: &Any<'_>) -> PyResult<Operation> {
        Ok(Operation::new(self.0.recall(argument("topic", topic)?, argument("handle", handle)?)))
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Transaction> {
        self.0.begin().map(Transaction).map_err(|error| py_error(py, &error))
    }

    fn orphan_checks(&self, py: Python<'_>) -> PyResult<OrphanChecks> {
        self.0.orphan_checks().map(OrphanChecks).map_err(|error| py_error(py, &error))
    }

    fn close(&self, deadline: &Any<'_>) -> PyResult<Operation> {
        let deadline = close_deadline(deadline)?;
        Ok(Operation::new(self.0.close(deadline)))
    }
}
