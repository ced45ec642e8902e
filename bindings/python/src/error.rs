//! The exceptions for errors of the core.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use rocketmq_thin_bridge::{Error, causes};

/// Creates the exception for an error of the core. Its class in `rocketmq_thin.errors` has the name of the
/// kind.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let errors =
        ERRORS.get_or_try_init(py, || py.import("rocketmq_thin.errors").map(Bound::unbind))?.bind(py);
    let class = errors.getattr(error.kind().name())?;
    let exception = class.call1((error.to_string(),))?;
    exception.setattr("message", error.message())?;
    exception.setattr("code", error.code())?;
    exception.setattr("retryable", error.retryable())?;
    exception.setattr("maybe_delivered", error.maybe_delivered())?;
    exception.setattr("operation", error.operation())?;
    exception.setattr("endpoint", error.endpoint())?;
    exception.setattr("request_id", error.request_id())?;
    let mut effect = exception.clone();
    for cause in causes(error) {
        let cause = PyException::new_err(cause).into_value(py).into_bound(py).into_any();
        effect.setattr("__cause__", &cause)?;
        effect = cause;
    }
    Ok(exception)
}

/// Creates the exception for an error of the core, for raising it.
pub(crate) fn py_error(py: Python<'_>, error: &Error) -> PyErr {
    match exception(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}
