use std::sync::atomic::{AtomicUsize, Ordering};

use super::Operation;
use crate::error::{Error, ErrorKind};

/// Bounds the requests under way. Receives and pulls are not counted: they wait by nature, and the backend bounds them.
pub struct InFlight {
    max: usize,
    now: AtomicUsize,
}

/// A request's place among those under way; given back when dropped, also half-way.
pub(super) struct Place<'a>(Option<&'a AtomicUsize>);

impl InFlight {
    pub(super) fn new(max: usize) -> Self {
        Self { max, now: AtomicUsize::new(0) }
    }

    /// A place, if there is one left.
    pub(super) fn enter(&self, operation: Operation) -> Result<Place<'_>, Error> {
        if matches!(operation, Operation::Receive | Operation::Pull) {
            return Ok(Place(None));
        }
        let place = Place(Some(&self.now));
        if self.now.fetch_add(1, Ordering::Relaxed) >= self.max {
            return Err(Error::new(ErrorKind::Busy, "flow limit"));
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(now) = self.0 {
            now.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_above_the_limit_and_recovers() {
        let limit = InFlight::new(1);
        let place = limit.enter(Operation::Send);
        assert!(place.is_ok());
        assert_eq!(limit.enter(Operation::Send).err().map(|error| error.kind), Some(ErrorKind::Busy));
        assert!(limit.enter(Operation::Receive).is_ok());
        drop(place);
        assert!(limit.enter(Operation::Send).is_ok());
    }
}
