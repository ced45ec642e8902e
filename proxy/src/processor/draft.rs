//! Messages before validation.

use std::time::SystemTime;

use crate::service::{Body, BodyEncoding, ChosenQueue, SentBack};

/// A topic as a request names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicName {
    /// The topic's namespace. It is only compared with that of the other messages in the request.
    pub namespace: String,
    /// The topic's name.
    pub name: String,
}

/// The rules for a message's properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PropertyRules {
    /// The rules of `apache.rocketmq.v2`: properties are bounded by [`super::Limits`] and have no control characters.
    #[default]
    Contract,
    /// The rules of the remoting protocol: everything that brokers can store.
    Broker,
}

/// A message as a producer sent it, before validation.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The topic.
    pub topic: TopicName,
    /// The producer's id of the message.
    pub id: String,
    /// The tag.
    pub tag: Option<String>,
    /// Business keys.
    pub keys: Vec<String>,
    /// The user's properties. Their names are unique.
    pub properties: Vec<(String, String)>,
    /// Properties with names that are reserved for brokers. Clients of the remoting protocol may set them.
    pub system_properties: Vec<(String, String)>,
    /// The rules for the properties.
    pub property_rules: PropertyRules,
    /// A number whose meaning the producer defines.
    pub flag: i32,
    /// The producer's group; empty if it has none, as clients of version 5.
    pub producer_group: String,
    /// The retry state of a message that a consumer sends to its group's retry topic; otherwise `None`.
    pub sent_back: Option<SentBack>,
    /// The queue that the producer chose.
    pub queue: Option<ChosenQueue>,
    /// The body.
    pub body: Body,
    /// The encoding of the body.
    pub body_encoding: BodyEncoding,
    /// Whether the declared type is TRANSACTION. Other declared types don't matter.
    pub transaction: bool,
    /// The seconds before the producer of a half message is first asked for its decision.
    pub recovery_secs: Option<i64>,
    /// The message group.
    pub message_group: Option<String>,
    /// The delivery time, in milliseconds since the Unix epoch.
    pub deliver_at_ms: Option<i64>,
    /// The priority.
    pub priority: Option<i32>,
    /// The lite topic.
    pub lite_topic: Option<String>,
    /// When the producer created the message.
    pub born_at: Option<SystemTime>,
    /// The host on which the producer created the message. If it is blank, the peer's address is stored.
    pub born_host: String,
    /// W3C trace context.
    pub trace_context: Option<String>,
}
