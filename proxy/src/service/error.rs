use std::fmt;

/// A failure of a backend, in domain terms. The processor turns it into an answer; a backend never knows
/// which protocol asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    /// What went wrong.
    pub kind: ServiceErrorKind,
    /// One sentence for the client's user.
    pub message: String,
}

/// What went wrong in a backend.
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
    /// A receipt handle that this backend did not make, or of something that does not exist any more.
    InvalidHandle,
    /// A filter expression that can't be parsed.
    IllegalFilter,
    /// The request is invalid for the broker.
    Rejected,
    /// The broker keeps no more lite topics.
    LiteTopicQuota,
    /// The client may not subscribe to more lite topics.
    LiteSubscriptionQuota,
    /// The broker is overloaded; the same request may succeed later.
    Busy,
    /// The backend does not offer this (see [`super::Capabilities`]).
    Unsupported,
    /// No answer in time.
    Timeout,
    /// The connection was lost before the broker answered. Possible wherever `Unavailable` is.
    Unanswered,
    /// The broker or its disk can't be used now.
    Unavailable,
    /// A defect of the backend.
    Internal,
}

impl ServiceErrorKind {
    /// Whether the broker may have carried out the request all the same.
    #[must_use]
    pub fn maybe_done(self) -> bool {
        matches!(self, Self::Timeout | Self::Unanswered)
    }
}

impl ServiceError {
    /// An error of this kind with its text.
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
