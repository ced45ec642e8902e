use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rocketmq_thin_bridge::{self as bridge, Error, Outcome};

use crate::error::{exception, raised};
use crate::handle::{Client, Producer, SimpleConsumer};
use crate::output::{Delivery, close_report, receipt};

/// How long a blocked main thread lets Ctrl-C wait.
const SIGNAL_CHECK: Duration = Duration::from_millis(100);

/// Something to do, once.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Operation(Mutex<Option<bridge::Operation>>);

impl Operation {
    pub(crate) fn new(operation: bridge::Operation) -> Self {
        Self(Mutex::new(Some(operation)))
    }

    pub(crate) fn take(&self) -> PyResult<bridge::Operation> {
        let operation = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        operation.ok_or_else(|| PyRuntimeError::new_err("this operation was started before"))
    }
}

/// Carries out an operation while the calling thread waits. Other threads run meanwhile, and a signal's
/// handler may end the wait by raising, which cancels the operation.
#[pyfunction]
pub(crate) fn run<'py>(py: Python<'py>, operation: &Operation) -> PyResult<Bound<'py, PyAny>> {
    let mut call = bridge::start(operation.take()?).map_err(|error| raised(py, &error))?;
    let outcome = loop {
        let waiting = &mut call;
        match py.detach(move || waiting.wait(SIGNAL_CHECK)) {
            Some(outcome) => break outcome,
            None => py.check_signals()?,
        }
    };
    value(py, outcome)
}

/// Stops the thread behind all clients of this process. What still runs fails as `Closed`.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>, deadline: crate::input::Seconds) {
    py.detach(|| bridge::shutdown(deadline.0));
}

/// The Python value of an outcome, or the exception.
pub(crate) fn value(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyAny>> {
    Ok(match outcome {
        Outcome::Client(client) => Client(client).into_bound_py_any(py)?,
        Outcome::Producer(producer) => Producer(producer).into_bound_py_any(py)?,
        Outcome::SimpleConsumer(consumer) => SimpleConsumer(consumer).into_bound_py_any(py)?,
        Outcome::Receipt(stored) => receipt(py, stored)?,
        Outcome::Receipts(results) => each(py, results, receipt)?,
        Outcome::Deliveries(deliveries) => {
            let deliveries: Vec<_> = deliveries.into_iter().map(Delivery).collect();
            deliveries.into_bound_py_any(py)?
        }
        Outcome::Done => py.None().into_bound(py),
        Outcome::Settled(results) => each(py, results, |py, ()| Ok(py.None().into_bound(py)))?,
        Outcome::Closed(report) => close_report(py, report)?,
        Outcome::Failed(error) => return Err(raised(py, &error)),
    })
}

/// A list with a value or an exception for each result.
fn each<'py, T>(
    py: Python<'py>,
    results: Vec<Result<T, Error>>,
    convert: impl Fn(Python<'py>, T) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let values = results.into_iter().map(|result| match result {
        Ok(value) => convert(py, value),
        Err(error) => exception(py, &error),
    });
    values.collect::<PyResult<Vec<_>>>()?.into_bound_py_any(py)
}
