//! Changes of single settings of topics and groups.

use std::sync::Arc;
use std::time::Duration;

use super::{GroupConfig, RetryPolicy, ServiceError, TopicConfig};

/// A function that returns the changed form of a configuration.
pub type Change<T> = Arc<dyn Fn(&T) -> Result<T, ServiceError> + Send + Sync>;

/// A setting of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicField {
    /// [`TopicConfig::kind`].
    Kind,
    /// [`TopicConfig::read_queues`].
    ReadQueues,
    /// [`TopicConfig::write_queues`].
    WriteQueues,
    /// Whether clients may receive, in [`TopicConfig::permission`].
    Readable,
    /// Whether clients may send, in [`TopicConfig::permission`].
    Writable,
    /// [`TopicConfig::lite_expiration`].
    LiteExpiration,
    /// [`TopicConfig::retention`].
    Retention,
    /// [`TopicConfig::retention_bytes`].
    RetentionBytes,
}

/// An update of a topic. The named fields get the values in `values`; all other fields stay unchanged.
#[derive(Clone, Debug)]
pub struct TopicUpdate {
    /// The topic's name and the new values.
    pub values: TopicConfig,
    /// The fields to change.
    pub fields: Vec<TopicField>,
}

impl TopicUpdate {
    /// Returns the changed form of a configuration.
    #[must_use]
    pub fn apply_to(&self, present: &TopicConfig) -> TopicConfig {
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
    /// [`GroupConfig::fifo`].
    Fifo,
    /// [`GroupConfig::consume`].
    Consume,
    /// [`GroupConfig::max_retries`].
    MaxRetries,
    /// [`GroupConfig::retry`] as a whole.
    Retry,
    /// The first pause of an exponential policy. A customized policy is replaced by an exponential one.
    RetryInitial,
    /// The longest pause of an exponential policy. A customized policy is replaced by an exponential one.
    RetryMax,
    /// The multiplier of an exponential policy. A customized policy is replaced by an exponential one.
    RetryMultiplier,
    /// [`GroupConfig::lite_bind_topic`].
    LiteBindTopic,
    /// [`GroupConfig::lite_quota`].
    LiteQuota,
    /// [`GroupConfig::lite_exclusive`].
    LiteExclusive,
    /// [`GroupConfig::start`].
    Start,
}

/// An update of a group. The named fields get the values in `values`; all other fields stay unchanged.
#[derive(Clone, Debug)]
pub struct GroupUpdate {
    /// The group's name and the new values.
    pub values: GroupConfig,
    /// The fields to change.
    pub fields: Vec<GroupField>,
}

impl GroupUpdate {
    /// Returns the changed form of a configuration.
    #[must_use]
    pub fn apply_to(&self, present: &GroupConfig) -> GroupConfig {
        let (mut config, values) = (present.clone(), &self.values);
        for field in &self.fields {
            match field {
                GroupField::Fifo => config.fifo = values.fifo,
                GroupField::Consume => config.consume = values.consume,
                GroupField::MaxRetries => config.max_retries = values.max_retries,
                GroupField::Retry => config.retry.clone_from(&values.retry),
                GroupField::RetryInitial | GroupField::RetryMax | GroupField::RetryMultiplier => {
                    config.retry = change_exponential(&config.retry, &values.retry, *field);
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

/// An exponential policy in which one setting comes from `values`, and the others from `present` or the defaults.
fn change_exponential(present: &RetryPolicy, values: &RetryPolicy, field: GroupField) -> RetryPolicy {
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
