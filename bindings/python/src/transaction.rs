//! Transactions and orphan checks.

use pyo3::prelude::*;
use rocketmq_thin_bridge as bridge;

use crate::input::{Message, argument};
use crate::operation::Operation;
use crate::output::message;

type Any<'py> = Bound<'py, PyAny>;

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Transaction(pub(crate) bridge::Transaction);

#[pymethods]
impl Transaction {
    fn send(&self, message: &Any<'_>) -> PyResult<Operation> {
        let Message(message) = argument("message", message)?;
        Ok(Operation::new(self.0.send(message)))
    }

    fn commit(&self) -> Operation {
        Operation::new(self.0.commit())
    }

    fn rollback(&self) -> Operation {
        Operation::new(self.0.rollback())
    }
}

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct OrphanChecks(pub(crate) bridge::OrphanChecks);

#[pymethods]
impl OrphanChecks {
    fn next(&self) -> Operation {
        Operation::new(self.0.next())
    }
}

/// A request of the server for the decision on an orphaned transaction.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct OrphanCheck(pub(crate) bridge::OrphanCheck);

#[pymethods]
impl OrphanCheck {
    /// Returns the half message, the message id and the transaction id; `None` in a forked child.
    fn details<'py>(&self, py: Python<'py>) -> PyResult<Option<(Any<'py>, &str, &str)>> {
        let Some(check) = self.0.get() else { return Ok(None) };
        Ok(Some((message(py, &check.message)?, &check.message_id, &check.transaction_id)))
    }

    fn decide(&self, decision: &Any<'_>) -> PyResult<Operation> {
        Ok(Operation::new(self.0.decide(argument("decision", decision)?)))
    }
}
