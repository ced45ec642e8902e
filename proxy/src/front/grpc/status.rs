//! Maps error kinds to the codes of the contract, and builds the status of an answer. No other code does this.

use rocketmq_thin_proto::v2 as pb;

use crate::error::{Error, ErrorKind};
use crate::service::Persistence;

/// The status of a successful request.
pub(super) fn ok() -> pb::Status {
    pb::Status { code: pb::Code::Ok.into(), message: "OK".to_owned() }
}

/// The status of a refusal.
pub(super) fn of(error: &Error) -> pb::Status {
    let message = match error.kind {
        // The text is that of Apache's proxy, which clients show to their users.
        ErrorKind::TopicNotFound => format!(
            "CODE: 17  DESC: {}\nFor more information, please visit the url, \
             https://rocketmq.apache.org/docs/bestPractice/06FAQ",
            error.message
        ),
        _ => error.message.clone(),
    };
    pb::Status { code: code(error.kind).into(), message }
}

/// The status of a stored message. As with Apache's proxy, it differs from OK if the message is stored less durably
/// than configured.
pub(super) fn of_persistence(persistence: Persistence) -> pb::Status {
    let (code, send_status) = match persistence {
        Persistence::Done => return ok(),
        Persistence::MasterTimeout => (pb::Code::MasterPersistenceTimeout, "FLUSH_DISK_TIMEOUT"),
        Persistence::ReplicaTimeout => (pb::Code::SlavePersistenceTimeout, "FLUSH_SLAVE_TIMEOUT"),
        Persistence::NoReplica => (pb::Code::HaNotAvailable, "SLAVE_NOT_AVAILABLE"),
    };
    pb::Status { code: code.into(), message: format!("send message failed, sendStatus={send_status}") }
}

/// The status of an answer with entries: the code of all entries if it is the same, or `MULTIPLE_RESULTS`.
pub(super) fn of_entries<'a>(mut entries: impl Iterator<Item = &'a pb::Status>) -> pb::Status {
    let first = entries.next().map_or(pb::Code::Unspecified, pb::Status::code);
    let code = if entries.all(|status| status.code() == first) { first } else { pb::Code::MultipleResults };
    pb::Status { code: code.into(), message: code.as_str_name().to_owned() }
}

/// The code of a refusal.
pub(super) fn code(kind: ErrorKind) -> pb::Code {
    match kind {
        ErrorKind::BadRequest | ErrorKind::AlreadyExists => pb::Code::BadRequest,
        ErrorKind::IllegalTopic => pb::Code::IllegalTopic,
        ErrorKind::IllegalGroup => pb::Code::IllegalConsumerGroup,
        ErrorKind::IllegalTag => pb::Code::IllegalMessageTag,
        ErrorKind::IllegalKey => pb::Code::IllegalMessageKey,
        ErrorKind::IllegalMessageGroup => pb::Code::IllegalMessageGroup,
        ErrorKind::IllegalPropertyKey => pb::Code::IllegalMessagePropertyKey,
        ErrorKind::IllegalMessageId => pb::Code::IllegalMessageId,
        ErrorKind::IllegalFilter => pb::Code::IllegalFilterExpression,
        ErrorKind::IllegalInvisibleTime => pb::Code::IllegalInvisibleTime,
        ErrorKind::IllegalDeliveryTime => pb::Code::IllegalDeliveryTime,
        ErrorKind::IllegalPollingTime => pb::Code::IllegalPollingTime,
        ErrorKind::IllegalLiteTopic => pb::Code::IllegalLiteTopic,
        ErrorKind::InvalidHandle => pb::Code::InvalidReceiptHandle,
        ErrorKind::InvalidTransactionId => pb::Code::InvalidTransactionId,
        ErrorKind::IllegalOffset => pb::Code::IllegalOffset,
        ErrorKind::OffsetNotFound => pb::Code::OffsetNotFound,
        ErrorKind::TypeMismatch => pb::Code::MessagePropertyConflictWithType,
        ErrorKind::UnknownClient => pb::Code::UnrecognizedClientType,
        ErrorKind::Corrupted => pb::Code::MessageCorrupted,
        ErrorKind::ClientIdRequired => pb::Code::ClientIdRequired,
        ErrorKind::Unauthorized | ErrorKind::TooManyFailures | ErrorKind::AccessDenied => {
            pb::Code::Unauthorized
        }
        ErrorKind::Forbidden => pb::Code::Forbidden,
        ErrorKind::TopicNotFound => pb::Code::TopicNotFound,
        ErrorKind::GroupNotFound => pb::Code::ConsumerGroupNotFound,
        ErrorKind::UserNotFound | ErrorKind::PolicyNotFound => pb::Code::NotFound,
        ErrorKind::BodyTooLarge => pb::Code::MessageBodyTooLarge,
        ErrorKind::BodyEmpty => pb::Code::MessageBodyEmpty,
        ErrorKind::PropertiesTooLarge => pb::Code::MessagePropertiesTooLarge,
        ErrorKind::LiteTopicQuota => pb::Code::LiteTopicQuotaExceeded,
        ErrorKind::LiteSubscriptionQuota => pb::Code::LiteSubscriptionQuotaExceeded,
        ErrorKind::Busy => pb::Code::TooManyRequests,
        ErrorKind::Internal | ErrorKind::NotAConsumer => pb::Code::InternalServerError,
        ErrorKind::NotImplemented => pb::Code::NotImplemented,
        ErrorKind::Timeout => pb::Code::ProxyTimeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_share_a_code_or_differ() {
        let bad = of(&Error::new(ErrorKind::InvalidHandle, "x"));
        for (entries, expected) in [
            (vec![ok(), ok()], pb::Code::Ok),
            (vec![bad.clone(), bad.clone()], pb::Code::InvalidReceiptHandle),
            (vec![ok(), bad], pb::Code::MultipleResults),
        ] {
            let status = of_entries(entries.iter());
            assert_eq!(status.code(), expected);
            assert_eq!(status.message, expected.as_str_name());
        }
    }
}
