use std::future::Future;

use super::Operation;
use crate::context::Context;
use crate::error::{Error, ErrorKind};

/// Tells the log about refusals: the client's mistakes at debug level, the server's trouble as warnings.
pub(super) async fn run<T>(
    context: &Context,
    operation: Operation,
    next: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let result = next.await;
    if let Err(error) = &result {
        let Context { client_id, peer, .. } = context;
        let elapsed = context.received.elapsed();
        match error.kind {
            ErrorKind::Internal | ErrorKind::Timeout => {
                tracing::warn!(?operation, client_id, %peer, ?elapsed, %error, "failed");
            }
            kind => tracing::debug!(?operation, client_id, %peer, ?elapsed, ?kind, %error, "refused"),
        }
    }
    result
}
