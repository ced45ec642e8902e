//! The form in which topics and groups are declared: in the configuration, in files for `apply`, and over HTTP.

mod start;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::service::{GroupConfig, GroupStart, Permission, RetryPolicy, TopicConfig, TopicKind};
pub use start::StartSpec;

const DEFAULT_QUEUES: i32 = 8;

/// The content of a file for `apply`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Catalog {
    /// Topics.
    pub topics: Vec<TopicSpec>,
    /// Groups.
    pub groups: Vec<GroupSpec>,
}

/// A topic. Only the name is required.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    /// The topic's name.
    pub name: String,
    /// The type of the topic's messages.
    #[serde(default, rename = "type")]
    pub kind: TopicType,
    /// The number of queues; 8 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<i32>,
    /// The number of queues for reading, if it differs from `queues`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_queues: Option<i32>,
    /// The number of queues for writing, if it differs from `queues`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_queues: Option<i32>,
    /// The operations that are allowed on the topic.
    #[serde(default)]
    pub perm: Perm,
    /// How long a lite topic is kept after its last use, in a topic of type `lite`; for ever by default.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::duration::optional")]
    #[cfg_attr(feature = "http", schema(value_type = Option<crate::json_schema::Duration>))]
    pub lite_expiration: Option<Duration>,
    /// How long messages are kept; by default, as set in the broker's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::duration::optional")]
    #[cfg_attr(feature = "http", schema(value_type = Option<crate::json_schema::Duration>))]
    pub retention: Option<Duration>,
    /// The maximum size of the messages that are kept, in bytes, 0 for no limit; by default, as set in the broker's
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<u64>,
}

/// The type of a topic's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TopicType {
    /// Unordered messages.
    #[default]
    Normal,
    /// Messages that are ordered within their message group.
    Fifo,
    /// Delayed messages.
    Delay,
    /// Messages of transactions.
    Transaction,
    /// Messages of the types normal, fifo, delay and transaction.
    Mixed,
    /// Messages with a priority.
    Priority,
    /// Messages of lite topics.
    Lite,
    /// The type is unknown, and no messages can be sent.
    Unspecified,
}

/// The operations that are allowed on a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Perm {
    /// Sending and receiving.
    #[default]
    Rw,
    /// Receiving only.
    R,
    /// Sending only.
    W,
    /// Neither sending nor receiving.
    None,
}

/// A consumer group. Only the name is required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// The group's name.
    pub name: String,
    /// Whether the group consumes in order.
    #[serde(default)]
    pub fifo: bool,
    /// Whether the group may consume.
    #[serde(default = "yes")]
    pub consume: bool,
    /// The number of deliveries after the first one before a message becomes a dead letter.
    #[serde(default = "default_max_retries")]
    pub max_retries: i32,
    /// The pauses between the deliveries of a message; 1 s, 5 s, … 2 h by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetrySpec>,
    /// The topic of type `lite` to which the group is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lite_bind_topic: Option<String>,
    /// The maximum number of lite topics that a client may subscribe to.
    #[serde(default = "default_lite_quota")]
    pub lite_quota: i32,
    /// Whether a lite topic has one subscriber at a time. A later subscriber takes it over.
    #[serde(default)]
    pub lite_exclusive: bool,
    /// Where the group starts in a topic from which it has not received yet; by default, as in RocketMQ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartSpec>,
}

/// The pauses between deliveries of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a list of pauses such as [\"1s\", \"30s\"], or a table of initial, max and multiplier"
)]
pub enum RetrySpec {
    /// A list of pauses, the last of which repeats: `["1s", "30s", "5m"]`.
    #[cfg_attr(feature = "http", schema(value_type = Vec<crate::json_schema::Duration>))]
    Table(#[serde(with = "crate::duration::list")] Vec<Duration>),
    /// Exponential growth: `{ initial = "5s", max = "2h", multiplier = 2.0 }`.
    Growing {
        /// The first pause.
        #[serde(with = "crate::duration")]
        #[cfg_attr(feature = "http", schema(value_type = crate::json_schema::Duration))]
        initial: Duration,
        /// The longest pause.
        #[serde(with = "crate::duration")]
        #[cfg_attr(feature = "http", schema(value_type = crate::json_schema::Duration))]
        max: Duration,
        /// The factor between a pause and the next one.
        multiplier: f32,
    },
}

fn yes() -> bool {
    true
}

fn default_max_retries() -> i32 {
    GroupConfig::DEFAULT_MAX_RETRIES
}

fn default_lite_quota() -> i32 {
    GroupConfig::DEFAULT_LITE_QUOTA
}

impl GroupSpec {
    /// A group with the default settings.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            fifo: false,
            consume: true,
            max_retries: GroupConfig::DEFAULT_MAX_RETRIES,
            retry: None,
            lite_bind_topic: None,
            lite_quota: GroupConfig::DEFAULT_LITE_QUOTA,
            lite_exclusive: false,
            start: None,
        }
    }
}

impl From<TopicSpec> for TopicConfig {
    fn from(spec: TopicSpec) -> Self {
        let queues = spec.queues.unwrap_or(DEFAULT_QUEUES);
        Self {
            name: spec.name,
            kind: spec.kind.into(),
            read_queues: spec.read_queues.unwrap_or(queues),
            write_queues: spec.write_queues.unwrap_or(queues),
            permission: spec.perm.into(),
            lite_expiration: spec.lite_expiration,
            retention: spec.retention,
            retention_bytes: spec.retention_bytes,
        }
    }
}

impl From<TopicType> for TopicKind {
    fn from(kind: TopicType) -> Self {
        match kind {
            TopicType::Normal => Self::Normal,
            TopicType::Fifo => Self::Fifo,
            TopicType::Delay => Self::Delay,
            TopicType::Transaction => Self::Transaction,
            TopicType::Mixed => Self::Mixed,
            TopicType::Priority => Self::Priority,
            TopicType::Lite => Self::Lite,
            TopicType::Unspecified => Self::Unspecified,
        }
    }
}

impl From<Perm> for Permission {
    fn from(perm: Perm) -> Self {
        Self { read: matches!(perm, Perm::Rw | Perm::R), write: matches!(perm, Perm::Rw | Perm::W) }
    }
}

impl From<GroupSpec> for GroupConfig {
    fn from(spec: GroupSpec) -> Self {
        Self {
            name: spec.name,
            fifo: spec.fifo,
            consume: spec.consume,
            max_retries: spec.max_retries,
            retry: match spec.retry {
                None => RetryPolicy::default(),
                Some(RetrySpec::Table(pauses)) => RetryPolicy::Customized(pauses),
                Some(RetrySpec::Growing { initial, max, multiplier }) => {
                    RetryPolicy::Exponential { initial, max, multiplier }
                }
            },
            lite_bind_topic: spec.lite_bind_topic,
            lite_quota: spec.lite_quota,
            lite_exclusive: spec.lite_exclusive,
            start: spec.start.map(|StartSpec(start)| start).unwrap_or_default(),
        }
    }
}

impl From<TopicConfig> for TopicSpec {
    fn from(config: TopicConfig) -> Self {
        Self {
            name: config.name,
            kind: match config.kind {
                TopicKind::Normal | TopicKind::Undeclared => TopicType::Normal,
                TopicKind::Fifo => TopicType::Fifo,
                TopicKind::Delay => TopicType::Delay,
                TopicKind::Transaction => TopicType::Transaction,
                TopicKind::Mixed => TopicType::Mixed,
                TopicKind::Priority => TopicType::Priority,
                TopicKind::Lite => TopicType::Lite,
                TopicKind::Unspecified => TopicType::Unspecified,
            },
            queues: None,
            read_queues: Some(config.read_queues),
            write_queues: Some(config.write_queues),
            perm: match (config.permission.read, config.permission.write) {
                (true, true) => Perm::Rw,
                (true, false) => Perm::R,
                (false, true) => Perm::W,
                (false, false) => Perm::None,
            },
            lite_expiration: config.lite_expiration,
            retention: config.retention,
            retention_bytes: config.retention_bytes,
        }
    }
}

impl From<GroupConfig> for GroupSpec {
    fn from(config: GroupConfig) -> Self {
        Self {
            name: config.name,
            fifo: config.fifo,
            consume: config.consume,
            max_retries: config.max_retries,
            retry: Some(match config.retry {
                RetryPolicy::Customized(pauses) => RetrySpec::Table(pauses),
                RetryPolicy::Exponential { initial, max, multiplier } => {
                    RetrySpec::Growing { initial, max, multiplier }
                }
            }),
            lite_bind_topic: config.lite_bind_topic,
            lite_quota: config.lite_quota,
            lite_exclusive: config.lite_exclusive,
            start: Some(StartSpec(config.start)).filter(|StartSpec(start)| *start != GroupStart::Default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_is_the_same_in_json_and_toml() {
        let toml = "[[topics]]\nname = 't'\nread_queues = 0\n[[groups]]\nname = 'g'\nretry = ['1s', '2500ms']\n\
                    [[groups]]\nname = 'h'\nretry = { initial = '5s', max = '2h', multiplier = 2.0 }\n";
        let json = r#"{"topics": [{"name": "t", "read_queues": 0}],
                       "groups": [{"name": "g", "retry": ["1s", "2500ms"]},
                                  {"name": "h", "retry": {"initial": "5s", "max": "2h", "multiplier": 2.0}}]}"#;
        let from_toml: Catalog = toml::from_str(toml).expect("TOML");
        let from_json: Catalog = serde_json::from_str(json).expect("JSON");
        assert_eq!(from_toml, from_json);
        let group = GroupConfig::from(from_toml.groups[0].clone());
        let expected = vec![Duration::from_secs(1), Duration::from_millis(2500)];
        assert_eq!(group.retry, RetryPolicy::Customized(expected));
        assert_eq!(TopicConfig::from(from_toml.topics[0].clone()).write_queues, 8);
    }
}
