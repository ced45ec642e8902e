//! The lease of a delivery: its receipt handle, how long it lasts, and whether it is settled or lost.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::MutexGuard;

use crate::{
    error::{ErrorKind, Result},
    options::Endpoints,
};

/// A consumer group, identified by its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name } = self;
        if namespace.is_empty() {
            write!(f, "`{name}`")
        } else {
            write!(f, "`{name}` of namespace `{namespace}`")
        }
    }
}

/// The fields of a leased message that requests for it contain.
#[derive(Debug)]
pub(crate) struct LeasedMessage {
    pub(crate) message_id: String,
    pub(crate) topic: Arc<str>,
    pub(crate) lite_topic: Option<String>,
    /// The group that received the message.
    pub(crate) group: Arc<Group>,
    /// The server that delivered the message, and gets requests for it.
    pub(crate) endpoints: Endpoints,
}

/// The lease of a delivery. Holds the current receipt handle, its expiry, and the message.
///
/// Clones of a delivery share one lease, so that all of them use a renewed handle.
#[derive(Debug)]
pub(crate) struct Lease {
    message: LeasedMessage,
    state: Mutex<LeaseState>,
    /// Held during a request that renews the handle. Other requests wait for the new handle.
    handle_lock: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct LeaseState {
    handle: String,
    /// When the lease began or was last renewed.
    since: Instant,
    until: Instant,
    /// How many requests that settle the delivery are in flight.
    settling: usize,
    end: Option<End>,
    renewal: Option<Renewal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Settled,
    Lost,
}

/// Until when the client renews a lease, and when next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// When the client stops renewing the lease.
    pub(crate) keep_until: Instant,
    /// When the next renewal is due, and a number that makes the key unique; `None` while one is in flight.
    pub(crate) due: Option<(Instant, u64)>,
}

/// Marks a delivery as being settled until it is dropped. The lease is not renewed meanwhile.
#[derive(Debug)]
pub(crate) struct Settling(Arc<Lease>);

impl Lease {
    /// Creates a lease on `message` that lasts for `length` from `since`.
    pub(crate) fn new(handle: String, message: LeasedMessage, since: Instant, length: Duration) -> Self {
        let until = crate::options::deadline(since, length);
        let state = LeaseState { handle, since, until, settling: 0, end: None, renewal: None };
        Self { message, state: Mutex::new(state), handle_lock: tokio::sync::Mutex::default() }
    }

    pub(crate) fn message(&self) -> &LeasedMessage {
        &self.message
    }

    pub(crate) fn handle(&self) -> String {
        self.state.lock().handle.clone()
    }

    /// When the lease ends, and the delivery becomes visible to other consumers.
    pub(crate) fn until(&self) -> Instant {
        self.state.lock().until
    }

    /// When the lease began or was last renewed.
    pub(crate) fn since(&self) -> Instant {
        self.state.lock().since
    }

    /// How long the lease lasts in total, from when it began or was last renewed.
    pub(crate) fn length(&self) -> Duration {
        let state = self.state.lock();
        state.until - state.since
    }

    /// When half of the lease has passed.
    pub(crate) fn half_time(&self) -> Instant {
        let state = self.state.lock();
        state.since + (state.until - state.since) / 2
    }

    /// Applies the response to a change of the invisible time. If `handle` is empty, the old handle stays valid.
    pub(crate) fn renew(&self, handle: String, invisible: Duration) {
        let mut state = self.state.lock();
        if !handle.is_empty() {
            state.handle = handle;
        }
        state.since = Instant::now();
        state.until = crate::options::deadline(state.since, invisible);
    }

    /// Whether a request that renews the handle is in flight.
    pub(crate) fn is_handle_locked(&self) -> bool {
        self.handle_lock.try_lock().is_err()
    }

    /// Waits for a request in flight that renews the handle. No other one starts until the guard is dropped.
    pub(crate) async fn lock_handle(&self) -> MutexGuard<'_, ()> {
        self.handle_lock.lock().await
    }

    /// Whether the lease has ended, by the client's clock or according to a server, before the delivery was settled.
    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        let state = self.state.lock();
        state.end.map_or(state.until <= now, |end| end == End::Lost)
    }

    /// Whether the delivery is settled or its lease lost.
    pub(crate) fn has_ended(&self, now: Instant) -> bool {
        self.is_settled() || self.is_lost(now)
    }

    /// Whether the lease may be renewed: the delivery is not settled, not lost, and not being settled.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.state.lock();
        state.end.is_none() && state.settling == 0
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.state.lock().end == Some(End::Settled)
    }

    /// Records that the delivery is settled.
    pub(crate) fn mark_settled(&self) {
        self.state.lock().end = Some(End::Settled);
    }

    /// Records that the lease has ended according to a server.
    pub(crate) fn mark_lost(&self) {
        self.state.lock().end.get_or_insert(End::Lost);
    }

    /// Records the result of a request that settles the delivery. Returns whether the lease has ended.
    pub(crate) fn record_result(&self, result: &Result<()>) -> bool {
        match result {
            Ok(()) => self.mark_settled(),
            Err(error) if error.kind() == ErrorKind::InvalidReceipt => self.mark_lost(),
            Err(_) => return false,
        }
        true
    }

    /// Counts a request that settles the delivery as in flight, until the guard is dropped.
    pub(crate) fn begin_settling(self: &Arc<Self>) -> Settling {
        self.state.lock().settling += 1;
        Settling(self.clone())
    }

    /// The renewal of the lease; `None` if the client does not renew it.
    pub(crate) fn renewal(&self) -> Option<Renewal> {
        self.state.lock().renewal
    }

    /// Changes the renewal of the lease.
    pub(crate) fn with_renewal<R>(&self, change: impl FnOnce(&mut Option<Renewal>) -> R) -> R {
        change(&mut self.state.lock().renewal)
    }
}

impl Settling {
    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.0
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.0.state.lock().settling -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(length: Duration) -> Arc<Lease> {
        let group = Arc::new(Group { namespace: "ns".into(), name: "g".into() });
        let message = LeasedMessage {
            message_id: "id".into(),
            topic: "t".into(),
            lite_topic: None,
            group,
            endpoints: Endpoints::from_iter([]),
        };
        Arc::new(Lease::new("a".into(), message, Instant::now(), length))
    }

    #[test]
    fn an_empty_handle_keeps_the_old_one() {
        let lease = lease(Duration::ZERO);
        lease.renew(String::new(), Duration::from_secs(9));
        assert_eq!(lease.handle(), "a");
        lease.renew("b".into(), Duration::from_secs(9));
        assert_eq!(lease.handle(), "b");
        assert!(lease.until() > Instant::now());
        assert_eq!(lease.length(), Duration::from_secs(9));
        assert!(lease.half_time() < lease.until());
    }

    #[test]
    fn the_longest_lease_does_not_overflow() {
        let lease = lease(Duration::MAX);
        assert!(lease.half_time() < lease.until());
    }

    #[test]
    fn a_lease_is_open_until_it_is_settled_or_lost() {
        let now = Instant::now();
        let long = lease(Duration::from_secs(60));
        let settling = long.begin_settling();
        assert!(!long.is_open() && !long.is_lost(now));
        drop(settling);
        assert!(long.is_open());
        long.mark_settled();
        assert!(!long.is_open() && !long.is_lost(now + Duration::from_secs(61)));
        let refused = lease(Duration::from_secs(60));
        refused.mark_lost();
        assert!(!refused.is_open() && refused.is_lost(now));
        assert!(lease(Duration::ZERO).is_lost(Instant::now()));
    }
}
