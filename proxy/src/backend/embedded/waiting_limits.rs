//! The limits of waiting receives: how many there may be, and how much memory their requests may take. They are woken by
//! [`super::progress`] and [`super::lease_expiry`].

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::service::{Filter, Receive, ServiceError, ServiceErrorKind};

/// The most bytes that the requests of waiting receives may take, in one group of a topic or in all.
const MAX_BYTES: usize = 64 << 20;
/// The memory of a tag in a filter, in addition to its bytes.
const TAG_OVERHEAD: usize = 48;
/// The memory of a compiled expression, as a multiple of the bytes of its text.
const EXPRESSION_FACTOR: usize = 16;

/// The waiting receives, of one group in a topic or of all.
#[derive(Default)]
pub(super) struct Waiting {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// The most receives that may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingLimits {
    /// For one topic and group.
    pub(super) per_group: usize,
    /// For all together.
    pub(super) altogether: usize,
}

/// A place among the waiting receives, which is given back when this is dropped.
pub(super) struct Place<'a> {
    waiting: &'a Waiting,
    bytes: usize,
}

impl Waiting {
    /// Takes a place for a receive whose request takes this many bytes.
    ///
    /// # Errors
    /// `Busy` if there are `max` already, or if they take too much memory.
    pub(super) fn enter(&self, max: usize, bytes: usize) -> Result<Place<'_>, ServiceError> {
        let place = Place { waiting: self, bytes };
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let before = self.bytes.fetch_add(bytes, Ordering::SeqCst);
        if count >= max || before.saturating_add(bytes) > MAX_BYTES {
            return Err(ServiceError::new(ServiceErrorKind::Busy, "polling full"));
        }
        Ok(place)
    }

    /// The number of waiting receives.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.count.fetch_sub(1, Ordering::SeqCst);
        self.waiting.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// A waiting receive that was woken and has not looked for messages yet. If it is cancelled before, another one is woken
/// in its place.
pub(super) struct Woken<W: Fn()> {
    wake_another: W,
}

impl<W: Fn()> Woken<W> {
    pub(super) fn new(wake_another: W) -> Self {
        Self { wake_another }
    }

    pub(super) fn has_looked(self) {
        std::mem::forget(self);
    }
}

impl<W: Fn()> Drop for Woken<W> {
    fn drop(&mut self) {
        (self.wake_another)();
    }
}

/// About how many bytes the names and the filter in a receive take.
pub(super) fn bytes_of(request: &Receive) -> usize {
    let filter = bytes_of_filter(&request.filter);
    let attempt_id = request.attempt_id.as_ref().map_or(0, String::len);
    let lite_client = request.lite_client.as_ref().map_or(0, String::len);
    request.topic.len() + request.group.len() + filter + attempt_id + lite_client
}

/// About how many bytes a compiled filter takes.
pub(super) fn bytes_of_filter(filter: &Filter) -> usize {
    match filter {
        Filter::All => 0,
        Filter::Tags(tags) => tags.iter().map(|tag| tag.len() + TAG_OVERHEAD).sum(),
        Filter::Sql(text) => text.len() * EXPRESSION_FACTOR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_count_and_bytes_and_given_back() {
        let waiting = Waiting::default();
        let places: Vec<_> = (0..4).map(|_| waiting.enter(4, 10).expect("a place")).collect();
        assert!(waiting.enter(4, 0).is_err());
        assert!(waiting.enter(5, MAX_BYTES).is_err());
        drop(places);
        assert_eq!((waiting.count(), waiting.bytes.load(Ordering::SeqCst)), (0, 0));
        assert!(waiting.enter(4, MAX_BYTES).is_ok());
    }
}
