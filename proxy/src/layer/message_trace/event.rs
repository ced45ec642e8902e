//! A trace event: a step in the life of a message.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::layer::truncate::truncate;

/// Replaces characters that would end a field or a record, or break a line.
const REPLACEMENT: char = '\u{FFFD}';
/// The maximum number of bytes of a message's keys in a record. Further keys are left out.
const MAX_KEYS: usize = 1024;
/// The result of a successful step.
pub const TRACE_OK: &str = "ok";

/// The kind of a step.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
pub enum TraceStep {
    /// A producer has sent the message.
    Sent,
    /// The message was delivered to a consumer.
    Delivered,
    /// A consumer has acknowledged the message.
    Acknowledged,
    /// The message will be delivered again: a consumer has given it back, or has extended its lease.
    Retried,
    /// The message has become a dead letter.
    DeadLettered,
    /// The transaction of a half message was committed.
    Committed,
    /// The transaction of a half message was rolled back.
    RolledBack,
    /// A producer has not yet decided about the transaction of a half message.
    Undecided,
    /// A producer has recalled the message before its delivery.
    Recalled,
}

/// A step in the life of a message. Fields that the step does not have, or that its record lacks, are empty or 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// When the step began, or when a delivery was settled, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The kind of the step.
    pub step: TraceStep,
    /// The message's id.
    pub message_id: String,
    /// The topic.
    pub topic: String,
    /// The consumer group, or the group of a producer that has one.
    pub group: String,
    /// The message's tag.
    pub tag: String,
    /// The message's keys, with blanks between them.
    pub keys: String,
    /// The client.
    pub client: TraceClient,
    /// The duration in milliseconds: of a send, until it was answered; of a settlement, since the delivery.
    pub cost_ms: i64,
    /// `ok`, or the reason of the failure.
    pub result: String,
    /// The number of the delivery attempt, from 1.
    pub attempt: i32,
    /// The size of the body in bytes.
    pub body_bytes: u64,
    /// Identifies a delivery: a delivery and its settlement have the same id.
    pub delivery_id: String,
    /// The message type.
    pub message_type: TraceMessageType,
}

/// The client that has caused a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceClient {
    /// The client id.
    pub id: String,
    /// The client's address.
    pub address: String,
}

/// The message types of the format, in the order of their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, VariantArray)]
pub enum TraceMessageType {
    /// Any other type.
    #[default]
    Normal,
    /// A half message.
    Half,
    /// A half message that was committed.
    Committed,
    /// A delayed message.
    Delayed,
    /// A message of a message group.
    Ordered,
}

impl TraceEvent {
    /// A successful step of a message, with all other fields empty.
    #[must_use]
    pub fn new(step: TraceStep, message_id: &str, client: TraceClient) -> Self {
        Self {
            at_ms: 0,
            step,
            message_id: sanitize_for_trace(message_id),
            topic: String::new(),
            group: String::new(),
            tag: String::new(),
            keys: String::new(),
            client,
            cost_ms: 0,
            result: TRACE_OK.to_owned(),
            attempt: 0,
            body_bytes: 0,
            delivery_id: String::new(),
            message_type: TraceMessageType::Normal,
        }
    }

    /// The message's keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.split(' ').filter(|key| !key.is_empty())
    }

    /// Whether the step was successful.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.result == TRACE_OK
    }

    /// The approximate size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        let Self { message_id, topic, group, tag, keys, client, result, delivery_id, .. } = self;
        let texts = [message_id, topic, group, tag, keys, &client.id, &client.address, result, delivery_id];
        size_of::<Self>() + texts.iter().map(|text| text.len()).sum::<usize>()
    }
}

/// A name as it is written to a record: truncated, and with blanks and control characters replaced, which would end a key,
/// a field or a record. They are not removed, so that the name of one message can't become that of another.
#[must_use]
pub fn sanitize_for_trace(text: &str) -> String {
    truncate(text)
        .chars()
        .map(|char| if char.is_control() || char == ' ' { REPLACEMENT } else { char })
        .collect()
}

/// A message's keys as they are written to a record, separated by blanks.
pub(super) fn join_keys<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    let mut joined = String::new();
    for key in keys.filter(|key| !key.is_empty()) {
        let key = sanitize_for_trace(key);
        if joined.len() + key.len() >= MAX_KEYS {
            break;
        }
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(&key);
    }
    joined
}
