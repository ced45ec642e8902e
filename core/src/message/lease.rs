//! The client's hold on a delivery.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::options::Endpoints;

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

/// What settles a delivery: the newest handle, how long it is valid, who may use it, and where it has to go.
///
/// Clones of a delivery share one lease, so that a handle renewed through one is used by all.
#[derive(Debug)]
pub(crate) struct Lease {
    state: Mutex<State>,
    endpoints: Endpoints,
    group: Arc<Group>,
}

#[derive(Debug)]
struct State {
    handle: String,
    /// When the lease began or was last renewed.
    since: Instant,
    until: Instant,
}

impl State {
    fn new(handle: String, length: Duration) -> Self {
        let since = Instant::now();
        Self { handle, since, until: crate::options::deadline(since, length) }
    }
}

impl Lease {
    /// A lease of `length` from now, given to `group` by the server at `endpoints`.
    pub(crate) fn new(handle: String, endpoints: Endpoints, group: Arc<Group>, length: Duration) -> Self {
        Self { state: Mutex::new(State::new(handle, length)), endpoints, group }
    }

    /// The server that gave the delivery out.
    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The group that received the delivery.
    pub(crate) fn group(&self) -> &Group {
        &self.group
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
        let handle = if handle.is_empty() { std::mem::take(&mut state.handle) } else { handle };
        *state = State::new(handle, invisible);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_handle_keeps_the_old_one() {
        let group = Arc::new(Group { namespace: String::new(), name: "g".into() });
        let lease = Lease::new("a".into(), Endpoints::from_iter([]), group, Duration::ZERO);
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
        let group = Arc::new(Group { namespace: "ns".into(), name: "g".into() });
        let lease = Lease::new("a".into(), Endpoints::from_iter([]), group, Duration::MAX);
        assert!(lease.half_time() < lease.until());
    }
}
