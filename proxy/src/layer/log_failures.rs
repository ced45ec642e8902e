//! Logs failed requests.

use super::OperationKind;
use crate::context::Context;
use crate::error::{Error, ErrorKind};

/// Logs a failed request: refusals at debug level, failures of the server as warnings.
pub(super) fn log_failure(context: &Context, operation: OperationKind, error: &Error) {
    let Context { client_id, peer, .. } = context;
    let elapsed = context.received.elapsed();
    match error.kind {
        ErrorKind::Internal | ErrorKind::Timeout => {
            tracing::warn!(?operation, client_id, %peer, ?elapsed, %error, "request failed");
        }
        kind => tracing::debug!(?operation, client_id, %peer, ?elapsed, ?kind, %error, "request refused"),
    }
}
