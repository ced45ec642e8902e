//! What is sent, what is received, and what each leaves behind.

mod lease;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

pub(crate) use lease::{Group, Lease};

/// A message to send.
///
/// ```
/// # use rocketmq_thin::Message;
/// let message = Message::new("orders", "hello").tag("new").key("42").property("region", "eu");
/// assert_eq!(message.keys, ["42"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The topic it goes to.
    pub topic: String,
    /// Its content; servers refuse an empty one and, by default, one above 4 MiB.
    pub body: Bytes,
    /// One word to filter by.
    pub tag: Option<String>,
    /// Words to find it by. A server splits a key at spaces.
    pub keys: Vec<String>,
    /// Names and values of the application's own.
    pub properties: Vec<(String, String)>,
}

impl Message {
    /// A message of `body` for `topic`.
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

    /// Adds a key.
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

/// The server's word that a message is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id, which its deliveries execute.
    pub message_id: String,
    /// The topic it went to.
    pub topic: String,
    /// Its place in its queue, or -1 when the server didn't say.
    pub queue_offset: i64,
    /// The server's transaction id; servers fill it for plain messages too.
    pub transaction_id: String,
}

/// A message as received: what was sent, where it stood, and the lease on it.
///
/// Clones share the lease: after one of them changed its invisible time, each acks with the newest handle.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The id its [`Receipt`] named.
    pub message_id: String,
    /// The topic.
    pub topic: String,
    /// The content, decompressed; as it came over the wire when `corrupted`.
    pub body: Bytes,
    /// The tag.
    pub tag: Option<String>,
    /// The keys.
    pub keys: Vec<String>,
    /// The application's properties, sorted by name.
    pub properties: Vec<(String, String)>,
    /// The group within which the order of messages is kept.
    pub message_group: Option<String>,
    /// When the sender made it.
    pub born_at: Option<SystemTime>,
    /// Where the sender ran.
    pub born_host: String,
    /// When the server stored it.
    pub stored_at: Option<SystemTime>,
    /// How many times it has been delivered, this time included.
    pub attempt: u32,
    /// Whether the body failed its digest or could not be decompressed.
    pub corrupted: bool,
    /// The queue.
    pub queue_id: i32,
    /// The place in the queue.
    pub queue_offset: i64,
    pub(crate) lease: Arc<Lease>,
}

/// What a bounded close did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseReport {
    /// Sends and acks that were still under way and got their answer.
    pub flushed: usize,
    /// Sends and acks that had no answer at the deadline; each failed with kind `Closed`.
    pub abandoned: usize,
    /// How long the close took.
    pub elapsed: Duration,
}
