//! The error type of the client.

use std::{any::Any, error, fmt, sync::Arc};

pub use rocketmq_thin_proto::ErrorKind;
use tokio::task::JoinError;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed, and what that means for the caller.
///
/// Its `Display` is one line: the operation, the reason, and the server's code and address if there are any.
#[derive(Clone, Debug)]
pub struct Error(Box<Details>);

#[derive(Clone, Debug)]
struct Details {
    kind: ErrorKind,
    code: Option<i32>,
    retryable: bool,
    maybe_delivered: bool,
    /// Whether the request was not sent, because there was no connection.
    unreached: bool,
    /// Whether nothing listens at the address, it closes connections at once, or its host name can't be resolved.
    absent: bool,
    operation: &'static str,
    message: String,
    endpoint: Option<String>,
    request_id: Option<String>,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The server's code, such as 40402; `None` if no server answered.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.0.code
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.0.retryable
    }

    /// Whether the server may have carried out the request although it failed, for instance because its response was
    /// lost.
    #[must_use]
    pub fn maybe_delivered(&self) -> bool {
        self.0.maybe_delivered
    }

    /// The operation that failed: `connect`, `send`, `receive`, `ack`, ...
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The reason in words, as the server gave it if it did.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The address that the request was sent to, as `host:port`.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// The id of the request, by which it can be found in the server's logs.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// Creates an error that no server reported. This is for libraries on top of this crate, such as language bindings.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind,
            code: None,
            retryable: false,
            maybe_delivered: false,
            unreached: false,
            absent: false,
            operation,
            message: message.into(),
            endpoint: None,
            request_id: None,
            source: None,
        }))
    }

    pub(crate) fn closed(operation: &'static str) -> Self {
        Self::new(ErrorKind::Closed, operation, "the client, producer or consumer is closed")
    }

    /// Creates and logs the error for a panic of the client's own code. The server may have carried out the request,
    /// because it is not known how far the operation got. This is for language bindings, which catch panics, too.
    #[doc(hidden)]
    #[must_use]
    pub fn panicked(operation: &'static str, panic: &(dyn Any + Send)) -> Self {
        let message = format!("the client panicked, please report this: {}", panic_text(panic));
        tracing::error!(operation, message);
        Self::new(ErrorKind::Internal, operation, message).with_maybe_delivered()
    }

    /// A task of the client that ended without a result: it panicked, or its runtime stopped.
    pub(crate) fn of_ended_task(operation: &'static str, ended: JoinError) -> Self {
        match ended.try_into_panic() {
            Ok(panic) => Self::panicked(operation, &*panic),
            Err(_) => Self::closed(operation).with_maybe_delivered(),
        }
    }

    pub(crate) fn with_code(mut self, code: i32) -> Self {
        self.0.code = Some(code);
        self
    }

    pub(crate) fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.0.endpoint = Some(endpoint.into());
        self
    }

    pub(crate) fn with_request_id(mut self, request_id: impl Into<String>) -> Self {
        self.0.request_id = Some(request_id.into());
        self
    }

    pub(crate) fn with_source(mut self, source: impl error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_boxed_source(mut self, source: Box<dyn error::Error + Send + Sync>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets whether the same call may succeed later.
    pub(crate) fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// Marks the request as possibly carried out by the server.
    pub(crate) fn with_maybe_delivered(mut self) -> Self {
        self.0.maybe_delivered = true;
        self
    }

    /// Marks the request as not sent, because there was no connection.
    pub(crate) fn unreached(mut self) -> Self {
        self.0.unreached = true;
        self
    }

    /// Whether the request was not sent, because there was no connection.
    pub(crate) fn is_unreached(&self) -> bool {
        self.0.unreached
    }

    /// Marks the server as absent: nothing listens at the address, it closes connections at once, or its host name
    /// can't be resolved.
    pub(crate) fn absent(mut self) -> Self {
        self.0.absent = true;
        self
    }

    /// Whether nothing listens at the address, it closes connections at once, or its host name can't be resolved.
    pub(crate) fn is_absent(&self) -> bool {
        self.0.absent
    }

    /// Adds an explanation to the message.
    pub(crate) fn explained(mut self, explanation: &str) -> Self {
        self.0.message = format!("{} ({explanation})", self.0.message);
        self
    }

    /// Sets the operation to the one that the user called, of which the failed request was a part.
    pub(crate) fn during(mut self, operation: &'static str) -> Self {
        self.0.operation = operation;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { kind, code, operation, message, endpoint, .. } = &*self.0;
        // A server may write several lines; the first one is shown.
        let message = message.split(['\n', '\r']).next().unwrap_or_default();
        write!(f, "{operation} failed: {message} ({kind}")?;
        if let Some(code) = code {
            write!(f, " {code}")?;
        }
        if let Some(endpoint) = endpoint {
            write!(f, " from {endpoint}")?;
        }
        f.write_str(")")
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The text of a panic, if it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_panic_has_its_text() {
        let formatted = format!("{} of {}", 3, 2);
        for (panic, text) in [
            (Box::new("index out of bounds") as Box<dyn Any + Send>, ": index out of bounds"),
            (Box::new(formatted), ": 3 of 2"),
            (Box::new(1), ": no text"),
        ] {
            let error = Error::panicked("send", &*panic);
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Internal, "send"));
            assert!(error.message().ends_with(text) && error.maybe_delivered(), "{error}");
        }
    }

    #[test]
    fn an_error_is_shown_on_one_line() {
        let error = Error::new(ErrorKind::TopicNotFound, "send", "no such topic: x\nsee the manual")
            .with_code(40402)
            .with_endpoint("h:1");
        assert_eq!(error.to_string(), "send failed: no such topic: x (TopicNotFound 40402 from h:1)");
        let closed = "ack failed: the client, producer or consumer is closed (Closed)";
        assert_eq!(Error::closed("ack").to_string(), closed);
        assert!(error.message().contains("manual"));
    }
}
