//! Python objects for the values of the core.

use std::time::SystemTime;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};
use rocketmq_thin_bridge as bridge;

use crate::error::exception;

/// A received message. Acknowledge it with the consumer that received it.
#[pyclass(frozen, module = "rocketmq_thin")]
pub(crate) struct Delivery(pub(crate) bridge::Delivery);

#[pymethods]
impl Delivery {
    /// The message id, which is also in the sender's receipt.
    #[getter]
    fn message_id(&self) -> &str {
        &self.0.message_id
    }

    /// The topic.
    #[getter]
    fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The decompressed content. If `corrupted`, the bytes as they were received.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.body)
    }

    /// The tag, or `None`.
    #[getter]
    fn tag(&self) -> Option<&str> {
        self.0.tag.as_deref()
    }

    /// The keys.
    #[getter]
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.keys)
    }

    /// The application's own properties.
    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let properties = PyDict::new(py);
        for (name, value) in &self.0.properties {
            properties.set_item(name, value)?;
        }
        Ok(properties)
    }

    /// The message group of a FIFO message, within which messages are delivered in order, or `None`.
    #[getter]
    fn message_group(&self) -> Option<&str> {
        self.0.message_group.as_deref()
    }

    /// When a delayed message was due, in UTC. `None` for other messages.
    #[getter]
    fn deliver_at(&self) -> Option<SystemTime> {
        datetime(self.0.deliver_at)
    }

    /// The priority. Messages with a higher priority are delivered first. `None` for messages of another
    /// type.
    #[getter]
    fn priority(&self) -> Option<i32> {
        self.0.priority
    }

    /// The lite topic, or `None`.
    #[getter]
    fn lite_topic(&self) -> Option<&str> {
        self.0.lite_topic.as_deref()
    }

    /// For a dead letter: topic and id of the original message. `None` for other messages.
    #[getter]
    fn dead_letter_origin(&self) -> Option<(&str, &str)> {
        let origin = self.0.dead_letter_origin.as_ref()?;
        Some((&origin.topic, &origin.message_id))
    }

    /// The W3C trace context of the sender, or `None`.
    #[getter]
    fn trace_parent(&self) -> Option<&str> {
        self.0.trace_parent.as_deref()
    }

    /// Whether the lease ended before the delivery was settled. Then the message is delivered again.
    #[getter]
    fn is_lease_lost(&self) -> bool {
        self.0.is_lease_lost()
    }

    /// When the producer created the message, in UTC, or `None` if the server did not return it.
    #[getter]
    fn born_at(&self) -> Option<SystemTime> {
        datetime(self.0.born_at)
    }

    /// The host that sent the message.
    #[getter]
    fn born_host(&self) -> &str {
        &self.0.born_host
    }

    /// When the server stored the message, in UTC, or `None` if the server did not return it.
    #[getter]
    fn stored_at(&self) -> Option<SystemTime> {
        datetime(self.0.stored_at)
    }

    /// How many times the message has been delivered to this group, including this time. Starts at 1.
    #[getter]
    fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Whether the body does not match its digest, could not be decompressed, or is too large.
    #[getter]
    fn corrupted(&self) -> bool {
        self.0.corrupted
    }

    /// The id of the queue.
    #[getter]
    fn queue_id(&self) -> i32 {
        self.0.queue_id
    }

    /// The offset in the queue.
    #[getter]
    fn queue_offset(&self) -> i64 {
        self.0.queue_offset
    }

    fn __repr__(&self) -> String {
        let bridge::Delivery { message_id, topic, attempt, body, .. } = &self.0;
        format!("<Delivery {message_id} topic={topic} attempt={attempt} body={} bytes>", body.len())
    }
}

/// Returns `None` for times before 1970: a server may send them, and pyo3 panics when it converts them.
fn datetime(time: Option<SystemTime>) -> Option<SystemTime> {
    time.filter(|time| *time >= SystemTime::UNIX_EPOCH)
}

/// Creates a `rocketmq_thin.Message`.
pub(crate) fn message<'py>(py: Python<'py>, message: &bridge::Message) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let properties = PyDict::new(py);
    for (name, value) in &message.properties {
        properties.set_item(name, value)?;
    }
    CLASS.import(py, "rocketmq_thin.values", "Message")?.call1((
        &message.topic,
        PyBytes::new(py, &message.body),
        &message.tag,
        PyTuple::new(py, &message.keys)?,
        properties,
    ))
}

/// Creates a `rocketmq_thin.Health`.
pub(crate) fn health(py: Python<'_>, health: bridge::Health) -> PyResult<Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static ENDPOINT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let error = |error: Option<bridge::Error>| error.map(|error| exception(py, &error)).transpose();
    let endpoint = |health: bridge::EndpointHealth| {
        ENDPOINT.import(py, "rocketmq_thin.values", "EndpointHealth")?.call1((
            health.endpoint,
            health.status.name(),
            error(health.error)?,
            health.connections,
        ))
    };
    let endpoints = health.endpoints.into_iter().map(endpoint).collect::<PyResult<Vec<_>>>()?;
    let endpoints = PyTuple::new(py, endpoints)?;
    CLASS.import(py, "rocketmq_thin.values", "Health")?.call1((
        health.status.name(),
        error(health.error)?,
        health.connections,
        endpoints,
    ))
}

/// Creates a `dict` of topics and their filters. Filters of a kind that this crate does not know are left out.
pub(crate) fn subscriptions(
    py: Python<'_>,
    subscriptions: Vec<bridge::Subscription>,
) -> PyResult<Bound<'_, PyAny>> {
    static TAGS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static SQL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let filters = PyDict::new(py);
    for subscription in subscriptions {
        let filter = match subscription.filter {
            bridge::Filter::All => py.None().into_bound(py),
            bridge::Filter::Tags(tags) => {
                TAGS.import(py, "rocketmq_thin.values", "Tags")?.call1(PyTuple::new(py, tags)?)?
            }
            bridge::Filter::Sql(sql) => SQL.import(py, "rocketmq_thin.values", "Sql")?.call1((sql,))?,
            _ => continue,
        };
        filters.set_item(subscription.topic, filter)?;
    }
    Ok(filters.into_any())
}

/// Creates a list of `rocketmq_thin.Metric`.
pub(crate) fn metrics(py: Python<'_>, metrics: bridge::Metrics) -> PyResult<Bound<'_, PyAny>> {
    static METRIC: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static HISTOGRAM: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let value = |value| match value {
        bridge::MetricValue::Counter(count) | bridge::MetricValue::Gauge(count) => {
            count.into_bound_py_any(py)
        }
        bridge::MetricValue::Histogram(histogram) => {
            let class = HISTOGRAM.import(py, "rocketmq_thin.values", "Histogram")?;
            class.call1((PyTuple::new(py, histogram.bounds)?, histogram.counts, histogram.sum))
        }
        _ => Ok(py.None().into_bound(py)),
    };
    let point = |point: bridge::MetricPoint| -> PyResult<_> {
        let labels = PyDict::new(py);
        for (name, value) in point.labels {
            labels.set_item(name, value)?;
        }
        (labels, value(point.value)?).into_bound_py_any(py)
    };
    let metric = |metric: bridge::Metric| -> PyResult<_> {
        let points = metric.points.into_iter().map(point).collect::<PyResult<Vec<_>>>()?;
        let class = METRIC.import(py, "rocketmq_thin.values", "Metric")?;
        class.call1((metric.name, metric.description, metric.unit, points))
    };
    metrics.metrics.into_iter().map(metric).collect::<PyResult<Vec<_>>>()?.into_bound_py_any(py)
}

/// Creates a `rocketmq_thin.Receipt`.
pub(crate) fn receipt(py: Python<'_>, receipt: bridge::Receipt) -> PyResult<Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "rocketmq_thin.values", "Receipt")?.call1((
        receipt.message_id,
        receipt.topic,
        receipt.queue_offset,
        receipt.transaction_id,
        receipt.recall_handle,
    ))
}

/// Creates a `rocketmq_thin.CloseReport`.
pub(crate) fn close_report(py: Python<'_>, report: bridge::CloseReport) -> PyResult<Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "rocketmq_thin.values", "CloseReport")?.call1((
        report.flushed,
        report.abandoned,
        report.handled,
        report.given_back,
        report.elapsed,
    ))
}
