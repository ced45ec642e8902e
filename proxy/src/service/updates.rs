//! Changes of single settings of topics and groups.

use std::sync::Arc;
use std::time::Duration;

use super::{GroupConfig, RetryPolicy, ServiceError, TopicConfig};

/// Turns a configuration into another one.
pub type Change<T> = Arc<dyn Fn(&T) -> Result<T, ServiceError> + Send + Sync>;

/// A setting of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicField {
    /// What it takes.
    Kind,
    /// How many queues can be read.
    ReadQueues,
    /// How many queues can be written.
    WriteQueues,
    /// Whether it may be read.
    Readable,
    /// Whether it may be written.
    Writable,
    /// When its lite topics expire.
    LiteExpiration,
    /// How long its messages are kept.
    Retention,
    /// How many bytes of messages it keeps.
    RetentionBytes,
}

/// An update of a topic: the fields that are named take their values from `values`, the others stay as they are.
#[derive(Clone, Debug)]
pub struct TopicUpdate {
    /// The topic's name, and the values.
    pub values: TopicConfig,
    /// What changes.
    pub fields: Vec<TopicField>,
}

impl TopicUpdate {
    /// The configuration that `present` becomes.
    #[must_use]
    pub fn applied_to(&self, present: &TopicConfig) -> TopicConfig {
        let (mut config, values) = (present.clone(), &self.values);
        for field in &self.fields {
            match field {
                TopicField::Kind => config.kind = values.kind,
                TopicField::ReadQueues => config.read_queues = values.read_queues,
                TopicField::WriteQueues => config.write_queues = values.write_queues,
                TopicField::Readable => config.permission.read = values.permission.read,
                TopicField::Writable => config.permission.write = values.permission.write,
                TopicField::LiteExpiration => config.lite_expiration = values.lite_expiration,
                TopicField::Retention => config.retention = values.retention,
                TopicField::RetentionBytes => config.retention_bytes = values.retention_bytes,
            }
        }
        config
    }
}

/// A setting of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupField {
    /// Whether it consumes in order.
    Fifo,
    /// Whether it may consume.
    Consume,
    /// Deliveries after the first.
    MaxRetries,
    /// The pauses between deliveries.
    Retry,
    /// The first of growing pauses. A policy that has others is replaced by growing ones.
    RetryInitial,
    /// The longest of growing pauses.
    RetryMax,
    /// The factor from one growing pause to the next.
    RetryMultiplier,
    /// The LITE topic that it is bound to.
    LiteBindTopic,
    /// How many lite topics a client may subscribe to.
    LiteQuota,
    /// Whether a lite topic has one subscriber at a time.
    LiteExclusive,
    /// Where it begins in a topic.
    Start,
}

/// An update of a group: the fields that are named take their values from `values`, the others stay as they are.
#[derive(Clone, Debug)]
pub struct GroupUpdate {
    /// The group's name, and the values.
    pub values: GroupConfig,
    /// What changes.
    pub fields: Vec<GroupField>,
}

impl GroupUpdate {
    /// The configuration that `present` becomes.
    #[must_use]
    pub fn applied_to(&self, present: &GroupConfig) -> GroupConfig {
        let (mut config, values) = (present.clone(), &self.values);
        for field in &self.fields {
            match field {
                GroupField::Fifo => config.fifo = values.fifo,
                GroupField::Consume => config.consume = values.consume,
                GroupField::MaxRetries => config.max_retries = values.max_retries,
                GroupField::Retry => config.retry.clone_from(&values.retry),
                GroupField::RetryInitial | GroupField::RetryMax | GroupField::RetryMultiplier => {
                    config.retry = growing(&config.retry, &values.retry, *field);
                }
                GroupField::LiteBindTopic => config.lite_bind_topic.clone_from(&values.lite_bind_topic),
                GroupField::LiteQuota => config.lite_quota = values.lite_quota,
                GroupField::LiteExclusive => config.lite_exclusive = values.lite_exclusive,
                GroupField::Start => config.start = values.start,
            }
        }
        config
    }
}

/// A policy of growing pauses, of which one setting comes from `values`.
fn growing(present: &RetryPolicy, values: &RetryPolicy, field: GroupField) -> RetryPolicy {
    const DEFAULT: (Duration, Duration, f32) = (Duration::from_secs(1), Duration::from_secs(2 * 3600), 2.0);
    let settings = |policy: &RetryPolicy| match policy {
        RetryPolicy::Exponential { initial, max, multiplier } => (*initial, *max, *multiplier),
        RetryPolicy::Customized(_) => DEFAULT,
    };
    let ((mut initial, mut max, mut multiplier), values) = (settings(present), settings(values));
    match field {
        GroupField::RetryInitial => initial = values.0,
        GroupField::RetryMax => max = values.1,
        _ => multiplier = values.2,
    }
    RetryPolicy::Exponential { initial, max, multiplier }
}
