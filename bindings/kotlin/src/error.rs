//! Errors of the core, as uniffi records.

use rocketmq_thin_bridge::{self as core, Error};

/// Defines the same kinds as the core. Kinds of the core that are not listed are converted to `Internal`.
macro_rules! kinds {
    ($($kind:ident)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
        pub(crate) enum ErrorKind {
            $($kind),*
        }

        impl From<core::ErrorKind> for ErrorKind {
            fn from(kind: core::ErrorKind) -> Self {
                match kind {
                    $(core::ErrorKind::$kind => Self::$kind,)*
                    _ => Self::Internal,
                }
            }
        }
    };
}

kinds! {
    InvalidArgument Unauthenticated PermissionDenied TopicNotFound GroupNotFound NotFound TypeMismatch
    InvalidReceipt TooLarge Throttled Unavailable Unsupported Timeout Protocol InvalidOptions Tls Closed Internal
}

/// An error of the core.
#[derive(Debug, uniffi::Record)]
pub(crate) struct Failure {
    kind: ErrorKind,
    code: Option<i32>,
    retryable: bool,
    maybe_delivered: bool,
    operation: String,
    /// The reason, without the operation, kind, code and endpoint.
    reason: String,
    /// Operation, reason, kind, code and endpoint on one line.
    summary: String,
    endpoint: Option<String>,
    request_id: Option<String>,
    /// The texts of the chain of causes, outermost first.
    causes: Vec<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind().into(),
            code: error.code(),
            retryable: error.retryable(),
            maybe_delivered: error.maybe_delivered(),
            operation: error.operation().into(),
            reason: error.message().to_owned(),
            summary: error.to_string(),
            endpoint: error.endpoint().map(Into::into),
            request_id: error.request_id().map(Into::into),
            causes: core::causes(&error).collect(),
        }
    }
}
