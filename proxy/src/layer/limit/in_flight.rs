use std::sync::atomic::{AtomicUsize, Ordering};

use super::priority::Priority;
use crate::error::{Error, ErrorKind};
use crate::layer::OperationKind;

/// Bounds the requests in flight, by their [`Priority`]: a tenth of the bound is kept for those that settle.
///
/// Receives and pulls are not counted: they wait by nature, and the backend bounds them. They are refused as other new work
/// even so.
pub struct InFlight {
    max: usize,
    max_new: usize,
    now: AtomicUsize,
}

/// A request's place among those in flight. Dropping it gives it back. Empty for requests that are not counted.
#[derive(Default)]
pub(in crate::layer) struct Slot<'a>(Option<&'a AtomicUsize>);

impl InFlight {
    pub(in crate::layer) fn new(max: usize) -> Self {
        Self { max, max_new: max - max / 10, now: AtomicUsize::new(0) }
    }

    /// Takes a slot.
    ///
    /// # Errors
    /// `Busy` if all are taken that a request of this kind may have.
    pub(in crate::layer) fn enter(&self, kind: OperationKind) -> Result<Slot<'_>, Error> {
        let max = match Priority::of(kind) {
            Priority::New => self.max_new,
            Priority::Settling => self.max,
            Priority::Session => usize::MAX,
        };
        let (slot, others) = if kind.waits() {
            (Slot(None), self.now.load(Ordering::Relaxed))
        } else {
            (Slot(Some(&self.now)), self.now.fetch_add(1, Ordering::Relaxed))
        };
        if others >= max {
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

    fn enter(limit: &InFlight, kind: OperationKind) -> Result<Slot<'_>, ErrorKind> {
        limit.enter(kind).map_err(|error| error.kind)
    }

    #[test]
    fn refuses_above_the_limit_and_recovers() {
        let limit = InFlight::new(1);
        let slot = enter(&limit, OperationKind::Send).expect("room");
        assert_eq!(enter(&limit, OperationKind::Send).err(), Some(ErrorKind::Busy));
        drop(slot);
        assert!(enter(&limit, OperationKind::Send).is_ok());
    }

    #[test]
    fn new_work_is_refused_before_settling_and_sessions_go_on() {
        use OperationKind::{Acknowledge, EndTransaction, Heartbeat, Pull, QueryRoute, Receive, Send};
        let limit = InFlight::new(10);
        let _sends: Vec<_> = (0..9).map(|_| enter(&limit, Send).expect("room")).collect();
        for new in [Send, Receive, Pull, QueryRoute] {
            assert_eq!(enter(&limit, new).err(), Some(ErrorKind::Busy), "{new:?}");
        }
        let _ack = enter(&limit, Acknowledge).expect("room for what settles");
        assert_eq!(enter(&limit, EndTransaction).err(), Some(ErrorKind::Busy));
        assert!(enter(&limit, Heartbeat).is_ok());
    }

    #[test]
    fn waiting_receives_take_no_slots() {
        let limit = InFlight::new(1);
        let _waiting: Vec<_> = (0..5).map(|_| enter(&limit, OperationKind::Receive).expect("room")).collect();
        assert!(enter(&limit, OperationKind::Send).is_ok());
    }
}
