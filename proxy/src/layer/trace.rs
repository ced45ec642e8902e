use super::Operation;
use crate::context::Context;
use crate::error::{Error, ErrorKind};

/// Tells the log about refusals: the client's mistakes at debug level, the server's trouble as warnings.
pub(super) fn finished<T>(context: &Context, operation: Operation, result: &Result<T, Error>) {
    let Err(error) = result else { return };
    let Context { client_id, peer, .. } = context;
    let elapsed = context.received.elapsed();
    match error.kind {
        ErrorKind::Internal | ErrorKind::Timeout => {
            tracing::warn!(?operation, client_id, %peer, ?elapsed, %error, "failed");
        }
        kind => tracing::debug!(?operation, client_id, %peer, ?elapsed, ?kind, %error, "refused"),
    }
}
