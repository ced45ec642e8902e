//! Clients, and the streams of their status changes. Methods create an [`Operation`], or return a value at
//! once.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rocketmq_thin_bridge as bridge;

use crate::credentials::CredentialRequests;
use crate::error::py_error;
use crate::input::{Subscriptions, argument};
use crate::operation::Operation;
use crate::options::{Keywords, close_deadline};
use crate::output::{health, metrics};

type Any<'py> = Bound<'py, PyAny>;

#[pyfunction]
#[pyo3(signature = (endpoints, requests, **options))]
pub(crate) fn connect(
    py: Python<'_>,
    endpoints: &Any<'_>,
    requests: Option<&Bound<'_, CredentialRequests>>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<Operation> {
    let options = Keywords(options).client(argument("endpoints", endpoints)?)?;
    let options = match requests {
        Some(requests) => requests.get().0.provide_for(options),
        None => Ok(options),
    };
    Ok(Operation::new(options.and_then(bridge::connect).map_err(|error| py_error(py, &error))?))
}

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Client(pub(crate) bridge::Client);

#[pymethods]
impl Client {
    #[pyo3(signature = (**options))]
    fn producer(&self, options: Option<&Bound<'_, PyDict>>) -> PyResult<Operation> {
        let options = Keywords(options).producer()?;
        Ok(Operation::new(self.0.producer(options)))
    }

    #[pyo3(signature = (group, subscriptions, **options))]
    fn simple_consumer(
        &self,
        group: &Any<'_>,
        subscriptions: &Any<'_>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let group = argument("group", group)?;
        let subscriptions: Subscriptions = argument("subscriptions", subscriptions)?;
        let options = Keywords(options).simple_consumer(group, subscriptions)?;
        Ok(Operation::new(self.0.simple_consumer(options)))
    }

    #[pyo3(signature = (group, subscriptions, **options))]
    fn push_consumer(
        &self,
        group: &Any<'_>,
        subscriptions: &Any<'_>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let group = argument("group", group)?;
        let subscriptions: Subscriptions = argument("subscriptions", subscriptions)?;
        let options = Keywords(options).push_consumer(group, subscriptions)?;
        Ok(Operation::new(self.0.push_consumer(options)))
    }

    fn health<'py>(&self, py: Python<'py>) -> PyResult<Any<'py>> {
        health(py, self.0.health().map_err(|error| py_error(py, &error))?)
    }

    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Any<'py>> {
        metrics(py, self.0.metrics().map_err(|error| py_error(py, &error))?)
    }

    fn status_changes(&self, py: Python<'_>) -> PyResult<StatusChanges> {
        self.0.status_changes().map(StatusChanges).map_err(|error| py_error(py, &error))
    }

    fn close(&self, deadline: &Any<'_>) -> PyResult<Operation> {
        let deadline = close_deadline(deadline)?;
        Ok(Operation::new(self.0.close(deadline)))
    }
}

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct StatusChanges(bridge::StatusChanges);

#[pymethods]
impl StatusChanges {
    fn next(&self) -> Operation {
        Operation::new(self.0.next())
    }
}
