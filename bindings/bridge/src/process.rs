//! The runtime of the process, and what happens to it in a forked child.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocketmq_thin::{Error, ErrorKind};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::TaskTracker;

use crate::logs::Listeners;

/// The runtime of one process.
///
/// A forked child inherits its parent's `Process` without the threads, and appends its own `Process` as
/// `child`. It never drops the parent's `Process`: the drop would wait for threads that do not exist.
pub(crate) struct Process {
    id: u32,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    /// Not shared with the parent process, in which another thread may have held the lock during the fork.
    log_listeners: Listeners,
    /// The closes of what the application has dropped.
    closes: TaskTracker,
    child: OnceLock<Box<Process>>,
}

static FIRST: OnceLock<Box<Process>> = OnceLock::new();

impl Process {
    /// Returns this process. The first call starts its runtime.
    pub(crate) fn current() -> Result<&'static Self, Error> {
        let slot = Self::slot();
        if let Some(process) = slot.get() {
            return Ok(process);
        }
        let process = Self::start()?;
        // If two threads start a runtime at the same time, one of the runtimes stops unused.
        Ok(slot.get_or_init(|| process))
    }

    /// Returns this process if its runtime was started.
    pub(crate) fn existing() -> Option<&'static Self> {
        Self::slot().get().map(Box::as_ref)
    }

    /// Returns the slot of this process, which is empty until the runtime is started.
    fn slot() -> &'static OnceLock<Box<Self>> {
        let mut slot = &FIRST;
        while let Some(process) = slot.get()
            && !process.is_current()
        {
            slot = &process.child;
        }
        slot
    }

    fn start() -> Result<Box<Self>, Error> {
        // One worker: on few cores a second one costs more in cross-core wake-ups than it gains.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("rocketmq-thin")
            .enable_all()
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, "start", format!("cannot start a thread: {error}"))
            })?;
        Ok(Box::new(Self {
            id: std::process::id(),
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            log_listeners: Listeners::default(),
            closes: TaskTracker::new(),
            child: OnceLock::new(),
        }))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Closes something in the background, because the application has dropped it. [`shutdown`] waits for it.
    pub(crate) fn close_in_background(&self, close: impl Future<Output = ()> + Send + 'static) {
        self.closes.spawn_on(close, &self.handle);
    }

    /// Returns the listeners for log records of this process.
    pub(crate) fn log_listeners(&self) -> &Listeners {
        &self.log_listeners
    }

    /// Returns false in a forked child of this process.
    pub(crate) fn is_current(&self) -> bool {
        self.id == std::process::id()
    }
}

/// Waits until what the application has dropped is closed, so that messages are given back. Then stops this process's
/// runtime and waits for its thread. Waits up to `deadline` in all. Operations that are running, or are submitted later,
/// fail with an error of kind `Closed`.
///
/// Call it from the language's exit hook, at the end of the process.
pub fn shutdown(deadline: Duration) {
    let start = Instant::now();
    let Some(process) = Process::existing() else { return };
    let Some(runtime) = process.runtime.lock().take() else { return };
    process.closes.close();
    // Closes that take longer end with the runtime.
    let _ = runtime.block_on(async { tokio::time::timeout(deadline, process.closes.wait()).await });
    runtime.shutdown_timeout(deadline.saturating_sub(start.elapsed()));
}

/// The error of operations on objects that were created before a fork.
pub(crate) fn forked_error(operation: &'static str) -> Error {
    let message = "created before this process was forked: connect a new client in the child";
    Error::new(ErrorKind::Closed, operation, message)
}

/// The error of operations after [`shutdown`].
pub(crate) fn stopped_error(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the client's runtime has stopped")
}
