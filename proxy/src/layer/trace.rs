use super::OperationKind;
use crate::context::Context;
use crate::error::{Error, ErrorKind};

/// Logs a failed request: the client's mistakes at debug level, the server's failures as warnings.
pub(super) fn failed(context: &Context, operation: OperationKind, error: &Error) {
    let Context { client_id, peer, .. } = context;
    let elapsed = context.received.elapsed();
    match error.kind {
        ErrorKind::Internal | ErrorKind::Timeout => {
            tracing::warn!(?operation, client_id, %peer, ?elapsed, %error, "failed");
        }
        kind => tracing::debug!(?operation, client_id, %peer, ?elapsed, ?kind, %error, "refused"),
    }
}
