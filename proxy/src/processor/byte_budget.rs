//! A memory budget that is shared among the hosts of clients.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::context::Host;

/// Bounds the bytes that the proxy holds for clients. There is a limit for all hosts together and a smaller one for each
/// host, so that one host can't use up the budget.
pub(super) struct ByteBudget {
    limit: usize,
    share: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    total: usize,
    by_host: HashMap<Host, usize>,
}

/// Bytes taken from a budget. They are returned on drop.
pub(super) struct TakenBytes {
    budget: Arc<ByteBudget>,
    host: Host,
    bytes: usize,
}

impl ByteBudget {
    /// A budget of `limit` bytes. One host may use a quarter of it.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, share: limit / 4, used: Mutex::default() })
    }

    /// Takes bytes for a host; `None` if this would exceed a limit.
    pub(super) fn take(self: &Arc<Self>, host: Host, bytes: usize) -> Option<TakenBytes> {
        let mut taken = TakenBytes { budget: self.clone(), host, bytes: 0 };
        taken.grow(bytes).then_some(taken)
    }

    #[cfg(test)]
    pub(super) fn hosts(&self) -> usize {
        self.used.lock().by_host.len()
    }
}

impl TakenBytes {
    /// Takes more bytes. Returns false and changes nothing if this would exceed a limit.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let mut used = self.budget.used.lock();
        let of_host = used.by_host.get(&self.host).copied().unwrap_or_default();
        if used.total + bytes > self.budget.limit || of_host + bytes > self.budget.share {
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

impl Drop for TakenBytes {
    fn drop(&mut self) {
        let mut used = self.budget.used.lock();
        used.total -= self.bytes;
        if let Some(of_host) = used.by_host.get_mut(&self.host) {
            *of_host -= self.bytes;
            if *of_host == 0 {
                used.by_host.remove(&self.host);
            }
        }
    }
}

impl std::fmt::Debug for TakenBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of {:?}", self.bytes, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_share_and_all_hosts_a_limit() {
        let budget = ByteBudget::new(400);
        let host = |name: &str| Host::Other(name.into());
        let mut first = budget.take(host("a"), 60).expect("room");
        assert!(budget.take(host("a"), 41).is_none());
        assert!(first.grow(40) && !first.grow(1));
        let others: Vec<_> = ["b", "c", "d"].map(|name| budget.take(host(name), 100)).into_iter().collect();
        assert!(others.iter().all(Option::is_some));
        assert!(budget.take(host("e"), 1).is_none());
        drop(first);
        assert!(budget.take(host("e"), 100).is_some());
        drop(others);
        assert_eq!(budget.hosts(), 0);
        assert_eq!(budget.used.lock().total, 0);
    }
}
