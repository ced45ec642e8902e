//! What Python code gets: values of the core, converted as they are looked at.

use std::time::SystemTime;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};
use rocketmq_thin_bridge as bridge;

/// A message as received: what was sent, where it stood, and the lease on it, which the consumer that received it
/// settles.
#[pyclass(frozen, module = "rocketmq_thin")]
pub(crate) struct Delivery(pub(crate) bridge::Delivery);

#[pymethods]
impl Delivery {
    #[getter]
    fn message_id(&self) -> &str {
        &self.0.message_id
    }

    #[getter]
    fn topic(&self) -> &str {
        &self.0.topic
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.body)
    }

    #[getter]
    fn tag(&self) -> Option<&str> {
        self.0.tag.as_deref()
    }

    #[getter]
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.keys)
    }

    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let properties = PyDict::new(py);
        for (name, value) in &self.0.properties {
            properties.set_item(name, value)?;
        }
        Ok(properties)
    }

    #[getter]
    fn message_group(&self) -> Option<&str> {
        self.0.message_group.as_deref()
    }

    #[getter]
    fn born_at(&self) -> Option<SystemTime> {
        datetime(self.0.born_at)
    }

    #[getter]
    fn born_host(&self) -> &str {
        &self.0.born_host
    }

    #[getter]
    fn stored_at(&self) -> Option<SystemTime> {
        datetime(self.0.stored_at)
    }

    #[getter]
    fn attempt(&self) -> u32 {
        self.0.attempt
    }

    #[getter]
    fn corrupted(&self) -> bool {
        self.0.corrupted
    }

    #[getter]
    fn queue_id(&self) -> i32 {
        self.0.queue_id
    }

    #[getter]
    fn queue_offset(&self) -> i64 {
        self.0.queue_offset
    }

    fn __repr__(&self) -> String {
        let bridge::Delivery { message_id, topic, attempt, body, .. } = &self.0;
        format!("<Delivery {message_id} topic={topic} attempt={attempt} body={} bytes>", body.len())
    }
}

/// pyo3 panics at times before 1970, which a server may well send.
fn datetime(time: Option<SystemTime>) -> Option<SystemTime> {
    time.filter(|time| *time >= SystemTime::UNIX_EPOCH)
}

/// A `rocketmq_thin.Receipt`.
pub(crate) fn receipt(py: Python<'_>, receipt: bridge::Receipt) -> PyResult<Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let bridge::Receipt { message_id, topic, queue_offset, transaction_id } = receipt;
    CLASS.import(py, "rocketmq_thin.values", "Receipt")?.call1((
        message_id,
        topic,
        queue_offset,
        transaction_id,
    ))
}

/// A `rocketmq_thin.CloseReport`.
pub(crate) fn close_report(py: Python<'_>, report: bridge::CloseReport) -> PyResult<Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let bridge::CloseReport { flushed, abandoned, elapsed } = report;
    CLASS.import(py, "rocketmq_thin.values", "CloseReport")?.call1((flushed, abandoned, elapsed))
}
