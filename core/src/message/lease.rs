//! The client's hold on a delivery.

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

/// A consumer group by its full name.
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

/// The message that a lease is for, as requests about it name it.
#[derive(Debug)]
pub(crate) struct LeasedMessage {
    pub(crate) message_id: String,
    pub(crate) topic: Arc<str>,
    pub(crate) lite_topic: Option<String>,
    /// The group that received it.
    pub(crate) group: Arc<Group>,
    /// The server that gave it out.
    pub(crate) endpoints: Endpoints,
}

/// What settles a delivery: the newest handle, how long it is valid, who may use it, and where it has to go.
///
/// Clones of a delivery share one lease, so that a handle renewed through one is used by all.
#[derive(Debug)]
pub(crate) struct Lease {
    message: LeasedMessage,
    state: Mutex<State>,
    /// Held by the request that renews the handle. Other requests wait, so that they use the new one.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    handle: String,
    /// When the lease began or was last renewed.
    since: Instant,
    until: Instant,
    /// Requests under way that settle the delivery.
    settling: usize,
    end: Option<End>,
    renewal: Option<Renewal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Settled,
    Lost,
}

/// The renewal of a lease by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// Until when the lease is kept.
    pub(crate) keep_until: Instant,
    /// When the next renewal is due; `None` while one is under way.
    pub(crate) due: Option<(Instant, u64)>,
}

/// A request that settles a delivery, while it is under way. The lease is not renewed meanwhile.
#[derive(Debug)]
pub(crate) struct Settling(Arc<Lease>);

impl Lease {
    /// A lease of `length` from now on `message`.
    pub(crate) fn new(handle: String, message: LeasedMessage, length: Duration) -> Self {
        let since = Instant::now();
        let until = crate::options::deadline(since, length);
        let state = State { handle, since, until, settling: 0, end: None, renewal: None };
        Self { message, state: Mutex::new(state), turn: tokio::sync::Mutex::default() }
    }

    pub(crate) fn message(&self) -> &LeasedMessage {
        &self.message
    }

    pub(crate) fn handle(&self) -> String {
        self.state.lock().handle.clone()
    }

    /// When the delivery becomes visible to others.
    pub(crate) fn until(&self) -> Instant {
        self.state.lock().until
    }

    /// How long the lease lasts in all, since it began or was last renewed.
    pub(crate) fn length(&self) -> Duration {
        let state = self.state.lock();
        state.until - state.since
    }

    /// When half of the lease is over.
    pub(crate) fn half_time(&self) -> Instant {
        let state = self.state.lock();
        state.since + (state.until - state.since) / 2
    }

    /// Applies the answer to a change of the invisible time. An empty handle means that the old one stays valid.
    pub(crate) fn renew(&self, handle: String, invisible: Duration) {
        let mut state = self.state.lock();
        if !handle.is_empty() {
            state.handle = handle;
        }
        state.since = Instant::now();
        state.until = crate::options::deadline(state.since, invisible);
    }

    /// Waits until no request that renews the handle is under way. None begins until the guard is dropped.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Whether the lease is over by the client's clock or by the word of a server, without having been settled.
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

    /// Notes that the delivery is settled.
    pub(crate) fn settled(&self) {
        self.state.lock().end = Some(End::Settled);
    }

    /// Notes that a server says that the lease is over.
    pub(crate) fn lost(&self) {
        self.state.lock().end.get_or_insert(End::Lost);
    }

    /// Notes the result of a request that settles the delivery. Returns whether the lease has ended with it.
    pub(crate) fn note(&self, result: &Result<()>) -> bool {
        match result {
            Ok(()) => self.settled(),
            Err(error) if error.kind() == ErrorKind::InvalidReceipt => self.lost(),
            Err(_) => return false,
        }
        true
    }

    /// Announces a request that settles the delivery.
    pub(crate) fn begin_settling(self: &Arc<Self>) -> Settling {
        self.state.lock().settling += 1;
        Settling(self.clone())
    }

    /// Whether and when the lease is renewed.
    pub(crate) fn renewal(&self) -> Option<Renewal> {
        self.state.lock().renewal
    }

    /// Changes whether and when the lease is renewed.
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
        Arc::new(Lease::new("a".into(), message, length))
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
        long.settled();
        assert!(!long.is_open() && !long.is_lost(now + Duration::from_secs(61)));
        let refused = lease(Duration::from_secs(60));
        refused.lost();
        assert!(!refused.is_open() && refused.is_lost(now));
        assert!(lease(Duration::ZERO).is_lost(Instant::now()));
    }
}
