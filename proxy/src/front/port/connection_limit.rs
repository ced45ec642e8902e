//! The limits on the number of connections.

/// The limit because of which a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionLimit {
    /// The limit on all connections. None of the open ones is idle.
    Total,
    /// The limit on connections from the peer's address. None of the open ones is idle.
    PerPeer,
}

impl ConnectionLimit {
    /// Why the connection is refused, for logs and clients.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Total => "too many connections (transport.connections)",
            Self::PerPeer => "too many connections from this address (transport.connections_per_peer)",
        }
    }
}
