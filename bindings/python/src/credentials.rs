//! Credentials that a Python function provides.

use pyo3::prelude::*;
use rocketmq_thin_bridge as bridge;

use crate::error::py_error;
use crate::input::argument;
use crate::operation::Operation;

type Any<'py> = Bound<'py, PyAny>;

/// The credential requests of one client. Python fetches and answers them.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct CredentialRequests(pub(crate) bridge::CredentialRequests);

#[pymethods]
impl CredentialRequests {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        bridge::CredentialRequests::new().map(Self).map_err(|error| py_error(py, &error))
    }

    /// Waits until the client needs credentials: `True`; `None` once the client is closed, or has failed to
    /// connect.
    fn next(&self) -> Operation {
        Operation::new(self.0.next())
    }

    fn provide(&self, py: Python<'_>, credentials: &Any<'_>) -> PyResult<()> {
        let credentials = argument("credentials", credentials)?;
        self.0.answer(Ok(credentials)).map_err(|error| py_error(py, &error))
    }

    /// Answers with an error message instead of credentials.
    fn refuse(&self, py: Python<'_>, message: String) -> PyResult<()> {
        self.0.answer(Err(message)).map_err(|error| py_error(py, &error))
    }

    /// Answers this request and all later ones with an error message, because the provider has ended.
    fn refuse_all(&self, message: String) {
        self.0.refuse_all(message);
    }
}
