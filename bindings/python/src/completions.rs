//! The queue of one asyncio event loop: a file descriptor wakes the loop, which drains outcomes in batches.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rocketmq_thin_bridge::Queue;

use crate::error::py_error;
use crate::exit::is_daemon_at_exit;
use crate::operation::Operation;
use crate::outcome::to_python;
use crate::wake_fd::WakeFd;

/// The operations of one event loop. The loop watches [`fileno`](Self::fileno), and calls
/// [`drain`](Self::drain) when it is readable. `None` once it is closed.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Completions(Mutex<Option<OpenQueue>>);

#[derive(Clone)]
struct OpenQueue {
    queue: Arc<Queue>,
    wake_fd: Arc<WakeFd>,
}

/// The id of an operation, whether it failed, and its value or exception.
type Completion<'py> = (u64, bool, Bound<'py, PyAny>);

impl Completions {
    fn lock(&self) -> MutexGuard<'_, Option<OpenQueue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn require_open(queue: &Option<OpenQueue>) -> PyResult<&OpenQueue> {
    queue.as_ref().ok_or_else(|| PyRuntimeError::new_err("the event loop of this operation is closed"))
}

#[pymethods]
impl Completions {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let wake_fd = Arc::new(WakeFd::new()?);
        let wake = Arc::clone(&wake_fd);
        let queue = Queue::new(move || wake.set()).map_err(|error| py_error(py, &error))?;
        Ok(Self(Mutex::new(Some(OpenQueue { queue, wake_fd }))))
    }

    fn fileno(&self) -> PyResult<RawFd> {
        Ok(require_open(&self.lock())?.wake_fd.as_raw_fd())
    }

    /// Starts an operation and returns its id.
    fn submit(&self, py: Python<'_>, operation: &Operation) -> PyResult<u64> {
        let guard = self.lock();
        let OpenQueue { queue, .. } = require_open(&guard)?;
        queue.submit(operation.take()?).map_err(|error| py_error(py, &error))
    }

    /// Cancels an operation whose completion `drain` has not returned.
    fn cancel(&self, id: u64) {
        let open = self.lock().clone();
        if let Some(OpenQueue { queue, .. }) = open {
            queue.cancel(id);
        }
    }

    /// Takes up to `max` completions. If completions are left, the descriptor stays readable.
    fn drain<'py>(&self, py: Python<'py>, max: usize) -> PyResult<Vec<Completion<'py>>> {
        let OpenQueue { queue, wake_fd } = require_open(&self.lock())?.clone();
        // A forked child shares the descriptor with its parent, and must not clear the parent's wake-up.
        if queue.is_forked() {
            return Ok(Vec::new());
        }
        wake_fd.clear();
        let outcomes = queue.drain(max);
        if is_daemon_at_exit() {
            // Dropping the outcomes puts back messages that this thread will not take.
            return Ok(Vec::new());
        }
        let completion = |(id, outcome)| match to_python(py, outcome) {
            Ok(value) => (id, false, value),
            Err(error) => (id, true, error.into_value(py).into_bound(py).into_any()),
        };
        Ok(outcomes.into_iter().map(completion).collect())
    }

    /// Cancels all operations and closes the descriptor.
    fn close(&self) {
        let open = self.lock().take();
        drop(open);
    }
}
