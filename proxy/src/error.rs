//! Errors of requests, independent of the protocol. Each front end converts them to its protocol's answers.

use std::fmt;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

use crate::service::{ServiceError, ServiceErrorKind};

/// The error of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind of error.
    pub kind: ErrorKind,
    /// A sentence for the client's user.
    pub message: String,
    /// How long the client should wait before it tries again; `None` if unknown.
    pub retry_after: Option<Duration>,
}

/// The kind of an error. The variants' names are used in metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorKind {
    /// The request is invalid, and no other kind applies.
    BadRequest,
    /// The topic's name is invalid.
    IllegalTopic,
    /// The group's name is invalid, the group does not exist, or it is for clients of another type.
    IllegalGroup,
    /// A message's tag is invalid.
    IllegalTag,
    /// A message's key is invalid.
    IllegalKey,
    /// A message group is invalid.
    IllegalMessageGroup,
    /// The key or value of a property is invalid.
    IllegalPropertyKey,
    /// A message's id is invalid.
    IllegalMessageId,
    /// The filter expression can't be parsed.
    IllegalFilter,
    /// The invisible time is out of range.
    IllegalInvisibleTime,
    /// The delivery time is too far in the future, or not allowed for the message.
    IllegalDeliveryTime,
    /// The client's deadline leaves no time to wait for messages.
    IllegalPollingTime,
    /// A lite topic's name is invalid.
    IllegalLiteTopic,
    /// The receipt handle has expired, was not created by this server, or is of another topic or group.
    InvalidHandle,
    /// The transaction id was not created by this server, or is of another topic.
    InvalidTransactionId,
    /// The offset is negative, or outside of the queue.
    IllegalOffset,
    /// The group has no offset in this queue yet.
    OffsetNotFound,
    /// The topic does not accept messages of this type.
    TypeMismatch,
    /// The client did not send settings, or its type does not allow this request.
    UnknownClient,
    /// A client of another type sent a consumer's settings. As with Apache's proxy, clients get the code of an internal
    /// error, although this is the client's mistake.
    NotAConsumer,
    /// The request contains no messages, or messages that can't be sent in one request.
    Corrupted,
    /// The request has no client id.
    ClientIdRequired,
    /// The client is not authenticated.
    Unauthorized,
    /// Too many wrong secrets came from the client's host. RocketMQ's protocols have the code of [`Self::Unauthorized`] for it.
    TooManyFailures,
    /// The client is authenticated, but has no right to do this. RocketMQ's protocols have one code for both.
    AccessDenied,
    /// The topic or group does not allow this operation.
    Forbidden,
    /// The topic does not exist.
    TopicNotFound,
    /// The group does not exist.
    GroupNotFound,
    /// The user of access control does not exist.
    UserNotFound,
    /// The policy of access control does not exist.
    PolicyNotFound,
    /// A message's body is too large.
    BodyTooLarge,
    /// A message has no body.
    BodyEmpty,
    /// A message's properties are too large or too many.
    PropertiesTooLarge,
    /// The topic, the group or the user exists already.
    AlreadyExists,
    /// The broker's limit of lite topics is reached.
    LiteTopicQuota,
    /// The client may not subscribe to more lite topics.
    LiteSubscriptionQuota,
    /// The proxy or the broker is overloaded.
    Busy,
    /// The backend failed, or is unavailable.
    Internal,
    /// The backend or the proxy does not support the request.
    NotImplemented,
    /// The backend did not answer in time.
    Timeout,
}

impl ErrorKind {
    /// Whether access control has refused the client.
    #[must_use]
    pub fn is_access_refusal(self) -> bool {
        matches!(self, Self::Unauthorized | Self::TooManyFailures | Self::AccessDenied)
    }
}

impl Error {
    /// Creates an error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }

    /// The error for a request whose user is not authenticated.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unauthorized, message)
    }

    /// The error for a topic without a route.
    #[must_use]
    pub fn topic_not_found(topic: &str) -> Self {
        let message = format!("No topic route info in name server for the topic: {topic}");
        Self::new(ErrorKind::TopicNotFound, message)
    }

    /// Converts a backend's error in a request about this topic.
    #[must_use]
    pub fn on_topic(error: ServiceError, topic: &str) -> Self {
        match error.kind {
            ServiceErrorKind::TopicNotFound => Self::topic_not_found(topic),
            _ => error.into(),
        }
    }
}

impl From<ServiceError> for Error {
    fn from(error: ServiceError) -> Self {
        let kind = match error.kind {
            ServiceErrorKind::TopicNotFound => ErrorKind::TopicNotFound,
            ServiceErrorKind::GroupNotFound => ErrorKind::GroupNotFound,
            ServiceErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            ServiceErrorKind::Rejected => ErrorKind::BadRequest,
            ServiceErrorKind::Forbidden => ErrorKind::Forbidden,
            ServiceErrorKind::InvalidHandle => ErrorKind::InvalidHandle,
            ServiceErrorKind::IllegalFilter => ErrorKind::IllegalFilter,
            ServiceErrorKind::LiteTopicQuota => ErrorKind::LiteTopicQuota,
            ServiceErrorKind::LiteSubscriptionQuota => ErrorKind::LiteSubscriptionQuota,
            ServiceErrorKind::Busy => ErrorKind::Busy,
            ServiceErrorKind::Unsupported => ErrorKind::NotImplemented,
            ServiceErrorKind::Timeout => ErrorKind::Timeout,
            ServiceErrorKind::Unanswered | ServiceErrorKind::Unavailable | ServiceErrorKind::Internal => {
                ErrorKind::Internal
            }
        };
        Self::new(kind, error.message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The texts of an error's causes, the nearest cause first; the text of the error itself if it has no cause. Errors of
/// connections say little without their causes.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}
