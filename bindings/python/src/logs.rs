//! Log records of the clients, for `logging`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rocketmq_thin_bridge::{self as bridge, LogLevel};

use crate::error::py_error;
use crate::operation::Operation;

/// The log records of the clients of this process.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Logs(bridge::Logs);

#[pymethods]
impl Logs {
    #[new]
    fn new(py: Python<'_>, level: &str) -> PyResult<Self> {
        let level = LogLevel::from_name(level).ok_or_else(|| {
            PyValueError::new_err(format!("level must be error, warn, info or debug, got {level:?}"))
        })?;
        bridge::Logs::new(level).map(Self).map_err(|error| py_error(py, &error))
    }

    /// Waits until there are records: `True`; `None` once the logs are closed.
    fn wait(&self) -> Operation {
        Operation::new(self.0.wait())
    }

    /// Takes the records that have arrived: the level and the text of each, oldest first.
    fn take(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, String)>> {
        let records = self.0.take().map_err(|error| py_error(py, &error))?;
        Ok(records.into_iter().map(|record| (record.level.name(), record.to_string())).collect())
    }

    fn close(&self) {
        self.0.close();
    }
}
