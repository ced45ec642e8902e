//! Operations that have not been started yet.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use rocketmq_thin_bridge as bridge;

/// A call of the client with its arguments. It can be started once.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Operation(Mutex<Option<bridge::Operation>>);

#[pymethods]
impl Operation {
    /// Allows `Operation[T]`, which the package's annotations contain, to be evaluated.
    #[classmethod]
    fn __class_getitem__(cls: &Bound<'_, PyType>, _value: &Bound<'_, PyAny>) -> Py<PyType> {
        cls.clone().unbind()
    }
}

impl Operation {
    pub(crate) fn new(operation: bridge::Operation) -> Self {
        Self(Mutex::new(Some(operation)))
    }

    pub(crate) fn take(&self) -> PyResult<bridge::Operation> {
        let operation = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        operation.ok_or_else(|| PyRuntimeError::new_err("this operation has already been started"))
    }
}
