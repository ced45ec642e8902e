use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rocketmq_thin_bridge::{Error, Operation, Outcome, Queue};

static COMPLETIONS: OnceLock<Completions> = OnceLock::new();

/// The bridge's queue of this process, and what a thread waits on until the queue has outcomes.
pub(crate) struct Completions {
    queue: Arc<Queue>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Ready {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Completions {
    /// The instance of this process. The first call starts the runtime.
    pub(crate) fn get() -> Result<&'static Self, Error> {
        if let Some(completions) = COMPLETIONS.get() {
            return Ok(completions);
        }
        let ready = Arc::new(Ready::default());
        let wake = Arc::clone(&ready);
        let queue = Queue::new(move || {
            *wake.woken.lock() = true;
            wake.changed.notify_one();
        })?;
        Ok(COMPLETIONS.get_or_init(|| Self { queue, ready }))
    }

    /// Cancels an operation. False if its outcome has been fetched.
    pub(crate) fn cancel(&self, id: i64) -> bool {
        self.queue.cancel(id as u64)
    }

    /// The next outcome, if there is one.
    pub(crate) fn next(&self) -> Option<(u64, Outcome)> {
        self.queue.drain(1).pop()
    }

    /// Waits for the next outcome, until the timeout.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<(u64, Outcome)> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(completion) = self.next() {
                return Some(completion);
            }
            let mut woken = self.ready.woken.lock();
            while !*woken {
                if self.ready.changed.wait_until(&mut woken, deadline).timed_out() {
                    drop(woken);
                    return self.next();
                }
            }
            *woken = false;
        }
    }

    /// The number of operations that are running, or whose outcome was not fetched.
    pub(crate) fn pending(&self) -> usize {
        self.queue.pending()
    }
}

/// Starts an operation and returns its id, or 0 if an object that it needs does not exist.
pub(crate) fn submit(operation: impl FnOnce() -> Option<Operation>) -> i64 {
    let submit = || Completions::get().ok()?.queue.submit(operation()?).ok();
    submit().map_or(0, |id| id as i64)
}
