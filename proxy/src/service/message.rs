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

/// Property keys that brokers use themselves, sorted. `INNER_NUM` is ours: Apache's proxy lets it through and
/// its broker then refuses the message without a usable reason.
const RESERVED_PROPERTIES: [&str; 55] = [
    "1ST_POP_TIME",
    "ARRIVE_TIME",
    "BORN_TIMESTAMP",
    "BUYER_ID",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRECTION_FLAG",
    "CORRELATION_ID",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INNER_MULTI_QUEUE_OFFSET",
    "INNER_NUM",
    "INSTANCE_ID",
    "KEYS",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MQ2_FLAG",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_GROUP",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "POP_CK_OFFSET",
    "PUSH_REPLY_TIME",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "REPLY_TO_CLIENT",
    "RETRY_TOPIC",
    "TAGS",
    "TIMER_DELAY_LEVEL",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DEQUEUE_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_OUT_MS",
    "TIMER_ROLL_TIMES",
    "TRACE_ON",
    "TRANSFER_FLAG",
    "TRAN_MSG",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
    "_SYS_MSG_PRIORITY_",
    "__BORNHOST",
    "__CRC32#",
    "__LITE_TOPIC",
];

/// Whether a property key belongs to brokers: users may not send it, and are not shown it.
#[must_use]
pub fn is_reserved_property(key: &str) -> bool {
    RESERVED_PROPERTIES.binary_search(&key).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_properties_are_found() {
        assert!(RESERVED_PROPERTIES.is_sorted());
        assert!(is_reserved_property("UNIQ_KEY") && !is_reserved_property("user"));
    }
}
