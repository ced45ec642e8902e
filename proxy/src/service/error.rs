//! Errors of backends.

use std::fmt;

/// An error of a backend, independent of the client's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    /// The kind of error.
    pub kind: ServiceErrorKind,
    /// A sentence for the client's user.
    pub message: String,
}

/// The kind of a backend's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceErrorKind {
    /// The topic does not exist, and may not be created by this request.
    TopicNotFound,
    /// The group does not exist, and may not be created by this request.
    GroupNotFound,
    /// The topic or group exists already.
    AlreadyExists,
    /// The topic or group does not allow this operation.
    Forbidden,
    /// This backend did not create the receipt handle, or its delivery does not exist any more.
    InvalidHandle,
    /// The filter expression can't be parsed.
    IllegalFilter,
    /// The broker considers the request invalid.
    Rejected,
    /// The broker's limit of lite topics is reached.
    LiteTopicQuota,
    /// The client may not subscribe to more lite topics.
    LiteSubscriptionQuota,
    /// The broker is overloaded. The same request may succeed later.
    Busy,
    /// The backend does not support the operation (see [`super::Capabilities`]).
    Unsupported,
    /// The broker did not answer in time.
    Timeout,
    /// The connection was lost before the broker answered. Possible wherever `Unavailable` is.
    Unanswered,
    /// The broker or its disk is unavailable.
    Unavailable,
    /// An unexpected failure, such as an unreadable answer.
    Internal,
}

impl ServiceErrorKind {
    /// Whether the broker may have carried out the request despite the error.
    #[must_use]
    pub fn maybe_done(self) -> bool {
        matches!(self, Self::Timeout | Self::Unanswered)
    }
}

impl ServiceError {
    /// Creates an error of this kind.
    pub fn new(kind: ServiceErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServiceError {}
