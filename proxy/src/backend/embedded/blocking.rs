//! Runs work that reads or writes the disk on blocking threads.

use tokio::task::spawn_blocking;

use super::clock;
use crate::service::{ServiceError, ServiceErrorKind};

/// Runs `work` on a thread that may block.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, ServiceError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ServiceError> + Send + 'static,
{
    spawn_blocking(clock::inherited(work)).await.unwrap_or_else(|error| {
        Err(ServiceError::new(ServiceErrorKind::Internal, format!("a task of the broker failed: {error}")))
    })
}
