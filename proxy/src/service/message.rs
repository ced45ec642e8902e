use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::TopicKind;

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

/// Until when a message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Until then; the past means at once.
    Until(SystemTime),
    /// It does not say: a dead letter has the type of a delayed message, and no time.
    Untold,
}

/// A message on its way into a topic: validated, and free of any protocol's types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The sender's id; opaque, and not necessarily unique.
    pub id: String,
    /// Whether it is held back until its transaction is committed.
    pub half: bool,
    /// How long the producer of a half message may take before it is asked.
    pub recovery: Option<Duration>,
    /// Whether, and until when, it waits.
    pub delay: Option<Delay>,
    /// Its message group.
    pub group: Option<String>,
    /// Its priority: 0 or more, higher numbers first.
    pub priority: Option<i32>,
    /// Its lite topic, below the topic.
    pub lite_topic: Option<String>,
    /// One word consumers can filter by.
    pub tag: Option<String>,
    /// Business keys.
    pub keys: Vec<String>,
    /// The user's properties, in no particular order; keys are unique.
    pub properties: Vec<(String, String)>,
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
}

impl Message {
    /// What its properties make it: they stand side by side, and the first of these that it has decides how it is
    /// stored and delivered (Apache's `TopicMessageType`).
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

/// A message on its way to a consumer, with the lease it is delivered under.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message as it was sent.
    pub message: Message,
    /// The topic it was sent to (never a retry topic).
    pub topic: String,
    /// The queue it lies in.
    pub queue_id: i32,
    /// Its position in that queue.
    pub queue_offset: i64,
    /// When it was stored.
    pub stored_at: SystemTime,
    /// Who stored it, `host:port`.
    pub store_host: String,
    /// How often it was delivered, this time included: 1 on the first delivery.
    pub attempt: i32,
    /// When this delivery was made, by the broker's clock: the lease runs from here.
    pub received_at: SystemTime,
    /// How long the lease lasts.
    pub invisible: Duration,
    /// All the backend needs to settle this delivery, in its own words: printable ASCII without control
    /// characters. The processor seals it into the receipt handle, so a backend needs no secrecy of its own.
    pub coordinates: String,
}
