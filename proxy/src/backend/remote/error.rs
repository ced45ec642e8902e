use std::time::Duration;

/// A call that brought no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The peer can't be reached: the request did not go out.
    #[error("{address} can't be reached: {reason}")]
    Connect {
        /// Who.
        address: String,
        /// Why.
        reason: String,
    },
    /// No connection came about while the caller could wait.
    #[error("no connection to {address} within {within:?}")]
    NotConnected {
        /// Who.
        address: String,
        /// How long was waited.
        within: Duration,
    },
    /// The peer does not read, and too much waits for it.
    #[error("too much waits to be sent to {address}")]
    Backlog {
        /// Who.
        address: String,
    },
    /// The request can't be put into a frame.
    #[error("the request can't be sent: {reason}")]
    Unsendable {
        /// Why.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to {address} broke{}", if *.answered { "" } else { UNHEARD })]
    Lost {
        /// Who.
        address: String,
        /// Whether the peer has ever said anything on it.
        answered: bool,
        /// Whether the request may have gone out before.
        sent: bool,
    },
    /// The peer is shutting down, and carries nothing out any more.
    #[error("{address} is shutting down")]
    ShuttingDown {
        /// Who.
        address: String,
    },
    /// No answer in time; the peer may have carried out the request.
    #[error("no answer from {address} within {within:?}")]
    Timeout {
        /// Who.
        address: String,
        /// How long was waited.
        within: Duration,
    },
}

/// What to look at when a peer takes connections and says nothing: such is one that takes TLS alone.
const UNHEARD: &str = " before it said anything; if it wants TLS, give its certificate as ca_file";

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

    /// Whether it tells something of the peer: that a caller has no time proves nothing.
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
    fn a_caller_without_patience_blames_nobody() {
        let timeout =
            |millis| CallError::Timeout { address: "b:1".to_owned(), within: Duration::from_millis(millis) };
        assert!(!timeout(3).blames_peer() && timeout(3000).blames_peer());
    }
}
