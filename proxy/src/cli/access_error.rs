//! Why `user` or `acl` failed.

use std::io;

use thiserror::Error;

use crate::error::Error as Refusal;
use crate::front::grpc::RemoteError;
use crate::layer::AccessError;

/// Why a command failed.
#[derive(Debug, Error)]
pub(super) enum AccessCommandError {
    /// The file can't be read or written, or its content would be invalid.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The change is refused: a user or policy does not exist, exists already, or is invalid.
    #[error(transparent)]
    Wrong(#[from] Refusal),
    /// The proxy can't be reached, or refuses the request.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Standard input is empty.
    #[error("standard input contains no secret; expected one line")]
    NoSecret,
    /// Reading standard input or writing standard output fails.
    #[error(transparent)]
    System(#[from] io::Error),
}
