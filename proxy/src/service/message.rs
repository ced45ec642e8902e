//! Messages and their deliveries, independent of any protocol.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::TopicKind;
use super::names::properties::PRODUCER_GROUP;

/// The body of a message, encoded as its [`BodyEncoding`] says.
pub type Body = Bytes;

/// How a body is compressed. The proxy passes bodies on as they are, with two exceptions: it removes the compression of
/// classic clients, and decompresses gzip bodies for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyEncoding {
    /// Not compressed.
    #[default]
    Identity,
    /// Compressed with gzip by the sender.
    Gzip,
}

/// When a delayed message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// At this time, or at once if it is past.
    Until(SystemTime),
    /// At an unknown time, as for a dead letter that has the type of a delayed message.
    Unknown,
}

/// A queue that a sender chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenQueue {
    /// The broker that holds the queue; `None` for any broker that has a queue with this id.
    pub broker: Option<String>,
    /// The queue's id on the broker.
    pub id: i32,
}

/// The origin of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterOrigin {
    /// The topic in which the message failed.
    pub topic: String,
    /// The message's id in that topic.
    pub message_id: String,
}

/// The retry state of a message that a consumer could not consume and sends to its group's retry topic itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentBack {
    /// The number of previous deliveries.
    pub deliveries: i32,
    /// The maximum number of deliveries after the first one; `None` if the group's limit applies.
    pub max_retries: Option<i32>,
}

impl SentBack {
    /// The state after the last delivery: the message becomes a dead letter.
    pub const LAST: Self = Self { deliveries: 1, max_retries: Some(0) };
}

/// A validated message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The sender's id of the message; opaque, and not necessarily unique.
    pub id: String,
    /// Whether this is a half message, which is delivered once its transaction is committed.
    pub half: bool,
    /// The time before the producer of a half message is first asked for its decision; `None` for the broker's default.
    pub recovery: Option<Duration>,
    /// When the message is delivered; `None` if it is not delayed.
    pub delay: Option<Delay>,
    /// The message group of a FIFO message.
    pub group: Option<String>,
    /// The priority: 0 or more, higher numbers are delivered first.
    pub priority: Option<i32>,
    /// The lite topic within the topic.
    pub lite_topic: Option<String>,
    /// A tag that consumers can filter by.
    pub tag: Option<String>,
    /// Business keys.
    pub keys: Vec<String>,
    /// The user's properties, in no particular order. Their names are unique.
    pub properties: Vec<(String, String)>,
    /// Properties with names that are reserved for brokers, except those that have a field here. Only clients of the
    /// remoting protocol send and receive them.
    pub system_properties: Vec<(String, String)>,
    /// A number whose meaning the sender defines. Only clients of the remoting protocol send and receive it.
    pub flag: i32,
    /// The retry state, in sends to a retry topic. It is not stored with the message.
    pub sent_back: Option<SentBack>,
    /// The queue that the sender chose. It is not stored with the message.
    pub queue: Option<ChosenQueue>,
    /// The body.
    pub body: Body,
    /// The encoding of the body.
    pub body_encoding: BodyEncoding,
    /// When the sender created the message.
    pub born_at: Option<SystemTime>,
    /// The host on which the sender created the message.
    pub born_host: String,
    /// W3C trace context, verbatim.
    pub trace_context: Option<String>,
    /// The origin of a dead letter, if the backend reports it.
    pub dead_letter_origin: Option<DeadLetterOrigin>,
}

impl Message {
    /// The producer group of the sender. Only classic clients have one.
    #[must_use]
    pub fn producer_group(&self) -> Option<&str> {
        let group = self.system_properties.iter().find(|(key, _)| key == PRODUCER_GROUP);
        group.map(|(_, group)| group.as_str())
    }

    /// The message's type, which determines how it is stored and delivered. If fields of several types are set, the first
    /// one in this order counts (Apache's `TopicMessageType`).
    #[must_use]
    pub fn kind(&self) -> TopicKind {
        if self.half {
            TopicKind::Transaction
        } else if self.delay.is_some() {
            TopicKind::Delay
        } else if self.group.is_some() {
            TopicKind::Fifo
        } else if self.priority.is_some() {
            TopicKind::Priority
        } else if self.lite_topic.is_some() {
            TopicKind::Lite
        } else {
            TopicKind::Normal
        }
    }
}

/// A message for a consumer, with the lease under which it is delivered.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message as it was sent.
    pub message: Message,
    /// The topic to which the message was sent. Never a retry topic.
    pub topic: String,
    /// The queue in which the message is stored.
    pub queue_id: i32,
    /// The message's offset in the queue.
    pub queue_offset: i64,
    /// When the message was stored.
    pub stored_at: SystemTime,
    /// The broker that stored the message, `host:port`.
    pub store_host: String,
    /// The number of this delivery of the message, beginning with 1.
    pub attempt: i32,
    /// How many of these deliveries another group had before the message became a dead letter. They don't count against the
    /// limit of a group that reads dead letters. 0 if the backend can't tell.
    pub attempts_of_others: i32,
    /// When the lease began, by the broker's clock.
    pub received_at: SystemTime,
    /// The length of the lease.
    pub invisible: Duration,
    /// Everything that the backend needs to settle this delivery, in a form that only the backend understands: printable
    /// ASCII characters. The processor seals the coordinates into the receipt handle, so that clients can't forge them.
    pub coordinates: String,
}
