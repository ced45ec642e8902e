//! The conversion of outcomes to Python.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use rocketmq_thin_bridge::{Error, Outcome};

use crate::client::Client;
use crate::consumer::SimpleConsumer;
use crate::error::{exception, py_error};
use crate::output::{Delivery, close_report, health, receipt};
use crate::producer::Producer;
use crate::push::{PushConsumer, Task};
use crate::transaction::OrphanCheck;

/// Returns the Python value of an outcome, or the exception of a failure.
pub(crate) fn to_python(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyAny>> {
    Ok(match outcome {
        Outcome::Client(client) => Client(client).into_bound_py_any(py)?,
        Outcome::Producer(producer) => Producer(producer).into_bound_py_any(py)?,
        Outcome::SimpleConsumer(consumer) => SimpleConsumer(consumer).into_bound_py_any(py)?,
        Outcome::Receipt(stored) => receipt(py, stored)?,
        Outcome::Receipts(results) => result_list(py, results, receipt)?,
        Outcome::Deliveries(deliveries) => {
            let deliveries: Vec<_> = deliveries.take().into_iter().map(Delivery).collect();
            deliveries.into_bound_py_any(py)?
        }
        Outcome::PushConsumer(consumer) => PushConsumer(consumer).into_bound_py_any(py)?,
        Outcome::Tasks(tasks) => {
            let tasks = tasks.take().into_iter().filter_map(|task| Task::new(py, task).transpose());
            tasks.collect::<PyResult<Vec<_>>>()?.into_bound_py_any(py)?
        }
        Outcome::OrphanCheck(check) => OrphanCheck(*check).into_bound_py_any(py)?,
        Outcome::Health(status) => health(py, status)?,
        Outcome::Text(text) => text.into_bound_py_any(py)?,
        Outcome::Done => true.into_bound_py_any(py)?,
        Outcome::End => py.None().into_bound(py),
        Outcome::Settled(results) => result_list(py, results, |py, ()| Ok(py.None().into_bound(py)))?,
        Outcome::Closed(report) => close_report(py, report)?,
        Outcome::Failed(error) => return Err(py_error(py, &error)),
    })
}

/// Returns a list with a value or an exception for each result.
fn result_list<'py, T>(
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
