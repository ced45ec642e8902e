//! Maps error kinds to the codes of the remoting protocol. No other code does this.

use crate::error::ErrorKind;
use crate::remoting::response;
use crate::service::Persistence;

/// The code of a refusal.
pub(super) fn code(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::BadRequest
        | ErrorKind::IllegalTopic
        | ErrorKind::IllegalGroup
        | ErrorKind::IllegalInvisibleTime
        | ErrorKind::IllegalPollingTime
        | ErrorKind::ClientIdRequired
        | ErrorKind::UnknownClient
        | ErrorKind::NotAConsumer => response::INVALID_PARAMETER,
        ErrorKind::IllegalTag
        | ErrorKind::IllegalKey
        | ErrorKind::IllegalMessageGroup
        | ErrorKind::IllegalPropertyKey
        | ErrorKind::IllegalMessageId
        | ErrorKind::IllegalDeliveryTime
        | ErrorKind::IllegalLiteTopic
        | ErrorKind::TypeMismatch
        | ErrorKind::Corrupted
        | ErrorKind::BodyTooLarge
        | ErrorKind::BodyEmpty
        | ErrorKind::PropertiesTooLarge => response::MESSAGE_ILLEGAL,
        ErrorKind::IllegalFilter => response::SUBSCRIPTION_PARSE_FAILED,
        ErrorKind::InvalidHandle => response::INVALID_PARAMETER,
        ErrorKind::IllegalOffset => response::PULL_OFFSET_MOVED,
        ErrorKind::OffsetNotFound => response::QUERY_NOT_FOUND,
        ErrorKind::Forbidden
        | ErrorKind::Unauthorized
        | ErrorKind::TooManyFailures
        | ErrorKind::AccessDenied => response::NO_PERMISSION,
        ErrorKind::TopicNotFound => response::TOPIC_NOT_EXIST,
        ErrorKind::UserNotFound => response::USER_NOT_EXIST,
        ErrorKind::PolicyNotFound => response::POLICY_NOT_EXIST,
        ErrorKind::GroupNotFound => response::SUBSCRIPTION_GROUP_NOT_EXIST,
        ErrorKind::AlreadyExists => response::TOPIC_EXIST_ALREADY,
        ErrorKind::LiteTopicQuota => response::LMQ_QUOTA_EXCEEDED,
        ErrorKind::LiteSubscriptionQuota => response::LITE_SUBSCRIPTION_QUOTA_EXCEEDED,
        ErrorKind::Busy => response::SYSTEM_BUSY,
        ErrorKind::NotImplemented => response::REQUEST_CODE_NOT_SUPPORTED,
        ErrorKind::InvalidTransactionId | ErrorKind::Internal | ErrorKind::Timeout => response::SYSTEM_ERROR,
    }
}

/// The code of the answer to a send whose message was stored. Clients convert it to their `SendStatus`.
pub(super) fn of_persistence(persistence: Persistence) -> i32 {
    match persistence {
        Persistence::Done => response::SUCCESS,
        Persistence::MasterTimeout => response::FLUSH_DISK_TIMEOUT,
        Persistence::ReplicaTimeout => response::FLUSH_SLAVE_TIMEOUT,
        Persistence::NoReplica => response::SLAVE_NOT_AVAILABLE,
    }
}
