//! Operations that the calling thread waits for.

use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use rocketmq_thin_bridge as bridge;

use crate::error::py_error;
use crate::exit::is_daemon_at_exit;
use crate::operation::Operation;
use crate::outcome::to_python;

/// How often a blocked call checks for signals such as Ctrl-C.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs an operation while the calling thread waits and other threads run. A signal handler that raises ends
/// the wait and cancels the operation.
#[pyfunction]
pub(crate) fn run<'py>(py: Python<'py>, operation: &Operation) -> PyResult<Bound<'py, PyAny>> {
    let mut running = Some(bridge::start(operation.take()?).map_err(|error| py_error(py, &error))?);
    let outcome = loop {
        let waiting = &mut running;
        let outcome = py.detach(move || {
            let outcome = waiting.as_mut().and_then(|running| running.wait(SIGNAL_CHECK_INTERVAL));
            if is_daemon_at_exit() {
                // Puts back messages that this thread will not take.
                drop((outcome, waiting.take()));
                loop {
                    thread::park();
                }
            }
            outcome
        });
        match outcome {
            // An outcome that arrives with a signal is dropped, which puts back its messages.
            Some(outcome) => {
                py.check_signals()?;
                break outcome;
            }
            None => py.check_signals()?,
        }
    };
    to_python(py, outcome)
}
