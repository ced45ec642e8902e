//! The counters of a port's connections, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::connection_limit::ConnectionLimit;

/// The numbers of open, accepted and refused connections of a port.
#[derive(Debug, Default)]
pub struct PortCounts {
    open: AtomicU64,
    accepted: AtomicU64,
    refused_all: AtomicU64,
    refused_peer: AtomicU64,
}

impl PortCounts {
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, limit: ConnectionLimit) {
        let counter = match limit {
            ConnectionLimit::Total => &self.refused_all,
            ConnectionLimit::PerPeer => &self.refused_peer,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of open connections.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// The number of connections accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The numbers of connections refused since the start, by the limit in `[transport]` that was reached.
    #[must_use]
    pub fn refused_by_limit(&self) -> [(&'static str, u64); 2] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("connections", load(&self.refused_all)), ("connections_per_peer", load(&self.refused_peer))]
    }
}
