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
    /// The request can't be put into a frame.
    #[error("the request can't be sent: {reason}")]
    Unsendable {
        /// Why.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to {address} broke")]
    Lost {
        /// Who.
        address: String,
        /// Whether the request may have gone out before.
        sent: bool,
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

impl CallError {
    /// Whether the peer may have carried out the request.
    pub(super) fn maybe_done(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Unsendable { .. } => false,
            Self::Lost { sent, .. } => *sent,
            Self::Timeout { .. } => true,
        }
    }
}
