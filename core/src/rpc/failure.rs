//! Turns the failure of a request, and the status of a response, into an [`Error`].

use std::{error::Error as StdError, fmt, sync::Arc};

use rocketmq_thin_proto::{Class, classify, v2};
use tonic::{Code, Status, codegen::http::StatusCode};

use super::retry;
use crate::error::{Error, ErrorKind};

/// The failure of a request that got no gRPC response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallFailure {
    /// The connection was closed before the request was sent.
    NotSent,
    /// The connection was closed because the server had stopped answering.
    Replaced,
    /// The response is not from a gRPC server, but for instance from a gateway.
    Http { status: StatusCode, content_type: String },
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => f.write_str("the connection was closed before the request was sent"),
            Self::Replaced => f.write_str("the server stopped answering on this connection"),
            Self::Http { status, content_type } => {
                write!(f, "HTTP status {status}")?;
                if !content_type.is_empty() {
                    write!(f, " with content type {content_type}")?;
                }
                f.write_str(" instead of a gRPC answer: a gateway answered, or this is not a gRPC server")
            }
        }
    }
}

impl StdError for CallFailure {}

/// The request that a response belongs to.
#[derive(Clone, Debug)]
pub(crate) struct CallContext {
    pub(crate) operation: &'static str,
    pub(crate) endpoint: Arc<str>,
    pub(crate) request_id: String,
}

/// The meaning of a status that is not a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The whole request was carried out.
    Done,
    /// Each entry has a status of its own.
    PerEntry,
}

impl CallContext {
    /// Checks the status of a response.
    pub(crate) fn check(&self, status: Option<&v2::Status>) -> Result<Outcome, Error> {
        let Some(status) = status else {
            return Err(self.error(ErrorKind::Protocol, "the server sent no status").with_maybe_delivered());
        };
        match classify(status.code) {
            Class::Success => Ok(Outcome::Done),
            Class::PerEntry => Ok(Outcome::PerEntry),
            Class::Failure { kind, .. } => {
                let error = self.error(kind, status.message.as_str()).with_code(status.code);
                let error =
                    error.with_retryable(retry::is_retryable(self.operation, kind, Some(status.code)));
                Err(if may_be_stored(status.code) { error.with_maybe_delivered() } else { error })
            }
        }
    }

    /// An error of this request without a code.
    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, self.operation, message)
            .with_retryable(retry::is_retryable(self.operation, kind, None))
            .with_endpoint(&*self.endpoint)
            .with_request_id(self.request_id.as_str())
    }

    /// The error if the server did not answer in time.
    pub(super) fn timeout(&self) -> Error {
        self.error(ErrorKind::Timeout, "the server did not answer in time").with_maybe_delivered()
    }

    /// The error of a request that failed with a gRPC status: in transport, or refused by gRPC itself.
    pub(crate) fn transport(&self, status: Status) -> Error {
        let failure = call_failure(&status);
        let refused = failure.is_none() && was_refused(&status);
        let (kind, maybe) = match failure {
            Some(CallFailure::NotSent) => (ErrorKind::Unavailable, false),
            Some(CallFailure::Replaced) => (ErrorKind::Unavailable, true),
            Some(CallFailure::Http { status, .. }) => kind_of_http(*status),
            // A server or a gateway answers with this code before it carries the request out.
            None if status.code() == Code::ResourceExhausted && is_answer(&status) => {
                (ErrorKind::Throttled, false)
            }
            None if refused => (ErrorKind::Unavailable, false),
            None => kind_of(status.code()),
        };
        let unreached = refused || failure == Some(&CallFailure::NotSent);
        let message = match StdError::source(&status) {
            Some(source) => root_cause(source).to_string(),
            None if status.message().is_empty() => status.code().description().to_owned(),
            None => status.message().to_owned(),
        };
        let error = self.error(kind, message).with_source(status);
        let error = if unreached { error.unreached() } else { error };
        if maybe { error.with_maybe_delivered() } else { error }
    }
}

/// Whether the server, or a gateway, sent this status.
pub(super) fn is_answer(status: &Status) -> bool {
    StdError::source(status).is_none() || matches!(call_failure(status), Some(CallFailure::Http { .. }))
}

/// Whether the server reset the stream of the request before it processed anything of it.
fn was_refused(status: &Status) -> bool {
    let sources = std::iter::successors(StdError::source(status), |error: &&(dyn StdError + 'static)| {
        (*error).source()
    });
    sources.filter_map(|error| error.downcast_ref::<h2::Error>()).any(|error| {
        error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

fn call_failure(status: &Status) -> Option<&CallFailure> {
    StdError::source(status).and_then(|source| source.downcast_ref())
}

/// Whether the server may have stored the message. With these codes, only replication or the disk was too slow.
fn may_be_stored(code: i32) -> bool {
    [
        v2::Code::RequestTimeout,
        v2::Code::HaNotAvailable,
        v2::Code::ProxyTimeout,
        v2::Code::MasterPersistenceTimeout,
        v2::Code::SlavePersistenceTimeout,
    ]
    .contains(&v2::Code::try_from(code).unwrap_or_default())
}

/// The kind of a gRPC code, and whether the request may have been carried out.
fn kind_of(code: Code) -> (ErrorKind, bool) {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => {
            (ErrorKind::InvalidArgument, false)
        }
        Code::Unauthenticated => (ErrorKind::Unauthenticated, false),
        Code::PermissionDenied => (ErrorKind::PermissionDenied, false),
        Code::NotFound => (ErrorKind::NotFound, false),
        // Calls also fail with this code when a server closes the connection of a client that sends too many requests. The
        // server may have carried them out.
        Code::ResourceExhausted => (ErrorKind::Throttled, true),
        Code::Unimplemented => (ErrorKind::Unsupported, false),
        // Servers cancel a call at its deadline: tonic with a message, Apache's proxy by resetting the stream.
        Code::DeadlineExceeded | Code::Cancelled => (ErrorKind::Timeout, true),
        // Any of these can mean a broken connection, depending on when and how it broke.
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Aborted => (ErrorKind::Unavailable, true),
        Code::Ok | Code::AlreadyExists | Code::DataLoss => (ErrorKind::Protocol, true),
    }
}

/// The kind of an HTTP status, and whether the request may have been carried out. Follows gRPC's table for the statuses
/// that it lists. Redirects and other client errors are permanent.
fn kind_of_http(status: StatusCode) -> (ErrorKind, bool) {
    match status {
        StatusCode::UNAUTHORIZED => (ErrorKind::Unauthenticated, false),
        StatusCode::FORBIDDEN => (ErrorKind::PermissionDenied, false),
        StatusCode::NOT_FOUND => (ErrorKind::Unsupported, false),
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorKind::TooLarge, false),
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Unavailable, false),
        // A gateway may have passed the request on.
        status if status.is_server_error() => (ErrorKind::Unavailable, true),
        _ => (ErrorKind::Protocol, false),
    }
}

/// The last error of a chain, which has the actual cause, such as "connection refused".
pub(super) fn root_cause<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> CallContext {
        CallContext { operation: "send", endpoint: "h:1".into(), request_id: "r".into() }
    }

    fn status(code: i32) -> v2::Status {
        v2::Status { code, message: "text".into() }
    }

    #[test]
    fn a_refusal_has_the_message_of_the_server() {
        let error = call().check(Some(&status(40402))).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::TopicNotFound, Some(40402)));
        assert_eq!((error.message(), error.endpoint(), error.request_id()), ("text", Some("h:1"), Some("r")));
        assert!(!error.retryable() && !error.maybe_delivered());
    }

    #[test]
    fn codes_decide_about_retries_and_whether_the_request_may_be_carried_out() {
        for (code, retryable, maybe) in [
            (40015, true, false),
            (40100, false, false),
            (42900, true, false),
            (50001, true, false),
            (50401, true, true),
            (50002, true, true),
            (50500, false, false),
        ] {
            let error = call().check(Some(&status(code))).unwrap_err();
            assert_eq!((error.retryable(), error.maybe_delivered()), (retryable, maybe), "{code}");
        }
    }

    #[test]
    fn success_differs_from_mixed_results_and_from_a_missing_status() {
        assert_eq!(call().check(Some(&status(20000))).unwrap(), Outcome::Done);
        assert_eq!(call().check(Some(&status(30000))).unwrap(), Outcome::PerEntry);
        assert_eq!(call().check(None).unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[test]
    fn an_http_status_decides_the_kind() {
        for (status, kind, retryable, maybe) in [
            (404, ErrorKind::Unsupported, false, false),
            (413, ErrorKind::TooLarge, false, false),
            (429, ErrorKind::Unavailable, true, false),
            (502, ErrorKind::Unavailable, true, true),
            (503, ErrorKind::Unavailable, true, true),
            (400, ErrorKind::Protocol, false, false),
            (200, ErrorKind::Protocol, false, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = CallFailure::Http { status, content_type: "text/html".into() };
            let status_of_grpc = Status::from_error(Box::new(failure));
            assert!(is_answer(&status_of_grpc));
            let error = call().transport(status_of_grpc);
            assert_eq!((error.kind(), error.retryable(), error.maybe_delivered()), (kind, retryable, maybe));
            assert!(error.message().contains(status.as_str()), "{error}");
        }
    }

    #[test]
    fn a_lost_answer_may_have_been_delivered_but_a_refusal_was_not() {
        let lost = call().transport(Status::unavailable("connection reset"));
        assert!(lost.maybe_delivered() && lost.retryable());
        let late = call().transport(Status::cancelled("Timeout expired"));
        assert_eq!(late.kind(), ErrorKind::Timeout);
        assert!(late.maybe_delivered() && late.retryable());
        let refused = call().transport(Status::unauthenticated("who?"));
        assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
        assert!(!refused.maybe_delivered() && !refused.retryable());
        let throttled = call().transport(Status::resource_exhausted("too many requests"));
        assert!(!throttled.maybe_delivered() && throttled.retryable());
        let broken = Status::from_error(Box::new(h2::Error::from(h2::Reason::ENHANCE_YOUR_CALM)));
        let broken = call().transport(broken);
        assert_eq!(broken.kind(), ErrorKind::Throttled);
        assert!(broken.maybe_delivered() && broken.retryable());
    }
}
