//! Delayed messages: stored by the time they are due, and moved to their queues then.
//!
//! The value is `topic id (4), queue (4)`, big-endian, then the message as [`super::codec`] writes it.

use bytes::{Buf, Bytes};
use fjall::OwnedWriteBatch;

use super::clock;
use super::codec::Encoded;
use super::keys;
use super::store::{Opened, Store, corrupt, unavailable};
use crate::service::ServiceError;

/// A message to be delayed.
pub(super) struct Waiting<'a> {
    /// When it may be delivered, ms since 1970.
    pub(super) due: u64,
    pub(super) topic: u32,
    pub(super) queue: u32,
    pub(super) message: &'a Encoded,
}

/// A message whose time has come.
pub(super) struct Due {
    pub(super) at: (u64, u64),
    pub(super) topic: u32,
    pub(super) queue: u32,
    pub(super) message: Encoded,
}

/// The timers, as the writer thread knows them.
pub(super) struct Timers {
    // No timer is below: what was delivered is not looked over again.
    from: (u64, u64),
    next_due: Option<u64>,
    sequence: u64,
}

/// So many are moved in one commit.
const AT_ONCE: usize = 512;
/// After a failure the timers rest so long, ms.
const PAUSE: u64 = 1000;

impl Timers {
    /// Finds the first one. Reads the disk.
    pub(super) fn open(store: &Store) -> Result<Self, ServiceError> {
        // No clock that only runs forwards is needed: a second timer of the same millisecond and sequence would
        // take a million timers in a millisecond, or a clock that was set back to the very millisecond.
        let mut timers = Self { from: (0, 0), next_due: None, sequence: clock::now() << 20 };
        timers.look_ahead(store)?;
        Ok(timers)
    }

    /// When the first one is due. Times are cut to milliseconds, so one is due when its millisecond is over:
    /// never too early.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.next_due.map(|due| due.saturating_add(1))
    }

    /// Whether one is due.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.next_due.is_some_and(|due| due < now)
    }

    /// Adds one to a batch; the timer's key.
    pub(super) fn add(
        &mut self,
        waiting: &Waiting<'_>,
        log: &Opened,
        batch: &mut OwnedWriteBatch,
    ) -> (u64, u64) {
        let due = waiting.due;
        self.sequence += 1;
        let mut value = Vec::with_capacity(8 + waiting.message.len());
        value.extend_from_slice(&waiting.topic.to_be_bytes());
        value.extend_from_slice(&waiting.queue.to_be_bytes());
        value.extend_from_slice(&waiting.message.head);
        value.extend_from_slice(&waiting.message.body);
        batch.insert(log, keys::timer(due, self.sequence), value);
        // If the commit fails there is one needless look.
        self.from = self.from.min((due, self.sequence));
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        (due, self.sequence)
    }

    /// Those that are due, first ones first.
    pub(super) fn due(&self, store: &Store, now: u64) -> Result<Vec<Due>, ServiceError> {
        let mut due = Vec::new();
        for entry in store.log()?.range(..keys::timer(now, 0)).take(AT_ONCE) {
            let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
            let at = keys::timer_parts(&key).ok_or_else(|| corrupt("timer key"))?;
            let mut value = Bytes::from(value);
            if value.len() < 8 {
                return Err(corrupt("timer"));
            }
            let (topic, queue) = (value.get_u32(), value.get_u32());
            due.push(Due { at, topic, queue, message: Encoded { head: Vec::new(), body: value } });
        }
        Ok(due)
    }

    /// Says that those up to this one were delivered, and finds the next. Reads the disk.
    pub(super) fn delivered(&mut self, store: &Store, last: (u64, u64)) -> Result<(), ServiceError> {
        self.from = (last.0, last.1.saturating_add(1));
        self.look_ahead(store)
    }

    /// Finds the first one again, after the log was opened again. Reads the disk.
    pub(super) fn start_over(&mut self, store: &Store) -> Result<(), ServiceError> {
        self.from = (0, 0);
        self.look_ahead(store)
    }

    /// Finds the next one. Reads the disk.
    pub(super) fn look_ahead(&mut self, store: &Store) -> Result<(), ServiceError> {
        let lower = keys::timer(self.from.0, self.from.1);
        let upper = keys::timer(u64::MAX, u64::MAX);
        self.next_due = match store.log()?.range(lower..upper).next() {
            None => None,
            Some(entry) => {
                let key = entry.key().map_err(|e| unavailable(&e))?;
                Some(keys::timer_parts(&key).ok_or_else(|| corrupt("timer key"))?.0)
            }
        };
        Ok(())
    }

    /// Lets them rest for a moment.
    pub(super) fn postpone(&mut self, now: u64) {
        self.next_due = Some(now + PAUSE);
    }
}
