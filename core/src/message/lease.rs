//! The client's hold on a delivery.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::options::Endpoints;

/// What settles a delivery: the newest handle, how long it is good for, and where it has to go.
///
/// Clones of a delivery share one lease, so that a handle renewed through one is used by all.
#[derive(Debug)]
pub(crate) struct Lease {
    hold: Mutex<Hold>,
    endpoints: Endpoints,
}

#[derive(Debug)]
struct Hold {
    handle: String,
    until: Instant,
}

impl Lease {
    pub(crate) fn new(handle: String, endpoints: Endpoints, until: Instant) -> Self {
        Self { hold: Mutex::new(Hold { handle, until }), endpoints }
    }

    /// The server that gave the delivery out.
    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub(crate) fn handle(&self) -> String {
        self.hold.lock().handle.clone()
    }

    /// When the delivery becomes visible to others.
    pub(crate) fn until(&self) -> Instant {
        self.hold.lock().until
    }

    /// Takes the answer to a changed invisible time. A server that sends no new handle means the old one.
    pub(crate) fn renew(&self, handle: String, invisible: Duration) {
        let mut hold = self.hold.lock();
        if !handle.is_empty() {
            hold.handle = handle;
        }
        hold.until = crate::options::deadline(Instant::now(), invisible);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_handle_keeps_the_old_one() {
        let lease = Lease::new("a".into(), Endpoints::from_iter([]), Instant::now());
        lease.renew(String::new(), Duration::from_secs(9));
        assert_eq!(lease.handle(), "a");
        lease.renew("b".into(), Duration::from_secs(9));
        assert_eq!(lease.handle(), "b");
        assert!(lease.until() > Instant::now());
    }
}
