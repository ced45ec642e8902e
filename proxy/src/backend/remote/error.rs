use std::time::Duration;

/// A call that got no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The peer can't be reached. The request was not sent.
    #[error("{address} can't be reached: {reason}")]
    Connect {
        /// The peer.
        address: String,
        /// Why.
        reason: String,
    },
    /// Connecting took longer than the caller waits.
    #[error("connecting to {address} timed out after {within:?}")]
    NotConnected {
        /// The peer.
        address: String,
        /// How long was waited.
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
        /// Why.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to {address} broke{}", if *.answered { "" } else { NOTHING_RECEIVED })]
    Lost {
        /// The peer.
        address: String,
        /// Whether the peer has ever sent anything on it.
        answered: bool,
        /// Whether the request may have been sent before.
        sent: bool,
    },
    /// The peer is shutting down, and did not carry out the request.
    #[error("{address} is shutting down")]
    ShuttingDown {
        /// The peer.
        address: String,
    },
    /// No answer in time; the peer may have carried out the request.
    #[error("no answer from {address} within {within:?}")]
    Timeout {
        /// The peer.
        address: String,
        /// How long was waited.
        within: Duration,
    },
}

/// A hint for a peer that accepts connections and sends nothing, as one does that expects TLS.
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

    /// Whether the peer is to blame: a timeout of an impatient caller proves nothing.
    pub(super) fn blames_peer(&self) -> bool {
        const PATIENCE: Duration = Duration::from_millis(500);
        match self {
            Self::Connect { .. } | Self::Backlog { .. } | Self::Lost { .. } | Self::ShuttingDown { .. } => {
                true
            }
            Self::Unsendable { .. } => false,
            Self::NotConnected { within, .. } | Self::Timeout { within, .. } => *within >= PATIENCE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impatient_caller_blames_nobody() {
        let timeout =
            |millis| CallError::Timeout { address: "b:1".to_owned(), within: Duration::from_millis(millis) };
        assert!(!timeout(3).blames_peer() && timeout(3000).blames_peer());
    }
}
