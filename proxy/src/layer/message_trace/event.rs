//! A step in the life of a message.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::layer::text::cut;

/// Stands for what would end a field or a record, or break a line.
const REPLACEMENT: char = '\u{FFFD}';
/// Bytes of a message's keys in a record. Keys beyond are left out.
const MAX_KEYS: usize = 1024;
/// The result of a step that has not failed.
pub const TRACE_OK: &str = "ok";

/// What has happened to a message.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
pub enum TraceStep {
    /// A producer has sent it.
    Sent,
    /// A consumer has got it.
    Delivered,
    /// A consumer has consumed it.
    Acknowledged,
    /// It is delivered again later: a consumer could not consume it, or has prolonged its lease.
    Retried,
    /// It has become a dead letter.
    DeadLettered,
    /// The transaction of a half message was committed.
    Committed,
    /// The transaction of a half message was rolled back.
    RolledBack,
    /// A producer could not decide yet about the transaction of a half message.
    Undecided,
    /// A producer has recalled it before its delivery.
    Recalled,
}

/// A step in the life of a message. What a step does not have, or a record does not tell, is empty or 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// When it began, or when a delivery was settled; in milliseconds since 1970.
    pub at_ms: i64,
    /// What has happened.
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
    /// How long it took, in milliseconds: a send until it was answered, a settled delivery since it was delivered.
    pub cost_ms: i64,
    /// `ok`, or why it failed.
    pub result: String,
    /// The number of the delivery, beginning with 1.
    pub attempt: i32,
    /// The bytes of the body.
    pub body_bytes: u64,
    /// The same for a delivery and what settles it.
    pub delivery_id: String,
    /// Which type of message it is.
    pub message_type: TraceMessageType,
}

/// Who has done something with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceClient {
    /// Its name for itself.
    pub id: String,
    /// Its address.
    pub address: String,
}

/// The types of messages that the format knows, by their numbers in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, VariantArray)]
pub enum TraceMessageType {
    /// None of the others.
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
    /// A step of this message, of which nothing else is known.
    #[must_use]
    pub fn new(step: TraceStep, message_id: &str, client: TraceClient) -> Self {
        Self {
            at_ms: 0,
            step,
            message_id: trace_word(message_id),
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

    /// The message's keys, one by one.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.split(' ').filter(|key| !key.is_empty())
    }

    /// Whether the step has not failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.result == TRACE_OK
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        let Self { message_id, topic, group, tag, keys, client, result, delivery_id, .. } = self;
        let texts = [message_id, topic, group, tag, keys, &client.id, &client.address, result, delivery_id];
        size_of::<Self>() + texts.iter().map(|text| text.len()).sum::<usize>()
    }
}

/// A name, as it stands in a record: without blanks and control characters, which would end a key, a field or a record, and not
/// longer than others. They are replaced and not removed, so that the name of one message does not become that of another.
#[must_use]
pub fn trace_word(text: &str) -> String {
    cut(text).chars().map(|char| if char.is_control() || char == ' ' { REPLACEMENT } else { char }).collect()
}

/// A message's keys, as they stand in a record.
pub(super) fn keys_of<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    let mut joined = String::new();
    for key in keys.filter(|key| !key.is_empty()) {
        let key = trace_word(key);
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
