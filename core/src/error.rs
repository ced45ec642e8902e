//! The one error type.

use std::{error, fmt, sync::Arc};

pub use rocketmq_thin_proto::ErrorKind;

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
    /// Whether there was no connection to send the request over.
    unreached: bool,
    /// Whether nobody listens at the address, it closes connections at once, or its host name is not known.
    absent: bool,
    operation: &'static str,
    message: String,
    endpoint: Option<String>,
    request_id: Option<String>,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The server's code, such as 40402; `None` when no server answered.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.0.code
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.0.retryable
    }

    /// Whether the server may have carried out the request although it failed, for instance because its answer was
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

    /// The reason in words: the server's own, if it gave one.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The address that was asked, as `host:port`.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// The id of the request, for a search in the server's logs.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// An error that no server reported, for crates that build on this one, such as a language binding.
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
        Self::new(ErrorKind::Closed, operation, "it is closed")
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

    /// Whether the same call may succeed later.
    pub(crate) fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// Marks that the server may have carried out the request.
    pub(crate) fn maybe(mut self) -> Self {
        self.0.maybe_delivered = true;
        self
    }

    /// Marks that there was no connection to send the request over.
    pub(crate) fn unreached(mut self) -> Self {
        self.0.unreached = true;
        self
    }

    /// Whether there was no connection to send the request over.
    pub(crate) fn is_unreached(&self) -> bool {
        self.0.unreached
    }

    /// Marks that nobody listens at the address, that it closes connections at once, or that its host name is not known.
    pub(crate) fn absent(mut self) -> Self {
        self.0.absent = true;
        self
    }

    /// Whether nobody listens at the address, it closes connections at once, or its host name is not known.
    pub(crate) fn is_absent(&self) -> bool {
        self.0.absent
    }

    /// Adds an explanation to the message.
    pub(crate) fn explained(mut self, explanation: &str) -> Self {
        self.0.message = format!("{} ({explanation})", self.0.message);
        self
    }

    /// Sets the operation that the user called, if a step of it failed.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_on_one_line() {
        let error = Error::new(ErrorKind::TopicNotFound, "send", "no such topic: x\nsee the manual")
            .with_code(40402)
            .with_endpoint("h:1");
        assert_eq!(error.to_string(), "send failed: no such topic: x (TopicNotFound 40402 from h:1)");
        assert_eq!(Error::closed("ack").to_string(), "ack failed: it is closed (Closed)");
        assert!(error.message().contains("manual"));
    }
}
