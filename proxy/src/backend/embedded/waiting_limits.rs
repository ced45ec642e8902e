//! Limits the number and the memory of waiting receives. [`super::progress`] and [`super::lease_expiry`] wake them.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::service::{Receive, ServiceError, ServiceErrorKind};

/// The maximum size of the requests of waiting receives, in bytes, both of one group in a topic and in total.
const MAX_BYTES: usize = 64 << 20;

/// Counts waiting receives, either of one group in a topic or all of them.
#[derive(Default)]
pub(super) struct WaitingReceives {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// How many receives may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingLimits {
    /// Of one group in a topic.
    pub(super) per_group: usize,
    /// In total.
    pub(super) total: usize,
}

/// A registered waiting receive. It is unregistered when this is dropped.
pub(super) struct WaitingGuard<'a> {
    waiting: &'a WaitingReceives,
    bytes: usize,
}

impl WaitingReceives {
    /// Registers a waiting receive whose request takes this many bytes.
    ///
    /// # Errors
    /// `Busy` if `max` receives wait already, or if they take too much memory.
    pub(super) fn register(&self, max: usize, bytes: usize) -> Result<WaitingGuard<'_>, ServiceError> {
        let guard = WaitingGuard { waiting: self, bytes };
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let before = self.bytes.fetch_add(bytes, Ordering::SeqCst);
        if count >= max || before.saturating_add(bytes) > MAX_BYTES {
            return Err(ServiceError::new(ServiceErrorKind::Busy, "polling full"));
        }
        Ok(guard)
    }

    /// The number of waiting receives.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.waiting.count.fetch_sub(1, Ordering::SeqCst);
        self.waiting.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// A waiting receive that was woken and has not scanned for messages yet. If it is cancelled before, another one is woken
/// instead.
pub(super) struct Woken<W: Fn()> {
    wake_another: W,
}

impl<W: Fn()> Woken<W> {
    pub(super) fn new(wake_another: W) -> Self {
        Self { wake_another }
    }

    /// Notes that the receive has scanned for messages. No other one is woken then.
    pub(super) fn has_scanned(self) {
        std::mem::forget(self);
    }
}

impl<W: Fn()> Drop for Woken<W> {
    fn drop(&mut self) {
        (self.wake_another)();
    }
}

/// The approximate bytes of memory that the names and the filter of a receive take.
pub(super) fn bytes_of(request: &Receive) -> usize {
    let attempt_id = request.attempt_id.as_ref().map_or(0, String::len);
    let lite_client = request.lite_client.as_ref().map_or(0, String::len);
    request.topic.len() + request.group.len() + request.filter.memory() + attempt_id + lite_client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_receives_are_bounded_by_count_and_bytes() {
        let waiting = WaitingReceives::default();
        let guards: Vec<_> = (0..4).map(|_| waiting.register(4, 10).expect("within the limits")).collect();
        assert!(waiting.register(4, 0).is_err());
        assert!(waiting.register(5, MAX_BYTES).is_err());
        drop(guards);
        assert_eq!((waiting.count(), waiting.bytes.load(Ordering::SeqCst)), (0, 0));
        assert!(waiting.register(4, MAX_BYTES).is_ok());
    }
}
