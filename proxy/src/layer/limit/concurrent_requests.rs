//! The bound on concurrent requests of the proxy.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::priority::Priority;
use crate::error::{Error, ErrorKind};
use crate::layer::OperationKind;

/// Bounds the requests in flight by their [`Priority`]: a tenth of the bound is reserved for requests that settle messages.
///
/// Receives and pulls are not counted, because they wait by design, and the backend bounds them. At the bound, they are
/// refused as other new work is.
pub struct InFlight {
    max: usize,
    max_new: usize,
    now: AtomicUsize,
}

/// The slot of a request in flight, which is released when dropped. Empty for requests that are not counted.
#[derive(Default)]
pub(in crate::layer) struct RequestSlot<'a>(Option<&'a AtomicUsize>);

impl InFlight {
    pub(in crate::layer) fn new(max: usize) -> Self {
        Self { max, max_new: max - max / 10, now: AtomicUsize::new(0) }
    }

    /// Takes a slot.
    ///
    /// # Errors
    /// `Busy` if all slots that a request of this kind may take are taken.
    pub(in crate::layer) fn acquire(&self, kind: OperationKind) -> Result<RequestSlot<'_>, Error> {
        let max = match Priority::of(kind) {
            Priority::New => self.max_new,
            Priority::Settling => self.max,
            Priority::Session => usize::MAX,
        };
        let (slot, others) = if kind.waits() {
            (RequestSlot(None), self.now.load(Ordering::Relaxed))
        } else {
            (RequestSlot(Some(&self.now)), self.now.fetch_add(1, Ordering::Relaxed))
        };
        if others >= max {
            return Err(Error::new(ErrorKind::Busy, "flow limit"));
        }
        Ok(slot)
    }
}

impl Drop for RequestSlot<'_> {
    fn drop(&mut self) {
        if let Some(now) = self.0 {
            now.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(limit: &InFlight, kind: OperationKind) -> Result<RequestSlot<'_>, ErrorKind> {
        limit.acquire(kind).map_err(|error| error.kind)
    }

    #[test]
    fn refuses_above_the_limit_and_recovers() {
        let limit = InFlight::new(1);
        let slot = acquire(&limit, OperationKind::Send).expect("room");
        assert_eq!(acquire(&limit, OperationKind::Send).err(), Some(ErrorKind::Busy));
        drop(slot);
        assert!(acquire(&limit, OperationKind::Send).is_ok());
    }

    #[test]
    fn new_work_is_refused_first_and_sessions_never() {
        use OperationKind::{Acknowledge, EndTransaction, Heartbeat, Pull, QueryRoute, Receive, Send};
        let limit = InFlight::new(10);
        let _sends: Vec<_> = (0..9).map(|_| acquire(&limit, Send).expect("room")).collect();
        for new in [Send, Receive, Pull, QueryRoute] {
            assert_eq!(acquire(&limit, new).err(), Some(ErrorKind::Busy), "{new:?}");
        }
        let _ack = acquire(&limit, Acknowledge).expect("room for what settles");
        assert_eq!(acquire(&limit, EndTransaction).err(), Some(ErrorKind::Busy));
        assert!(acquire(&limit, Heartbeat).is_ok());
    }

    #[test]
    fn waiting_receives_take_no_slots() {
        let limit = InFlight::new(1);
        let _waiting: Vec<_> =
            (0..5).map(|_| acquire(&limit, OperationKind::Receive).expect("room")).collect();
        assert!(acquire(&limit, OperationKind::Send).is_ok());
    }
}
