//! What Python pulls from its clients: requests for credentials, and records of the log.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rocketmq_thin_bridge::{self as bridge, LogLevel};

use crate::error::raised;
use crate::input::argument;
use crate::operation::Operation;

type Any<'py> = Bound<'py, PyAny>;

/// The requests of one client for credentials.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct CredentialRequests(pub(crate) bridge::CredentialRequests);

#[pymethods]
impl CredentialRequests {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        bridge::CredentialRequests::new().map(Self).map_err(|error| raised(py, &error))
    }

    /// True when credentials are needed, `None` when they are needed no more.
    fn next(&self) -> Operation {
        Operation::new(self.0.next())
    }

    fn provide(&self, py: Python<'_>, credentials: &Any<'_>) -> PyResult<()> {
        let credentials = argument("credentials", credentials)?;
        self.0.answer(Ok(credentials)).map_err(|error| raised(py, &error))
    }

    /// Reports why there are no credentials.
    fn refuse(&self, py: Python<'_>, reason: String) -> PyResult<()> {
        self.0.answer(Err(reason)).map_err(|error| raised(py, &error))
    }
}

/// What the clients of this process report.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Logs(bridge::Logs);

#[pymethods]
impl Logs {
    #[new]
    fn new(py: Python<'_>, level: &str) -> PyResult<Self> {
        let level = LogLevel::from_name(level)
            .ok_or_else(|| PyValueError::new_err(format!("{level} is not a level")))?;
        bridge::Logs::new(level).map(Self).map_err(|error| raised(py, &error))
    }

    /// Completes when there are records; `None` once it is closed.
    fn arrived(&self) -> Operation {
        Operation::new(self.0.wait())
    }

    /// The level and the text of each record that has arrived.
    fn take(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, String)>> {
        let records = self.0.take().map_err(|error| raised(py, &error))?;
        Ok(records.into_iter().map(|record| (record.level.name(), record.to_string())).collect())
    }

    fn close(&self) {
        self.0.close();
    }
}
