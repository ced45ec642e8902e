//! Messages, receipts and deliveries, as uniffi records.

use std::time::{Duration, SystemTime};

use rocketmq_thin_bridge as core;

use crate::encoding::{Body, Properties};
use crate::registry::DELIVERIES;

/// A message to send.
#[derive(uniffi::Record)]
pub(crate) struct OutgoingMessage {
    topic: String,
    body: Body,
    tag: Option<String>,
    keys: Vec<String>,
    properties: Properties,
    message_group: Option<String>,
    deliver_at: Option<SystemTime>,
    delay: Option<Duration>,
    priority: Option<i32>,
    lite_topic: Option<String>,
}

/// Several messages to send.
#[derive(uniffi::Record)]
pub(crate) struct OutgoingMessages {
    messages: Vec<OutgoingMessage>,
}

impl From<OutgoingMessage> for core::Message {
    fn from(message: OutgoingMessage) -> Self {
        let mut sent = Self::new(message.topic, message.body.0);
        sent.tag = message.tag;
        sent.keys = message.keys;
        sent.properties = message.properties.0;
        sent.message_group = message.message_group;
        sent.deliver_at = message.deliver_at;
        sent.delay = message.delay;
        sent.priority = message.priority;
        sent.lite_topic = message.lite_topic;
        sent
    }
}

impl From<core::Message> for OutgoingMessage {
    fn from(message: core::Message) -> Self {
        Self {
            topic: message.topic,
            body: Body(message.body),
            tag: message.tag,
            keys: message.keys,
            properties: Properties(message.properties),
            message_group: message.message_group,
            deliver_at: message.deliver_at,
            delay: message.delay,
            priority: message.priority,
            lite_topic: message.lite_topic,
        }
    }
}

impl From<OutgoingMessages> for Vec<core::Message> {
    fn from(outgoing: OutgoingMessages) -> Self {
        outgoing.messages.into_iter().map(Into::into).collect()
    }
}

/// The receipt of a message that the server stored.
#[derive(uniffi::Record)]
pub(crate) struct SentMessage {
    message_id: String,
    topic: String,
    queue_offset: i64,
    transaction_id: String,
    recall_handle: Option<String>,
}

impl From<core::Receipt> for SentMessage {
    fn from(receipt: core::Receipt) -> Self {
        Self {
            message_id: receipt.message_id,
            topic: receipt.topic,
            queue_offset: receipt.queue_offset,
            transaction_id: receipt.transaction_id,
            recall_handle: receipt.recall_handle,
        }
    }
}

/// A received message.
#[derive(uniffi::Record)]
pub(crate) struct IncomingMessage {
    /// The delivery's key in the registry, for the C functions.
    pub(crate) key: i64,
    message_id: String,
    topic: String,
    body: Body,
    tag: Option<String>,
    keys: Vec<String>,
    properties: Properties,
    message_group: Option<String>,
    deliver_at: Option<SystemTime>,
    priority: Option<i32>,
    lite_topic: Option<String>,
    dead_letter_origin: Option<Origin>,
    trace_parent: Option<String>,
    born_at: Option<SystemTime>,
    born_host: String,
    stored_at: Option<SystemTime>,
    attempt: i32,
    corrupted: bool,
    queue_id: i32,
    queue_offset: i64,
}

/// The original message of a dead letter.
#[derive(uniffi::Record)]
pub(crate) struct Origin {
    topic: String,
    message_id: String,
}

/// Several received messages.
#[derive(uniffi::Record)]
pub(crate) struct IncomingMessages {
    pub(crate) messages: Vec<IncomingMessage>,
}

impl IncomingMessage {
    /// Registers the delivery without its content, and returns the content with the delivery's key.
    pub(crate) fn register(mut delivery: core::Delivery) -> Self {
        let body = std::mem::take(&mut delivery.body);
        let properties = std::mem::take(&mut delivery.properties);
        Self {
            message_id: delivery.message_id.clone(),
            topic: delivery.topic.clone(),
            body: Body(body),
            tag: delivery.tag.take(),
            keys: std::mem::take(&mut delivery.keys),
            properties: Properties(properties),
            message_group: delivery.message_group.clone(),
            deliver_at: delivery.deliver_at,
            priority: delivery.priority,
            lite_topic: delivery.lite_topic.clone(),
            dead_letter_origin: delivery
                .dead_letter_origin
                .clone()
                .map(|origin| Origin { topic: origin.topic, message_id: origin.message_id }),
            trace_parent: delivery.trace_parent.clone(),
            born_at: delivery.born_at,
            born_host: std::mem::take(&mut delivery.born_host),
            stored_at: delivery.stored_at,
            attempt: i32::try_from(delivery.attempt).unwrap_or(i32::MAX),
            corrupted: delivery.corrupted,
            queue_id: delivery.queue_id,
            queue_offset: delivery.queue_offset,
            key: DELIVERIES.insert(delivery),
        }
    }

    /// Returns the delivery with its content, if it is still registered.
    pub(crate) fn restore(self) -> Option<core::Delivery> {
        let mut delivery = DELIVERIES.get(self.key)?;
        delivery.body = self.body.0;
        delivery.tag = self.tag;
        delivery.keys = self.keys;
        delivery.properties = self.properties.0;
        delivery.born_host = self.born_host;
        Some(delivery)
    }
}
