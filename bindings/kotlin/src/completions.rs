use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};
use rocketmq_thin_bridge::{Error, Operation, Outcome, Queue};

static COMPLETIONS: OnceLock<Completions> = OnceLock::new();

/// The bridge's queue of this process, with a place where a thread waits for it to fill.
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
    /// The process's own, which starts the runtime the first time.
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

    /// False if the operation's outcome was there already and will still be given.
    pub(crate) fn cancel(&self, id: i64) -> bool {
        self.queue.cancel(id as u64)
    }

    /// The next outcome if there is one.
    pub(crate) fn next(&self) -> Option<(u64, Outcome)> {
        self.queue.drain(1).pop()
    }

    /// The next outcome; waits until there is one.
    pub(crate) fn wait(&self) -> (u64, Outcome) {
        loop {
            if let Some(completion) = self.next() {
                return completion;
            }
            let mut woken = self.ready.woken.lock();
            while !*woken {
                self.ready.changed.wait(&mut woken);
            }
            *woken = false;
        }
    }
}

/// Starts an operation and returns its id, or 0 if one of the objects that it needs is not there.
pub(crate) fn submit(operation: impl FnOnce() -> Option<Operation>) -> i64 {
    let submit = || Completions::get().ok()?.queue.submit(operation()?).ok();
    submit().map_or(0, |id| id as i64)
}
