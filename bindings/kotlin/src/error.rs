use rocketmq_thin_bridge::Error;

type ErrorKind = rocketmq_thin_bridge::ErrorKind;

// The kinds by name, checked against the original by both compilers.
#[uniffi::remote(Enum)]
pub(crate) enum ErrorKind {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    TopicNotFound,
    GroupNotFound,
    NotFound,
    TypeMismatch,
    InvalidReceipt,
    TooLarge,
    Throttled,
    Unavailable,
    Unsupported,
    Timeout,
    Protocol,
    InvalidOptions,
    Tls,
    Closed,
    Internal,
}

/// An error of the core with all that it tells.
#[derive(Debug, uniffi::Record)]
pub(crate) struct Failure {
    kind: ErrorKind,
    code: Option<i32>,
    retryable: bool,
    maybe_delivered: bool,
    operation: String,
    detail: String,
    endpoint: Option<String>,
    request_id: Option<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            code: error.code(),
            retryable: error.retryable(),
            maybe_delivered: error.maybe_delivered(),
            operation: error.operation().into(),
            detail: error.to_string(),
            endpoint: error.endpoint().map(Into::into),
            request_id: error.request_id().map(Into::into),
        }
    }
}
