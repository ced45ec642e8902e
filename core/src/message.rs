//! Messages, receipts, deliveries, and the report of a close.

mod lease;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

pub(crate) use lease::{Group, Lease};

use crate::options::Endpoints;

/// A message to send.
///
/// ```
/// # use rocketmq_thin::Message;
/// let message = Message::new("orders", "hello").tag("new").key("42").property("region", "eu");
/// assert_eq!(message.keys, ["42"]);
/// ```
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
}

/// The server's confirmation that a message is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id; its deliveries have the same one.
    pub message_id: String,
    /// The topic it was sent to.
    pub topic: String,
    /// Its offset in its queue, or -1 if the server didn't report it.
    pub queue_offset: i64,
    /// The server's transaction id. Servers set it for normal messages, too.
    pub transaction_id: String,
}

/// A received message and the lease on it.
///
/// Clones share the lease: after a change of the invisible time through one, all of them use the new handle.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The message's id, as in its [`Receipt`].
    pub message_id: String,
    /// The topic.
    pub topic: String,
    /// The content, decompressed; as received if `corrupted`.
    pub body: Bytes,
    /// The tag.
    pub tag: Option<String>,
    /// The keys.
    pub keys: Vec<String>,
    /// The application's properties, sorted by name.
    pub properties: Vec<(String, String)>,
    /// The message group, within which messages of FIFO topics are ordered.
    pub message_group: Option<String>,
    /// When the sender created it.
    pub born_at: Option<SystemTime>,
    /// The host of the sender.
    pub born_host: String,
    /// When the server stored it.
    pub stored_at: Option<SystemTime>,
    /// How many times it has been delivered, including this time.
    pub attempt: u32,
    /// Whether the body failed its digest or could not be decompressed.
    pub corrupted: bool,
    /// The queue it is in.
    pub queue_id: i32,
    /// The offset in the queue.
    pub queue_offset: i64,
    pub(crate) lease: Arc<Lease>,
}

/// A server's question about a half message whose transaction was neither committed nor rolled back in time.
#[derive(Debug)]
#[allow(dead_code, reason = "a producer with transactions will read it")]
pub(crate) struct OrphanCheck {
    pub(crate) transaction_id: String,
    pub(crate) message_id: String,
    pub(crate) message: Message,
    /// The server that asks, and has to be told the decision.
    pub(crate) endpoints: Endpoints,
}

/// The result of a close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseReport {
    /// Sends and acks that were still under way and got their answer.
    pub flushed: usize,
    /// Sends and acks that had no answer at the deadline; each failed with kind `Closed`.
    pub abandoned: usize,
    /// How long the close took.
    pub elapsed: Duration,
}
