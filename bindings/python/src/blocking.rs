use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use rocketmq_thin_bridge as bridge;

use crate::error::raised;
use crate::exit::is_daemon_at_exit;
use crate::operation::Operation;
use crate::outcome::value;

/// How often a blocked call checks for signals such as Ctrl-C.
const SIGNAL_CHECK: Duration = Duration::from_millis(100);

/// Runs an operation while the calling thread waits. Other threads run meanwhile. A signal handler that raises
/// ends the wait and cancels the operation.
#[pyfunction]
pub(crate) fn run<'py>(py: Python<'py>, operation: &Operation) -> PyResult<Bound<'py, PyAny>> {
    let mut call = bridge::start(operation.take()?).map_err(|error| raised(py, &error))?;
    let outcome = loop {
        let waiting = &mut call;
        let outcome = py.detach(move || {
            let outcome = waiting.wait(SIGNAL_CHECK);
            while is_daemon_at_exit() {
                thread::park();
            }
            outcome
        });
        match outcome {
            Some(outcome) => break outcome,
            None => py.check_signals()?,
        }
    };
    value(py, outcome)
}
