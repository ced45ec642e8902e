//! What became of a request, as one [`Error`].

use std::{error::Error as StdError, io, sync::Arc};

use rocketmq_thin_proto::{Class, classify, v2};
use tonic::{Code, ConnectError, Status, TimeoutExpired};

use super::retry;
use crate::{
    error::{Error, ErrorKind},
    options::Address,
};

/// Which request an answer belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) operation: &'static str,
    pub(crate) endpoint: Arc<str>,
    pub(crate) request_id: String,
}

/// What a status says that is no refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All was carried out.
    Done,
    /// Each entry has a status of its own.
    PerEntry,
}

impl Origin {
    /// Reads the status that every response carries.
    pub(crate) fn check(&self, status: Option<&v2::Status>) -> Result<Outcome, Error> {
        let Some(status) = status else {
            return Err(self.error(ErrorKind::Protocol, "the server sent no status").maybe());
        };
        match classify(status.code) {
            Class::Success => Ok(Outcome::Done),
            Class::PerEntry => Ok(Outcome::PerEntry),
            Class::Failure { kind, .. } => {
                let error = self.error(kind, status.message.as_str()).with_code(status.code);
                let error = error.with_retryable(retry::is_retryable(kind, Some(status.code)));
                Err(if carried_out_perhaps(status.code) { error.maybe() } else { error })
            }
        }
    }

    /// An error of this request that has no code.
    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, self.operation, message)
            .with_retryable(retry::is_retryable(kind, None))
            .with_endpoint(&*self.endpoint)
            .with_request_id(self.request_id.as_str())
    }

    /// No answer came in time.
    pub(super) fn timeout(&self) -> Error {
        self.error(ErrorKind::Timeout, "no answer came in time").maybe()
    }

    /// The request failed on its way, or was refused by gRPC itself.
    pub(crate) fn transport(&self, status: Status) -> Error {
        let cause = cause_of(&status);
        let (kind, lost) = match cause {
            Some(Cause::Tls) => (ErrorKind::Tls, false),
            Some(Cause::Connecting) => (ErrorKind::Unavailable, false),
            Some(Cause::TooSlow) => (ErrorKind::Timeout, true),
            None => kind_of(status.code()),
        };
        let message = match StdError::source(&status) {
            Some(source) => deepest(source).to_string(),
            None if status.message().is_empty() => status.code().description().to_owned(),
            None => status.message().to_owned(),
        };
        let error = self.error(kind, message).with_source(status);
        match cause {
            Some(Cause::Tls | Cause::Connecting) => error.unreached(),
            _ if lost => error.maybe(),
            _ => error,
        }
    }
}

/// A connection could not be made.
pub(super) fn of_connecting(address: &Address, error: tonic::transport::Error) -> Error {
    let kind = match cause_of(&error) {
        Some(Cause::Tls) => ErrorKind::Tls,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "connect", deepest(&error).to_string())
        .with_retryable(retry::is_retryable(kind, None))
        .with_endpoint(address.to_string())
        .with_source(error)
        .unreached()
}

/// Codes that come after the message was stored: only a copy or the disk was late.
fn carried_out_perhaps(code: i32) -> bool {
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
        // A server that ends a connection for being too busy shows so on calls that it may have carried out.
        Code::ResourceExhausted => (ErrorKind::Throttled, true),
        Code::Unimplemented => (ErrorKind::Unsupported, false),
        // Nobody here cancels a call whose answer is awaited: servers do, when the call's time is up (tonic says
        // so in words, Apache's proxy resets the stream).
        Code::DeadlineExceeded | Code::Cancelled => (ErrorKind::Timeout, true),
        // A broken connection shows as any of these, depending on when and how it broke.
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Aborted => (ErrorKind::Unavailable, true),
        Code::Ok | Code::AlreadyExists | Code::DataLoss => (ErrorKind::Protocol, true),
    }
}

#[derive(Clone, Copy)]
enum Cause {
    Tls,
    Connecting,
    TooSlow,
}

fn cause_of(error: &(dyn StdError + 'static)) -> Option<Cause> {
    let mut connecting = false;
    let mut next = Some(error);
    while let Some(error) = next {
        if is_tls(error) {
            return Some(Cause::Tls);
        }
        if error.is::<TimeoutExpired>() {
            return Some(Cause::TooSlow);
        }
        connecting |= error.is::<ConnectError>();
        next = error.source();
    }
    connecting.then_some(Cause::Connecting)
}

fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    error.is::<rustls::Error>()
        || error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .is_some_and(|inner| inner.is::<rustls::Error>())
}

/// The last link of the chain: what really happened, such as "connection refused".
fn deepest<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { operation: "send", endpoint: "h:1".into(), request_id: "r".into() }
    }

    fn status(code: i32) -> v2::Status {
        v2::Status { code, message: "text".into() }
    }

    #[test]
    fn a_refusal_keeps_all_that_the_server_said() {
        let error = origin().check(Some(&status(40402))).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::TopicNotFound, Some(40402)));
        assert_eq!((error.message(), error.endpoint(), error.request_id()), ("text", Some("h:1"), Some("r")));
        assert!(!error.retryable() && !error.maybe_delivered());
    }

    #[test]
    fn codes_say_whether_to_repeat_and_whether_it_happened() {
        for (code, retryable, maybe) in [
            (40015, true, false),
            (40100, false, false),
            (42900, true, false),
            (50001, true, false),
            (50401, true, true),
            (50002, true, true),
            (50500, false, false),
        ] {
            let error = origin().check(Some(&status(code))).unwrap_err();
            assert_eq!((error.retryable(), error.maybe_delivered()), (retryable, maybe), "{code}");
        }
    }

    #[test]
    fn success_is_told_from_mixed_results_and_from_silence() {
        assert_eq!(origin().check(Some(&status(20000))).unwrap(), Outcome::Done);
        assert_eq!(origin().check(Some(&status(30000))).unwrap(), Outcome::PerEntry);
        assert_eq!(origin().check(None).unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[test]
    fn a_lost_answer_may_have_been_delivered_and_a_refusal_not() {
        let lost = origin().transport(Status::unavailable("connection reset"));
        assert!(lost.maybe_delivered() && lost.retryable());
        let late = origin().transport(Status::cancelled("Timeout expired"));
        assert_eq!(late.kind(), ErrorKind::Timeout);
        assert!(late.maybe_delivered() && late.retryable());
        let refused = origin().transport(Status::unauthenticated("who?"));
        assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
        assert!(!refused.maybe_delivered() && !refused.retryable());
    }
}
