//! The shutdown of the interpreter.

use std::sync::OnceLock;
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use rocketmq_thin_bridge as bridge;

use crate::input::{Seconds, argument};

/// The thread that shuts the interpreter down. Unset until the shutdown begins.
static SHUTDOWN_THREAD: OnceLock<ThreadId> = OnceLock::new();

/// Stops the runtime thread of this process. After that, calls of the calling thread fail with `Closed`, and
/// calls of other threads never return.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>, deadline: &Bound<'_, PyAny>) -> PyResult<()> {
    let Seconds(deadline) = argument("deadline", deadline)?;
    SHUTDOWN_THREAD.get_or_init(|| thread::current().id());
    py.detach(|| bridge::shutdown(deadline));
    Ok(())
}

/// Returns whether this is a daemon thread during the shutdown of the interpreter. Such a thread can't handle
/// the errors of its calls, and would print them as unhandled exceptions.
pub(crate) fn is_daemon_at_exit() -> bool {
    SHUTDOWN_THREAD.get().is_some_and(|shutdown_thread| *shutdown_thread != thread::current().id())
}
