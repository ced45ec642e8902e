use std::time::SystemTime;

use crate::service::{Body, BodyEncoding, ChosenQueue, SentBack};

/// A topic as a request names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicName {
    /// The namespace beside the name; it is compared, and otherwise ignored.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// What the properties of a message may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PropertyRules {
    /// What `apache.rocketmq.v2` allows: bounded by [`super::Limits`], and without control characters.
    #[default]
    Contract,
    /// Whatever brokers can store. The older protocol promises this.
    Broker,
}

/// A message as a producer sent it, not yet checked.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The topic.
    pub topic: TopicName,
    /// The producer's id for it.
    pub id: String,
    /// Its tag.
    pub tag: Option<String>,
    /// Its keys.
    pub keys: Vec<String>,
    /// The user's properties; keys are unique.
    pub properties: Vec<(String, String)>,
    /// Properties with names that belong to brokers, which clients of the remoting protocol may set.
    pub system_properties: Vec<(String, String)>,
    /// What its properties may be.
    pub property_rules: PropertyRules,
    /// A number of the producer's own.
    pub flag: i32,
    /// The group of its producer; empty where that has none, as with clients of version 5.
    pub producer_group: String,
    /// Only for a message that a consumer sends to its group's retry topic.
    pub sent_back: Option<SentBack>,
    /// The queue that the producer chose.
    pub queue: Option<ChosenQueue>,
    /// The payload.
    pub body: Body,
    /// How the payload is encoded.
    pub body_encoding: BodyEncoding,
    /// Whether its declared type is TRANSACTION. No other declared type matters.
    pub transaction: bool,
    /// Seconds that the transaction's producer may take before it is asked.
    pub recovery_secs: Option<i64>,
    /// Its message group.
    pub message_group: Option<String>,
    /// When to deliver it, in milliseconds since 1970.
    pub deliver_at_ms: Option<i64>,
    /// Its priority.
    pub priority: Option<i32>,
    /// Its lite topic.
    pub lite_topic: Option<String>,
    /// When the producer made it.
    pub born_at: Option<SystemTime>,
    /// The host where the producer made it. If it is blank, the peer's address is stored.
    pub born_host: String,
    /// W3C trace context.
    pub trace_context: Option<String>,
}
