//! A bounded queue in front of a thread that takes all items at once.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::service::{ServiceError, ServiceErrorKind};

/// From this many items in the last take on it pays to wait for more.
const MANY: usize = 8;

/// The waiting items.
pub(super) struct Inbox<T> {
    waiting: Mutex<Waiting<T>>,
    arrived: Condvar,
    max_bytes: usize,
}

struct Waiting<T> {
    items: Vec<T>,
    bytes: usize,
    // The thread sleeps. Only then it is woken, as that costs as much as the rest of a send.
    asleep: bool,
    closed: bool,
    last_taken: usize,
}

impl<T> Inbox<T> {
    /// An inbox whose items may take `max_bytes` together.
    pub(super) fn new(max_bytes: usize) -> Self {
        let waiting = Waiting { items: Vec::new(), bytes: 0, asleep: false, closed: false, last_taken: 0 };
        Self { waiting: Mutex::new(waiting), arrived: Condvar::new(), max_bytes }
    }

    /// Adds an item that takes so many bytes of memory.
    ///
    /// # Errors
    /// `Busy` if there is no room, unless the inbox is empty; `Unavailable` if it is closed.
    pub(super) fn put(&self, item: T, bytes: usize) -> Result<(), ServiceError> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(ServiceError::new(ServiceErrorKind::Unavailable, "the broker is shutting down"));
        }
        if waiting.bytes > 0 && waiting.bytes.saturating_add(bytes) > self.max_bytes {
            return Err(ServiceError::new(ServiceErrorKind::Busy, "too many messages wait for the disk"));
        }
        waiting.bytes += bytes;
        waiting.items.push(item);
        let wake = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Refuses new items. Those that wait can still be taken.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Waits for items, up to `timeout`, and takes all there are. Returns `None` once the inbox is closed and empty.
    ///
    /// Senders that were answered together send again almost together. If the last take was a large one and this one
    /// would be small, it waits for them for `pause`, which saves an fsync.
    pub(super) fn take(&self, timeout: Option<Duration>, pause: Duration) -> Option<Vec<T>> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut waiting = self.waiting.lock();
        while waiting.items.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting.asleep = true;
            match deadline {
                Some(deadline) => {
                    if self.arrived.wait_until(&mut waiting, deadline).timed_out() {
                        break;
                    }
                }
                None => self.arrived.wait(&mut waiting),
            }
        }
        waiting.asleep = false;
        if waiting.last_taken >= MANY && waiting.items.len() * 2 < waiting.last_taken && !waiting.closed {
            drop(waiting);
            std::thread::sleep(pause);
            waiting = self.waiting.lock();
        }
        waiting.bytes = 0;
        waiting.last_taken = waiting.items.len();
        Some(std::mem::take(&mut waiting.items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_bounded_by_bytes_and_taken_together() {
        let inbox = Inbox::new(10);
        inbox.put("larger than the inbox", 12).expect("an empty inbox takes any item");
        assert_eq!(inbox.put("b", 1).expect_err("full").kind, ServiceErrorKind::Busy);
        assert_eq!(inbox.take(None, Duration::ZERO).expect("open"), ["larger than the inbox"]);
        inbox.put("b", 5).expect("room");
        inbox.put("c", 5).expect("room");
        inbox.close();
        assert_eq!(inbox.put("d", 1).expect_err("closed").kind, ServiceErrorKind::Unavailable);
        assert_eq!(inbox.take(None, Duration::ZERO).expect("not empty"), ["b", "c"]);
        assert!(inbox.take(None, Duration::ZERO).is_none());
    }

    #[test]
    fn a_take_ends_in_time() {
        let inbox = Inbox::<()>::new(1);
        assert_eq!(inbox.take(Some(Duration::ZERO), Duration::ZERO), Some(Vec::new()));
    }
}
