//! Why a subcommand that administers a running proxy failed.

use std::path::PathBuf;

use thiserror::Error;

use crate::front::grpc::RemoteError;

/// Why a subcommand failed.
#[derive(Debug, Error)]
pub(super) enum AdminError {
    /// The proxy can't be reached, or refuses the request.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a valid declaration.
    #[error("{}: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The position and the cause.
        reason: String,
    },
    /// A topic, group, queue or message does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// The arguments contradict the state of the topic; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// The group has no dead letters.
    #[error("group {0} has no dead letters")]
    NoDeadLetters(String),
    /// Some dead letters could not be resent.
    #[error("{0} dead letters could not be sent; the command can be repeated after a minute")]
    NotSent(usize),
    /// Resending ended before all dead letters were read.
    #[error("{0}; the command can be repeated")]
    EndedEarly(String),
    /// The answer can't be printed.
    #[error("cannot print the answer: {0}")]
    Print(#[from] std::io::Error),
}
