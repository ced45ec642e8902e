//! Why a request is refused, in domain terms. Each front end turns it into its protocol's answer.

use std::fmt;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

use crate::service::{ServiceError, ServiceErrorKind};

/// A refusal with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Which rule was broken, or what failed.
    pub kind: ErrorKind,
    /// One sentence for the client's user.
    pub message: String,
    /// How long the client should wait before it tries again, if that is known.
    pub retry_after: Option<Duration>,
}

/// Which rule was broken, or what failed. Its name is the text of metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorKind {
    /// The request is invalid, and no other kind applies.
    BadRequest,
    /// An invalid topic name.
    IllegalTopic,
    /// An invalid group name, or a group that is not for this client.
    IllegalGroup,
    /// A message's tag.
    IllegalTag,
    /// A message's key.
    IllegalKey,
    /// A message's group.
    IllegalMessageGroup,
    /// A property's key or value.
    IllegalPropertyKey,
    /// A message's id.
    IllegalMessageId,
    /// A filter that can't be parsed.
    IllegalFilter,
    /// An invisible time out of range.
    IllegalInvisibleTime,
    /// A delivery time too far ahead.
    IllegalDeliveryTime,
    /// The client's deadline leaves no time to wait for messages.
    IllegalPollingTime,
    /// A lite topic's name.
    IllegalLiteTopic,
    /// A receipt handle that is expired, not ours, or of another topic or group.
    InvalidHandle,
    /// A transaction id that is not ours, or is of another topic.
    InvalidTransactionId,
    /// An offset that is not in its queue.
    IllegalOffset,
    /// The group has no offset in this queue yet.
    OffsetNotFound,
    /// The topic does not take messages of this type.
    TypeMismatch,
    /// The client did not send settings, or is of a type that may not do this.
    UnknownClient,
    /// A consumer's settings from a client that is no consumer. Its code is one of the server's failures, as with Apache's
    /// proxy, though the mistake is the client's.
    NotAConsumer,
    /// Messages that can't be in one request, or none.
    Corrupted,
    /// No client id.
    ClientIdRequired,
    /// It is not known who the client is.
    Unauthorized,
    /// It is known who the client is, and that it may not do this. RocketMQ's protocols have one code for both.
    AccessDenied,
    /// The topic or group does not allow this.
    Forbidden,
    /// The topic does not exist.
    TopicNotFound,
    /// The group does not exist.
    GroupNotFound,
    /// The user of access control does not exist.
    UserNotFound,
    /// The policy of access control does not exist.
    PolicyNotFound,
    /// A body above the limit.
    BodyTooLarge,
    /// No body.
    BodyEmpty,
    /// Properties above a limit.
    PropertiesTooLarge,
    /// The topic, the group or the user exists already.
    AlreadyExists,
    /// The broker keeps no more lite topics.
    LiteTopicQuota,
    /// The client may not subscribe to more lite topics.
    LiteSubscriptionQuota,
    /// The proxy or the broker is overloaded.
    Busy,
    /// The backend failed, or can't be reached.
    Internal,
    /// Not supported.
    NotImplemented,
    /// No answer in time.
    Timeout,
}

impl Error {
    /// A refusal of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }

    /// The refusal of a topic without a route.
    #[must_use]
    pub fn topic_not_found(topic: &str) -> Self {
        let message = format!("No topic route info in name server for the topic: {topic}");
        Self::new(ErrorKind::TopicNotFound, message)
    }

    /// A backend's error in a request about this topic.
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

/// What led to an error, the nearest cause first; the error itself if nothing is said to have. Errors of connections say little
/// without their causes.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}
