//! The flags for the settings of topics and groups, of the commands that create and update them.

use std::time::Duration;

use clap::Args as ClapArgs;

use super::units;
use crate::config::{GroupSpec, Perm, StartSpec, TopicSpec, TopicType};
use crate::duration;
use crate::service::{
    GroupConfig, GroupField, GroupStart, GroupUpdate, Permission, RetryPolicy, TopicConfig, TopicField,
    TopicUpdate, millis, time,
};

#[derive(ClapArgs)]
pub(super) struct TopicSettings {
    /// The message type [default of a new topic: normal]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<TopicType>,
    /// The number of queues [default of a new topic: 8]
    #[arg(long, value_name = "N", conflicts_with_all = ["read_queues", "write_queues"])]
    queues: Option<i32>,
    /// The number of queues for reading, if it differs from --queues
    #[arg(long, value_name = "N")]
    read_queues: Option<i32>,
    /// The number of queues for writing, if it differs from --queues
    #[arg(long, value_name = "N")]
    write_queues: Option<i32>,
    /// Whether clients may read (r) and write (w) [default of a new topic: rw]
    #[arg(long, value_name = "PERM")]
    perm: Option<Perm>,
    /// How long after its last use a lite topic is removed with its messages; or never [default: never]
    #[arg(long, value_name = "DURATION", value_parser = |text: &str| parse_or_default(text, "never", duration::parse))]
    lite_expiration: Option<OrDefault<Duration>>,
    /// How long messages are retained; `default`: as the configuration of the proxy says
    #[arg(long, value_name = "DURATION", value_parser = |text: &str| parse_or_default(text, "default", duration::parse))]
    retention: Option<OrDefault<Duration>>,
    /// How many bytes of messages are retained, such as 10GiB, 0 without a limit; `default`: as the configuration of the
    /// proxy says
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| parse_or_default(text, "default", units::parse_bytes))]
    retention_bytes: Option<OrDefault<u64>>,
}

/// A value, or `None` for the word that selects the default.
#[derive(Clone, Copy)]
struct OrDefault<T>(Option<T>);

impl TopicSettings {
    /// An update of the settings that were given.
    pub(super) fn update(self, name: String) -> TopicUpdate {
        let mut fields = Vec::new();
        let mut values = TopicConfig::from(TopicSpec { name, ..TopicSpec::default() });
        let mut set = |field, is_given: bool| fields.extend(is_given.then_some(field));
        if let Some(kind) = self.kind {
            values.kind = kind.into();
        }
        set(TopicField::Kind, self.kind.is_some());
        let (read, write) = (self.read_queues.or(self.queues), self.write_queues.or(self.queues));
        values.read_queues = read.unwrap_or(values.read_queues);
        set(TopicField::ReadQueues, read.is_some());
        values.write_queues = write.unwrap_or(values.write_queues);
        set(TopicField::WriteQueues, write.is_some());
        values.permission = self.perm.map_or(values.permission, Permission::from);
        set(TopicField::Readable, self.perm.is_some());
        set(TopicField::Writable, self.perm.is_some());
        values.lite_expiration = self.lite_expiration.and_then(|OrDefault(value)| value);
        set(TopicField::LiteExpiration, self.lite_expiration.is_some());
        values.retention = self.retention.and_then(|OrDefault(value)| value);
        set(TopicField::Retention, self.retention.is_some());
        values.retention_bytes = self.retention_bytes.and_then(|OrDefault(value)| value);
        set(TopicField::RetentionBytes, self.retention_bytes.is_some());
        TopicUpdate { values, fields }
    }
}

#[derive(ClapArgs)]
pub(super) struct GroupSettings {
    /// Consume in order [default of a new group: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    fifo: Option<bool>,
    /// The number of redeliveries before a message becomes a dead letter [default of a new group: 16]
    #[arg(long, value_name = "N")]
    max_retries: Option<i32>,
    /// The delays between the deliveries of a message; the last one repeats [default of a new group:
    /// 1s,5s,10s,30s,1m,… 2h]
    #[arg(
        long,
        value_name = "DURATION[,DURATION]",
        value_delimiter = ',',
        value_parser = duration::parse,
        conflicts_with_all = ["retry_initial", "retry_max", "retry_multiplier"]
    )]
    retry: Option<Vec<Duration>>,
    /// The first delay of an exponential backoff [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    retry_initial: Option<Duration>,
    /// The longest delay of an exponential backoff [default: 2h]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    retry_max: Option<Duration>,
    /// The factor between the delays of an exponential backoff [default: 2]
    #[arg(long, value_name = "FACTOR")]
    retry_multiplier: Option<f32>,
    /// Where the group starts in a topic from which it has not received yet: earliest, latest or a time [default of a new
    /// group: at the first message, or, as in RocketMQ, at the last one if retention has removed messages of the queue]
    #[arg(long, value_name = "PLACE", value_parser = parse_start)]
    start: Option<StartSpec>,
    /// Whether the group may consume [default of a new group: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    consume: Option<bool>,
    /// The same as --consume=false
    #[arg(long, conflicts_with = "consume")]
    no_consume: bool,
    /// The topic of type lite whose lite topics the group consumes
    #[arg(long, value_name = "TOPIC")]
    lite_bind_topic: Option<String>,
    /// The maximum number of lite topics that a client may subscribe to [default of a new group: 2000]
    #[arg(long, value_name = "N")]
    lite_quota: Option<i32>,
    /// Allow one subscriber per lite topic: a later subscriber replaces the earlier one [default of a new group: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    lite_exclusive: Option<bool>,
}

impl GroupSettings {
    /// An update of the settings that were given.
    pub(super) fn update(self, name: String) -> GroupUpdate {
        let mut fields = Vec::new();
        let mut values = GroupConfig::from(GroupSpec::named(name));
        let mut set = |field, is_given: bool| fields.extend(is_given.then_some(field));
        values.fifo = self.fifo.unwrap_or(values.fifo);
        set(GroupField::Fifo, self.fifo.is_some());
        values.consume = self.consume.unwrap_or(values.consume) && !self.no_consume;
        set(GroupField::Consume, self.consume.is_some() || self.no_consume);
        values.max_retries = self.max_retries.unwrap_or(values.max_retries);
        set(GroupField::MaxRetries, self.max_retries.is_some());
        set(GroupField::Retry, self.retry.is_some());
        set(GroupField::RetryInitial, self.retry_initial.is_some());
        set(GroupField::RetryMax, self.retry_max.is_some());
        set(GroupField::RetryMultiplier, self.retry_multiplier.is_some());
        values.retry = match self.retry {
            Some(pauses) => RetryPolicy::Customized(pauses),
            // Fields that are not in `fields` are ignored.
            None => RetryPolicy::Exponential {
                initial: self.retry_initial.unwrap_or_default(),
                max: self.retry_max.unwrap_or_default(),
                multiplier: self.retry_multiplier.unwrap_or(1.0),
            },
        };
        set(GroupField::LiteBindTopic, self.lite_bind_topic.is_some());
        values.lite_bind_topic = self.lite_bind_topic;
        values.lite_quota = self.lite_quota.unwrap_or(values.lite_quota);
        set(GroupField::LiteQuota, self.lite_quota.is_some());
        values.lite_exclusive = self.lite_exclusive.unwrap_or(values.lite_exclusive);
        set(GroupField::LiteExclusive, self.lite_exclusive.is_some());
        values.start = self.start.map_or(values.start, |StartSpec(start)| start);
        set(GroupField::Start, self.start.is_some());
        GroupUpdate { values, fields }
    }
}

/// Parses where a group starts.
fn parse_start(text: &str) -> Result<StartSpec, String> {
    // In addition to the forms of the configuration file, flags accept an age.
    text.parse().or_else(|error: String| match units::parse_time(text) {
        Ok(at) => Ok(StartSpec(GroupStart::Time(time(millis(at))))),
        Err(_) => Err(error),
    })
}

/// Parses a value, or the word that selects the default.
fn parse_or_default<T>(
    text: &str,
    word: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<OrDefault<T>, String> {
    if text == word {
        return Ok(OrDefault(None));
    }
    parse(text).map(|value| OrDefault(Some(value))).map_err(|error| format!("{error} (or: {word})"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct GroupLine {
        #[command(flatten)]
        settings: GroupSettings,
    }

    #[derive(Parser)]
    struct TopicLine {
        #[command(flatten)]
        settings: TopicSettings,
    }

    fn changed(group: &GroupConfig, flags: &[&str]) -> GroupConfig {
        let line = GroupLine::parse_from(["group"].iter().chain(flags));
        line.settings.update("g".to_owned()).apply_to(group)
    }

    #[test]
    fn settings_that_are_not_given_do_not_change() {
        let secs = Duration::from_secs;
        let group = GroupConfig { fifo: true, max_retries: 3, ..GroupConfig::named("g") };
        assert_eq!(changed(&group, &[]), group);
        let tabled = changed(&group, &["--retry", "1s,5s", "--fifo=false"]);
        assert_eq!((tabled.fifo, tabled.max_retries), (false, 3));
        assert_eq!(tabled.retry, RetryPolicy::Customized(vec![secs(1), secs(5)]));
        let growing = |initial, max, multiplier| RetryPolicy::Exponential { initial, max, multiplier };
        let grown = changed(&tabled, &["--retry-initial", "3s"]);
        assert_eq!(grown.retry, growing(secs(3), secs(7200), 2.0));
        let changed = changed(&grown, &["--retry-max", "1m", "--start", "latest", "--no-consume"]);
        assert_eq!(changed.retry, growing(secs(3), secs(60), 2.0));
        assert_eq!((changed.start, changed.consume), (GroupStart::Latest, false));
    }

    #[test]
    fn a_word_selects_the_default_of_a_topic() {
        let changed = |topic: &TopicConfig, flags: &[&str]| {
            let line = TopicLine::parse_from(["topic"].iter().chain(flags));
            line.settings.update("t".to_owned()).apply_to(topic)
        };
        let topic = TopicConfig::from(TopicSpec { name: "t".to_owned(), ..TopicSpec::default() });
        let limited = changed(&topic, &["--retention", "7d", "--retention-bytes", "2GiB", "--queues", "3"]);
        let week = Duration::from_secs(7 * 24 * 3600);
        assert_eq!((limited.retention, limited.retention_bytes), (Some(week), Some(2 << 30)));
        assert_eq!((limited.read_queues, limited.write_queues), (3, 3));
        let unlimited = changed(&limited, &["--retention", "default", "--retention-bytes", "0"]);
        assert_eq!((unlimited.retention, unlimited.retention_bytes), (None, Some(0)));
        assert_eq!(changed(&unlimited, &["--retention-bytes", "default"]).retention_bytes, None);
        assert!(TopicLine::try_parse_from(["topic", "--retention-bytes", "much"]).is_err());
    }
}
