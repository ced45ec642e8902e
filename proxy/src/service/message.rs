use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::TopicKind;
use super::names::properties::PRODUCER_GROUP;

/// The bytes of a message, as the sender sent them.
pub type Body = Bytes;

/// How a body is encoded. The proxy passes bodies through and never decodes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyEncoding {
    /// As it is.
    #[default]
    Identity,
    /// Compressed by the sender.
    Gzip,
}

/// When a delayed message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// At this time; at once if it is past.
    Until(SystemTime),
    /// Unknown: a dead letter has the type of a delayed message, but no time.
    Untold,
}

/// A queue that a sender chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenQueue {
    /// The broker; any one of those that have such a queue if the sender doesn't tell.
    pub broker: Option<String>,
    /// The queue's id there.
    pub id: i32,
}

/// Where a dead letter was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The message's id there.
    pub message_id: String,
}

/// What a consumer tells of a message that it could not consume, and sends to its group's retry topic itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentBack {
    /// How often the message was delivered so far.
    pub deliveries: i32,
    /// How often it may be delivered again after the first time, if the consumer has a limit of its own.
    pub max_retries: Option<i32>,
}

impl SentBack {
    /// Of a message that was delivered as often as it may be.
    pub const LAST: Self = Self { deliveries: 1, max_retries: Some(0) };
}

/// A validated message, free of any protocol's types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The sender's id; opaque, and not necessarily unique.
    pub id: String,
    /// Whether it is a half message, which is delivered once its transaction is committed.
    pub half: bool,
    /// How long the producer of a half message may take before it is asked.
    pub recovery: Option<Duration>,
    /// When it is delivered, if it is delayed.
    pub delay: Option<Delay>,
    /// Its message group.
    pub group: Option<String>,
    /// Its priority: 0 or more, higher numbers first.
    pub priority: Option<i32>,
    /// Its lite topic, which belongs to the topic.
    pub lite_topic: Option<String>,
    /// A tag that consumers can filter by.
    pub tag: Option<String>,
    /// Business keys.
    pub keys: Vec<String>,
    /// The user's properties, in no particular order; keys are unique.
    pub properties: Vec<(String, String)>,
    /// Properties with names that belong to brokers, as far as no field here is for them. Clients of the remoting protocol
    /// send and receive them; others don't.
    pub system_properties: Vec<(String, String)>,
    /// A number that means something to the sender. Clients of the remoting protocol send and receive it.
    pub flag: i32,
    /// Only in a send to a retry topic. It is not kept: a delivery tells its attempt.
    pub sent_back: Option<SentBack>,
    /// The queue that the sender chose. It is not kept.
    pub queue: Option<ChosenQueue>,
    /// The payload.
    pub body: Body,
    /// How the payload is encoded.
    pub body_encoding: BodyEncoding,
    /// When the sender made it.
    pub born_at: Option<SystemTime>,
    /// Where the sender made it.
    pub born_host: String,
    /// W3C trace context, verbatim.
    pub trace_context: Option<String>,
    /// Where it was before it became a dead letter, if the backend reports it.
    pub dead_letter_origin: Option<Origin>,
}

impl Message {
    /// The group of its producer, if that has one: only classic clients have.
    #[must_use]
    pub fn producer_group(&self) -> Option<&str> {
        let group = self.system_properties.iter().find(|(key, _)| key == PRODUCER_GROUP);
        group.map(|(_, group)| group.as_str())
    }

    /// Its type, which decides how it is stored and delivered. Properties of several types may be present: the first in
    /// this order counts (Apache's `TopicMessageType`).
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
    /// The topic it was sent to (never a retry topic).
    pub topic: String,
    /// The queue that it is stored in.
    pub queue_id: i32,
    /// Its position in that queue.
    pub queue_offset: i64,
    /// When it was stored.
    pub stored_at: SystemTime,
    /// The broker that stored it, `host:port`.
    pub store_host: String,
    /// The number of this delivery, beginning with 1.
    pub attempt: i32,
    /// When this delivery was made, by the broker's clock: the lease runs from here.
    pub received_at: SystemTime,
    /// How long the lease lasts.
    pub invisible: Duration,
    /// All that the backend needs to settle this delivery, in a form of its own: printable ASCII without control
    /// characters. The processor seals it into the receipt handle, so that clients can't forge it.
    pub coordinates: String,
}
