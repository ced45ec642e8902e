//! A memory budget that is shared among the hosts of clients.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::context::Host;
use crate::counts;
use crate::host_share::exceeds_share;

/// Bounds the bytes that the proxy holds for clients. A /64 network of IPv6 counts as one host.
pub(super) struct HostBudget {
    limit: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    total: usize,
    by_host: HashMap<Host, usize>,
}

/// Bytes taken from a budget. They are returned on drop.
pub(super) struct Reservation {
    budget: Arc<HostBudget>,
    host: Host,
    bytes: usize,
}

impl HostBudget {
    /// A budget of `limit` bytes, of which each host has a share ([`exceeds_share`]).
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: Mutex::default() })
    }

    /// Takes bytes for a host; `None` if this would exceed a limit.
    pub(super) fn take(self: &Arc<Self>, host: Host, bytes: usize) -> Option<Reservation> {
        let mut taken = Reservation { budget: self.clone(), host: host.network(), bytes: 0 };
        taken.grow(bytes).then_some(taken)
    }

    #[cfg(test)]
    pub(super) fn hosts(&self) -> usize {
        self.used.lock().by_host.len()
    }
}

impl Reservation {
    /// Takes more bytes. Returns false and changes nothing if this would exceed a limit.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let mut used = self.budget.used.lock();
        let of_host = used.by_host.get(&self.host).copied().unwrap_or_default();
        let (total, of_host, limit) = (used.total + bytes, of_host + bytes, self.budget.limit);
        if total > limit || exceeds_share(total, of_host, limit) {
            return false;
        }
        used.total += bytes;
        if bytes > 0 {
            *used.by_host.entry(self.host.clone()).or_default() += bytes;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut used = self.budget.used.lock();
        used.total -= self.bytes;
        counts::subtract(&mut used.by_host, &self.host, self.bytes);
    }
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of {:?}", self.bytes, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_share_and_all_hosts_a_limit() {
        let budget = HostBudget::new(400);
        let host = |name: &str| Host::Other(name.into());
        let mut first = budget.take(host("a"), 300).expect("room");
        assert!(budget.take(host("a"), 51).is_none(), "the last eighth is for others");
        assert!(first.grow(50) && !first.grow(1));
        let second = budget.take(host("b"), 50).expect("less than a share");
        assert!(budget.take(host("c"), 1).is_none());
        drop((first, second));
        let others: Vec<_> = ["b", "c", "d", "e"].map(|name| budget.take(host(name), 100)).into();
        assert!(others.iter().all(Option::is_some));
        assert!(budget.take(host("f"), 1).is_none());
        drop(others);
        assert_eq!(budget.hosts(), 0);
        assert_eq!(budget.used.lock().total, 0);
    }
}
