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
/// A message has one type, and a topic takes messages of its own type; only a topic of type MIXED takes several.
///
/// | type | what makes it one | how it is delivered |
/// |---|---|---|
/// | NORMAL | nothing | at once, in no order |
/// | FIFO | [`message_group`](Self::message_group) | in order within its group |
/// | DELAY | [`deliver_at`](Self::deliver_at) or [`delay`](Self::delay) | when its time has come |
/// | PRIORITY | [`priority`](Self::priority) | before those of lower priority |
/// | LITE | [`lite_topic`](Self::lite_topic) | to consumers of the lite topic |
/// | TRANSACTION | [`Transaction::send`](crate::Transaction::send) | once its transaction is committed |
///
/// Fields of several types contradict each other. Sending such a message fails with `InvalidArgument`, and nothing
/// is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The topic to send it to.
    pub topic: String,
    /// The content. Servers refuse an empty body and, by default, one above 4 MiB.
    pub body: Bytes,
    /// A tag that consumers can filter by.
    pub tag: Option<String>,
    /// Keys to search for the message by. Servers split a key at spaces.
    pub keys: Vec<String>,
    /// The application's own names and values. Of several values for one name, the last counts.
    pub properties: Vec<(String, String)>,
    /// The message group of a FIFO message: messages of one group are delivered in the order in which they were
    /// sent. Not empty. Servers accept at most 63 bytes.
    pub message_group: Option<String>,
    /// When to deliver a DELAY message. A time in the past means at once. Servers limit how far ahead it may be;
    /// Apache's accept 24 hours by default, and deliver to the second.
    pub deliver_at: Option<SystemTime>,
    /// How long after the send to deliver a DELAY message, instead of [`deliver_at`](Self::deliver_at). It counts
    /// from the call of `send`, by the clock of this machine.
    pub delay: Option<Duration>,
    /// The priority of a PRIORITY message: 0 or more, the highest first. Servers treat priorities above the number of
    /// queues of the topic as the highest.
    pub priority: Option<i32>,
    /// The lite topic of a LITE message, below its topic. Not empty. Servers accept at most 64 letters, digits, `_`
    /// and `-`.
    pub lite_topic: Option<String>,
}

impl Message {
    /// A message with this topic and body.
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

    /// Sets [`message_group`](Self::message_group), which makes it a FIFO message.
    #[must_use]
    pub fn message_group(mut self, group: impl Into<String>) -> Self {
        self.message_group = Some(group.into());
        self
    }

    /// Sets [`deliver_at`](Self::deliver_at), which makes it a DELAY message.
    #[must_use]
    pub fn deliver_at(mut self, time: SystemTime) -> Self {
        self.deliver_at = Some(time);
        self
    }

    /// Sets [`delay`](Self::delay), which makes it a DELAY message.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Sets [`priority`](Self::priority), which makes it a PRIORITY message.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets [`lite_topic`](Self::lite_topic), which makes it a LITE message.
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
    /// The message's id; its deliveries have the same one.
    pub message_id: String,
    /// The topic it was sent to.
    pub topic: String,
    /// Its offset in its queue, or -1 if the server didn't report it. For DELAY and TRANSACTION messages, Apache's
    /// servers report the offset in an internal queue.
    pub queue_offset: i64,
    /// The server's transaction id. Servers set it for messages of every type.
    pub transaction_id: String,
    /// What [`Producer::recall`](crate::Producer::recall) needs to call a DELAY message back. `None` for other types,
    /// and for a message that is delivered at once because its time has passed.
    pub recall_handle: Option<String>,
}

/// A half message whose transaction was not decided in time, as the server asks about it.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) transaction_id: String,
    pub(crate) message_id: String,
    pub(crate) message: Message,
    /// The server that asks, and has to be told the decision.
    pub(crate) endpoints: Endpoints,
}

/// The result of a close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Sends and acks that were still under way and got their answer.
    pub flushed: usize,
    /// Sends and acks that had no answer at the deadline; each failed with kind `Closed`. Of a push consumer, also
    /// messages whose handlers still ran; they come again.
    pub abandoned: usize,
    /// Messages of push consumers that were being handled or settled, and were settled in time.
    pub handled: usize,
    /// Messages of push consumers that no handler had begun, and that were given back to the servers.
    pub given_back: usize,
    /// How long the close took.
    pub elapsed: Duration,
}
