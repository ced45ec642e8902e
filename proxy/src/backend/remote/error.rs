//! Why a call to a name server or a broker got no answer.

use std::time::Duration;

/// Why a call got no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Connecting failed. The request was not sent.
    #[error("could not connect to {address}: {reason}")]
    Connect {
        /// The peer.
        address: String,
        /// The cause.
        reason: String,
    },
    /// Connecting took longer than the call's timeout. The request was not sent.
    #[error("connecting to {address} timed out after {within:?}")]
    NotConnected {
        /// The peer.
        address: String,
        /// The call's timeout.
        within: Duration,
    },
    /// The peer does not read, and too many bytes are queued for it.
    #[error("too many bytes are queued for {address}, which does not read them")]
    Backlog {
        /// The peer.
        address: String,
    },
    /// The request can't be encoded.
    #[error("the request can't be sent: {reason}")]
    Unsendable {
        /// The cause.
        reason: String,
    },
    /// The connection was lost.
    #[error("lost the connection to {address}{}", if *.answered { "" } else { NOTHING_RECEIVED })]
    Lost {
        /// The peer.
        address: String,
        /// Whether the peer had sent anything on the connection.
        answered: bool,
        /// Whether the request may have been sent.
        sent: bool,
    },
    /// The peer is shutting down, and did not carry out the request.
    #[error("{address} is shutting down")]
    ShuttingDown {
        /// The peer.
        address: String,
    },
    /// The peer did not answer in time. It may have carried out the request.
    #[error("no answer from {address} within {within:?}")]
    Timeout {
        /// The peer.
        address: String,
        /// The call's timeout.
        within: Duration,
    },
}

/// A hint for a peer that accepts connections and sends nothing. A peer that expects TLS behaves like this.
const NOTHING_RECEIVED: &str = " before it sent anything; if it expects TLS, set ca_file to its certificate";

impl CallError {
    /// Whether the peer may have carried out the request.
    pub(super) fn maybe_done(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::NotConnected { .. }
            | Self::Backlog { .. }
            | Self::Unsendable { .. }
            | Self::ShuttingDown { .. } => false,
            Self::Lost { sent, .. } => *sent,
            Self::Timeout { .. } => true,
        }
    }

    /// Whether the failure is the peer's fault. A timeout that is shorter than a peer usually needs proves nothing.
    pub(super) fn is_peer_fault(&self) -> bool {
        const MIN_TIMEOUT: Duration = Duration::from_millis(500);
        match self {
            Self::Connect { .. } | Self::Backlog { .. } | Self::Lost { .. } | Self::ShuttingDown { .. } => {
                true
            }
            Self::Unsendable { .. } => false,
            Self::NotConnected { within, .. } | Self::Timeout { within, .. } => *within >= MIN_TIMEOUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_timeout_is_not_the_peers_fault() {
        let timeout =
            |millis| CallError::Timeout { address: "b:1".to_owned(), within: Duration::from_millis(millis) };
        assert!(!timeout(3).is_peer_fault() && timeout(3000).is_peer_fault());
    }
}
