//! What waits for the writer thread: bounded, and taken all at once.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::clock;
use super::writer::Job;
use crate::service::{ServiceError, ServiceErrorKind};

/// From so many concurrent sends on it pays to wait for the others.
const MANY: usize = 8;

/// The jobs that wait.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    max_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    bytes: usize,
    // The thread sleeps: only then it needs a wake-up, which costs as much as the rest of a send.
    asleep: bool,
    closed: bool,
    last_taken: usize,
}

impl Inbox {
    /// An inbox for so many bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { waiting: Mutex::default(), arrived: Condvar::new(), max_bytes }
    }

    /// Adds a job.
    pub(super) fn put(&self, job: Job) -> Result<(), ServiceError> {
        let bytes: usize = job.entries.iter().map(|entry| entry.message.len()).sum();
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(ServiceError::new(ServiceErrorKind::Unavailable, "the broker is shutting down"));
        }
        if waiting.bytes > 0 && waiting.bytes + bytes > self.max_bytes {
            return Err(ServiceError::new(ServiceErrorKind::Busy, "too many messages wait for the disk"));
        }
        waiting.bytes += bytes;
        waiting.jobs.push(job);
        let wake = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Refuses new jobs; the ones that wait are still taken.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Waits for jobs or for this time (ms since 1970), and takes all there are. `None` once it is closed and
    /// empty.
    ///
    /// Senders that were answered together send again almost together: where the last take was a big one and
    /// this one would be a small one, it waits for them for `pause`, and saves an fsync.
    pub(super) fn take(&self, until: Option<u64>, pause: Duration) -> Option<Vec<Job>> {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting.asleep = true;
            match until.map(|until| until.saturating_sub(clock::now())) {
                Some(0) => break,
                Some(ahead) => {
                    self.arrived.wait_for(&mut waiting, Duration::from_millis(ahead));
                }
                None => self.arrived.wait(&mut waiting),
            }
        }
        waiting.asleep = false;
        if waiting.last_taken >= MANY && waiting.jobs.len() * 2 < waiting.last_taken && !waiting.closed {
            drop(waiting);
            std::thread::sleep(pause);
            waiting = self.waiting.lock();
        }
        waiting.bytes = 0;
        waiting.last_taken = waiting.jobs.len();
        Some(std::mem::take(&mut waiting.jobs))
    }
}
