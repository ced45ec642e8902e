//! The end of the interpreter.

use std::sync::OnceLock;
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use rocketmq_thin_bridge as bridge;

use crate::input::{Seconds, argument};

/// The thread that ends the interpreter.
static ENDING: OnceLock<ThreadId> = OnceLock::new();

/// Stops the thread behind all clients of this process. Calls of the calling thread fail with `Closed` from
/// here on; those of other threads never return.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>, deadline: &Bound<'_, PyAny>) -> PyResult<()> {
    let Seconds(deadline) = argument("deadline", deadline)?;
    ENDING.get_or_init(|| thread::current().id());
    py.detach(|| bridge::shutdown(deadline));
    Ok(())
}

/// Whether this is a daemon thread while the interpreter ends. It has no use for the error that its calls fail
/// with, and would only print it as an unhandled exception.
pub(crate) fn is_daemon_at_exit() -> bool {
    ENDING.get().is_some_and(|ending| *ending != thread::current().id())
}
