//! The queue of the JVM, and the thread that waits for its outcomes.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rocketmq_thin_bridge::{Error, Operation, Outcome, Queue};

static COMPLETIONS: OnceLock<Completions> = OnceLock::new();

/// The bridge's queue of this process, and the condition that the polling thread waits on until it has
/// outcomes.
pub(crate) struct Completions {
    queue: Arc<Queue>,
    wake_up: Arc<WakeUp>,
}

#[derive(Default)]
struct WakeUp {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Completions {
    /// Returns the instance of this process. The first call starts the runtime.
    pub(crate) fn get() -> Result<&'static Self, Error> {
        if let Some(completions) = COMPLETIONS.get() {
            return Ok(completions);
        }
        let wake_up = Arc::new(WakeUp::default());
        let wake = Arc::clone(&wake_up);
        let queue = Queue::new(move || {
            *wake.woken.lock() = true;
            wake.changed.notify_one();
        })?;
        Ok(COMPLETIONS.get_or_init(|| Self { queue, wake_up }))
    }

    /// Cancels an operation. Returns false if its outcome has already been fetched.
    pub(crate) fn cancel(&self, id: i64) -> bool {
        self.queue.cancel(id as u64)
    }

    /// Takes the next outcome, if there is one.
    pub(crate) fn next(&self) -> Option<(u64, Outcome)> {
        self.queue.drain(1).pop()
    }

    /// Waits for the next outcome. Returns `None` after the timeout.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<(u64, Outcome)> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(completion) = self.next() {
                return Some(completion);
            }
            let mut woken = self.wake_up.woken.lock();
            while !*woken {
                if self.wake_up.changed.wait_until(&mut woken, deadline).timed_out() {
                    drop(woken);
                    return self.next();
                }
            }
            *woken = false;
        }
    }

    /// Returns the number of operations that are running, or whose outcome was not fetched.
    pub(crate) fn pending(&self) -> usize {
        self.queue.pending()
    }
}

/// Starts an operation and returns its id, or 0 if an object that it needs does not exist.
pub(crate) fn submit(operation: impl FnOnce() -> Option<Operation>) -> i64 {
    let submit = || Completions::get().ok()?.queue.submit(operation()?).ok();
    submit().map_or(0, |id| id as i64)
}
