use std::sync::atomic::{AtomicUsize, Ordering};

use super::OperationKind;
use crate::error::{Error, ErrorKind};

/// Bounds the requests in flight. Receives and pulls are not counted: they wait by nature, and the backend bounds them.
pub struct InFlight {
    max: usize,
    now: AtomicUsize,
}

/// A request's place among those in flight. Dropping it gives it back. Empty for requests that are not counted.
pub(super) struct Slot<'a>(Option<&'a AtomicUsize>);

impl InFlight {
    pub(super) fn new(max: usize) -> Self {
        Self { max, now: AtomicUsize::new(0) }
    }

    /// Takes a slot.
    ///
    /// # Errors
    /// `Busy` if all are taken.
    pub(super) fn enter(&self, kind: OperationKind) -> Result<Slot<'_>, Error> {
        if matches!(kind, OperationKind::Receive | OperationKind::Pull) {
            return Ok(Slot(None));
        }
        let slot = Slot(Some(&self.now));
        if self.now.fetch_add(1, Ordering::Relaxed) >= self.max {
            return Err(Error::new(ErrorKind::Busy, "flow limit"));
        }
        Ok(slot)
    }
}

impl Drop for Slot<'_> {
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
        let slot = limit.enter(OperationKind::Send);
        assert!(slot.is_ok());
        assert_eq!(limit.enter(OperationKind::Send).err().map(|error| error.kind), Some(ErrorKind::Busy));
        assert!(limit.enter(OperationKind::Receive).is_ok());
        drop(slot);
        assert!(limit.enter(OperationKind::Send).is_ok());
    }
}
