//! Clients and producers. Their methods only make an [`Operation`].

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rocketmq_thin_bridge as bridge;

use crate::error::raised;
use crate::input::{Message, Messages, Receipt, Seconds, Subscriptions, argument};
use crate::operation::Operation;
use crate::options::Keywords;
use crate::output::{health, metrics};
use crate::pulled::CredentialRequests;
use crate::transaction::{OrphanChecks, Transaction};

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
    Ok(Operation::new(options.and_then(bridge::connect).map_err(|error| raised(py, &error))?))
}

pub(crate) fn close_deadline(deadline: &Any<'_>) -> PyResult<Duration> {
    let deadline: Option<Seconds> = argument("deadline", deadline)?;
    Ok(deadline.map_or(bridge::CLOSE_DEADLINE, |Seconds(deadline)| deadline))
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
        health(py, self.0.health().map_err(|error| raised(py, &error))?)
    }

    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Any<'py>> {
        metrics(py, self.0.metrics().map_err(|error| raised(py, &error))?)
    }

    fn status_changes(&self, py: Python<'_>) -> PyResult<StatusChanges> {
        self.0.status_changes().map(StatusChanges).map_err(|error| raised(py, &error))
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

#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Producer(pub(crate) bridge::Producer);

#[pymethods]
impl Producer {
    fn send(&self, message: &Any<'_>) -> PyResult<Operation> {
        let Message(message) = argument("message", message)?;
        Ok(Operation::new(self.0.send(message)))
    }

    fn send_all(&self, messages: &Any<'_>) -> PyResult<Operation> {
        let Messages(messages) = argument("messages", messages)?;
        Ok(Operation::new(self.0.send_all(messages)))
    }

    fn recall(&self, receipt: &Any<'_>) -> PyResult<Operation> {
        let Receipt { topic, recall_handle } = argument("receipt", receipt)?;
        // The core refuses an empty one.
        let handle = recall_handle.unwrap_or_default();
        Ok(Operation::new(self.0.recall(topic, handle)))
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Transaction> {
        self.0.begin().map(Transaction).map_err(|error| raised(py, &error))
    }

    fn orphan_checks(&self, py: Python<'_>) -> PyResult<OrphanChecks> {
        self.0.orphan_checks().map(OrphanChecks).map_err(|error| raised(py, &error))
    }

    fn close(&self, deadline: &Any<'_>) -> PyResult<Operation> {
        let deadline = close_deadline(deadline)?;
        Ok(Operation::new(self.0.close(deadline)))
    }
}
