//! Messages, receipts, deliveries, and the report of a close.

mod delivery;
mod lease;
mod message_type;

use std::time::{Duration, SystemTime};

use bytes::Bytes;

pub use delivery::{DeadLetterOrigin, Delivery};
pub(crate) use lease::{Group, Lease, LeasedMessage, Renewal, Settling};
pub(crate) use message_type::MessageType;

use crate::options::Endpoints;

/// A message to send.
///
/// ```
/// # use rocketmq_thin::Message;
/// let message = Message::new("orders", "hello").tag("new").key("42").property("region", "eu");
/// assert_eq!(message.keys, ["42"]);
/// ```
///
/// # Types
///
/// A message has one type, and a topic accepts messages of its own type. A topic of type MIXED accepts several types.
///
/// | type | set by | delivered |
/// |---|---|---|
/// | NORMAL | nothing | at once, in no order |
/// | FIFO | [`message_group`](Self::message_group) | in order within its group |
/// | DELAY | [`deliver_at`](Self::deliver_at) or [`delay`](Self::delay) | at the given time |
/// | PRIORITY | [`priority`](Self::priority) | before those of lower priority |
/// | LITE | [`lite_topic`](Self::lite_topic) | to consumers of the lite topic |
/// | TRANSACTION | [`Transaction::send`](crate::Transaction::send) | once its transaction is committed |
///
/// Only fields of one type may be set. Otherwise sending fails with `InvalidArgument`, without a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The topic to send the message to.
    pub topic: String,
    /// The content. Servers refuse an empty body and, by default, one above 4 MiB.
    pub body: Bytes,
    /// A tag that consumers can filter by.
    pub tag: Option<String>,
    /// Keys by which the message can be found. Servers split a key at spaces.
    pub keys: Vec<String>,
    /// Names and values of the application. If a name occurs several times, its last value is sent.
    pub properties: Vec<(String, String)>,
    /// The message group of a FIFO message: messages of one group are delivered in the order in which they were
    /// sent. Not empty. Servers accept at most 63 bytes.
    pub message_group: Option<String>,
    /// When to deliver a DELAY message. A time in the past means at once. Servers limit how far ahead it may be;
    /// Apache's accept 24 hours by default, and deliver to the second.
    pub deliver_at: Option<SystemTime>,
    /// How long to delay the delivery of a DELAY message, instead of [`deliver_at`](Self::deliver_at). Counted from the
    /// call of `send`, by the clock of this machine.
    pub delay: Option<Duration>,
    /// The priority of a PRIORITY message: 0 or more, the highest first. Servers treat priorities above the number of
    /// queues of the topic as the highest.
    pub priority: Option<i32>,
    /// The lite topic of a LITE message, below its topic. Not empty. Servers accept at most 64 letters, digits, `_`
    /// and `-`.
    pub lite_topic: Option<String>,
}

impl Message {
    /// Creates a message with a topic and a body.
    #[must_use]
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), body: body.into(), ..Self::default() }
    }

    /// Sets the tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Adds a key to the [`keys`](Self::keys).
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Sets [`message_group`](Self::message_group), which makes this a FIFO message.
    #[must_use]
    pub fn message_group(mut self, group: impl Into<String>) -> Self {
        self.message_group = Some(group.into());
        self
    }

    /// Sets [`deliver_at`](Self::deliver_at), which makes this a DELAY message.
    #[must_use]
    pub fn deliver_at(mut self, time: SystemTime) -> Self {
        self.deliver_at = Some(time);
        self
    }

    /// Sets [`delay`](Self::delay), which makes this a DELAY message.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Sets [`priority`](Self::priority), which makes this a PRIORITY message.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets [`lite_topic`](Self::lite_topic), which makes this a LITE message.
    #[must_use]
    pub fn lite_topic(mut self, lite_topic: impl Into<String>) -> Self {
        self.lite_topic = Some(lite_topic.into());
        self
    }
}

/// The server's confirmation that a message is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The id of the message. Its deliveries have the same id.
    pub message_id: String,
    /// The topic of the message.
    pub topic: String,
    /// The offset of the message in its queue, or -1 if the server didn't report it. For DELAY and TRANSACTION
    /// messages, Apache's servers report the offset in an internal queue.
    pub queue_offset: i64,
    /// The server's transaction id. Servers set it for messages of every type.
    pub transaction_id: String,
    /// The handle by which [`Producer::recall`](crate::Producer::recall) recalls a DELAY message. `None` for other
    /// types, and for a message that is delivered at once because its time has passed.
    pub recall_handle: Option<String>,
}

/// A half message whose transaction was not decided in time, so that the server asks for the decision.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) transaction_id: String,
    pub(crate) message_id: String,
    pub(crate) message: Message,
    /// The server that asks, and gets the decision.
    pub(crate) endpoints: Endpoints,
}

/// The result of a close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Sends and acks that were in flight when the close began and succeeded before the deadline.
    pub flushed: usize,
    /// Sends and acks that had no result at the deadline; each failed with kind `Closed`. For push consumers, also
    /// messages whose handlers still ran; they are delivered again.
    pub abandoned: usize,
    /// Messages of push consumers that were being handled or settled, and were settled before the deadline.
    pub handled: usize,
    /// Messages of consumers that waited for a handler, a receive or a stream, and were given back to the servers.
    pub given_back: usize,
    /// How long the close took.
    pub elapsed: Duration,
}
