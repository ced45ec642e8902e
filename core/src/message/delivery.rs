//! The public type of a received message.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;

use super::Lease;

/// A received message and the lease on it.
///
/// Clones share the lease: after a change of the invisible time, all clones use the new receipt handle.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The id of the message, as in its [`Receipt`](crate::Receipt).
    pub message_id: String,
    /// The topic.
    pub topic: String,
    /// The content, decompressed. If `corrupted`, the bytes as received.
    pub body: Bytes,
    /// The tag.
    pub tag: Option<String>,
    /// The keys.
    pub keys: Vec<String>,
    /// The application's properties, sorted by name.
    pub properties: Vec<(String, String)>,
    /// The message group, within which messages of FIFO topics are ordered.
    pub message_group: Option<String>,
    /// The time for which the sender scheduled a delayed message. Not every server reports it.
    pub deliver_at: Option<SystemTime>,
    /// The priority; larger goes first. Only in PRIORITY topics.
    pub priority: Option<i32>,
    /// The lite topic below `topic` that the message was sent to. Only in LITE topics.
    pub lite_topic: Option<String>,
    /// The message that became this dead letter. `None` for other messages, and if the server doesn't report it.
    pub dead_letter_origin: Option<DeadLetterOrigin>,
    /// The W3C `traceparent` of the sender.
    pub trace_parent: Option<String>,
    /// When the sender created the message.
    pub born_at: Option<SystemTime>,
    /// The host of the sender.
    pub born_host: String,
    /// When the server stored the message.
    pub stored_at: Option<SystemTime>,
    /// How many times the message has been delivered, including this time.
    pub attempt: u32,
    /// Whether the body does not match its digest or could not be decompressed.
    pub corrupted: bool,
    /// The id of the queue that holds the message.
    pub queue_id: i32,
    /// The offset of the message in the queue; -1 if the server didn't report it.
    pub queue_offset: i64,
    /// If the body is still compressed, how large it may be after decompression, in bytes.
    pub(crate) compressed: Option<usize>,
    pub(crate) lease: Arc<Lease>,
}

impl Delivery {
    /// Whether the lease ended before the delivery was settled. Then the message is delivered again, and settling this
    /// delivery fails with kind `InvalidReceipt`.
    ///
    /// Becomes true when the invisible time has passed, or a server has refused to renew the lease. The same for all
    /// clones.
    #[must_use]
    pub fn is_lease_lost(&self) -> bool {
        self.lease.is_lost(Instant::now())
    }
}

/// The message that became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterOrigin {
    /// The topic in which it failed.
    pub topic: String,
    /// Its id in that topic.
    pub message_id: String,
}

impl DeadLetterOrigin {
    pub(crate) fn new(topic: String, message_id: String) -> Self {
        Self { topic, message_id }
    }
}
