use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use rocketmq_thin::{Error, ErrorKind};
use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime of one process.
///
/// A forked child finds its parent's `Process` here, whose threads did not come along, and appends its own.
/// The parent's is never dropped in the child: that would wait for threads that do not exist.
pub(crate) struct Process {
    id: u32,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    child: OnceLock<Box<Process>>,
}

static FIRST: OnceLock<Box<Process>> = OnceLock::new();

impl Process {
    /// This process with its runtime, which starts now if it is the first time.
    pub(crate) fn current() -> Result<&'static Self, Error> {
        let mut slot = &FIRST;
        while let Some(process) = slot.get() {
            if process.is_current() {
                return Ok(process);
            }
            slot = &process.child;
        }
        let process = Self::start()?;
        // Of two threads that come here at once, one wins; the other's runtime stops unused.
        Ok(slot.get_or_init(|| process))
    }

    fn start() -> Result<Box<Self>, Error> {
        // One worker: on few cores a second one costs more in waking across cores than it gives.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("rocketmq-thin")
            .enable_all()
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, "start", format!("no thread to run on: {error}"))
            })?;
        Ok(Box::new(Self {
            id: std::process::id(),
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            child: OnceLock::new(),
        }))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// False in a child that was forked from this process.
    pub(crate) fn is_current(&self) -> bool {
        self.id == std::process::id()
    }
}

/// Stops this process's runtime, waiting for its thread at most `deadline`. What still runs is dropped, and
/// everything that waits for it, or is submitted later, gets an error of kind `Closed`.
///
/// For the end of the process: call it from the language's exit hook.
pub fn shutdown(deadline: Duration) {
    let mut slot = &FIRST;
    while let Some(process) = slot.get() {
        if process.is_current() {
            let runtime = process.runtime.lock().take();
            if let Some(runtime) = runtime {
                runtime.shutdown_timeout(deadline);
            }
            return;
        }
        slot = &process.child;
    }
}

pub(crate) fn forked(operation: &'static str) -> Error {
    let message = "made before this process was forked: connect a new client in the child";
    Error::new(ErrorKind::Closed, operation, message)
}

pub(crate) fn stopped(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the client's runtime has stopped")
}
