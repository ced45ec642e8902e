use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use rocketmq_thin_bridge::Queue;

use crate::error::raised;
use crate::operation::{Operation, value};
use crate::signal::Signal;

/// The operations of one event loop: submitted by id, resolved in batches. The loop watches
/// [`fileno`](Self::fileno) and calls [`drain`](Self::drain) when it is readable.
#[pyclass(frozen, module = "rocketmq_thin._native")]
pub(crate) struct Completions {
    queue: Arc<Queue>,
    signal: Arc<Signal>,
}

/// The id of an operation, whether it failed, and its value or exception.
type Completion<'py> = (u64, bool, Bound<'py, PyAny>);

#[pymethods]
impl Completions {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let signal = Arc::new(Signal::new()?);
        let wake = Arc::clone(&signal);
        let queue = Queue::new(move || wake.set()).map_err(|error| raised(py, &error))?;
        Ok(Self { queue, signal })
    }

    fn fileno(&self) -> RawFd {
        self.signal.as_raw_fd()
    }

    /// Whether the process was forked since this was made: it takes no operations then.
    #[getter]
    fn forked(&self) -> bool {
        self.queue.is_forked()
    }

    fn submit(&self, py: Python<'_>, operation: &Operation) -> PyResult<u64> {
        self.queue.submit(operation.take()?).map_err(|error| raised(py, &error))
    }

    fn cancel(&self, id: u64) {
        self.queue.cancel(id);
    }

    /// Up to `max` completions. If there are more, the descriptor stays readable.
    fn drain<'py>(&self, py: Python<'py>, max: usize) -> Vec<Completion<'py>> {
        // The descriptor of a forked child is its parent's, too: the parent's wake-up is not ours to take.
        if self.queue.is_forked() {
            return Vec::new();
        }
        self.signal.clear();
        let completion = |(id, outcome)| match value(py, outcome) {
            Ok(value) => (id, false, value),
            Err(error) => (id, true, error.into_value(py).into_bound(py).into_any()),
        };
        self.queue.drain(max).into_iter().map(completion).collect()
    }
}
