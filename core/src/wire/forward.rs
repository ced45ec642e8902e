//! Builds ForwardMessageToDeadLetterQueue requests.

use rocketmq_thin_proto::v2;

use crate::message::LeasedMessage;

/// A delivery that becomes a dead letter.
pub(crate) struct Forward<'a> {
    pub(crate) message: &'a LeasedMessage,
    pub(crate) handle: String,
    /// How many times the message has been delivered.
    pub(crate) attempt: u32,
    /// How many times the server delivers a message at most.
    pub(crate) max_attempts: u32,
}

pub(crate) fn build_forward(
    group: v2::Resource,
    topic: v2::Resource,
    forward: Forward<'_>,
) -> v2::ForwardMessageToDeadLetterQueueRequest {
    let Forward { message, handle, attempt, max_attempts } = forward;
    let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    v2::ForwardMessageToDeadLetterQueueRequest {
        group: Some(group),
        topic: Some(topic),
        receipt_handle: handle,
        message_id: message.message_id.clone(),
        delivery_attempt: count(attempt),
        max_delivery_attempts: count(max_attempts),
        lite_topic: message.lite_topic.clone(),
    }
}
