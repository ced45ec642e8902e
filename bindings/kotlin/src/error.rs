use rocketmq_thin_bridge::Error;

type ErrorKind = rocketmq_thin_bridge::ErrorKind;

// The same kinds as in the core; the compilers check that none is missing.
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

/// An error of the core.
#[derive(Debug, uniffi::Record)]
pub(crate) struct Failure {
    kind: ErrorKind,
    code: Option<i32>,
    retryable: bool,
    maybe_delivered: bool,
    operation: String,
    /// The reason alone.
    reason: String,
    /// Operation, reason, kind, code and endpoint on one line.
    summary: String,
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
            reason: error.message().to_owned(),
            summary: error.to_string(),
            endpoint: error.endpoint().map(Into::into),
            request_id: error.request_id().map(Into::into),
        }
    }
}
