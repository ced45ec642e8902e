use std::fmt;

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

/// Why an operation could not even be started.
#[derive(Debug, uniffi::Error)]
pub(crate) enum Refusal {
    /// The only reason there is.
    NotStarted {
        /// The core's error.
        failure: Failure,
    },
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::NotStarted { failure: error.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::NotStarted { failure } = self;
        f.write_str(&failure.detail)
    }
}
