//! The settings of topics and groups, as flags: for what is created, and for what is changed.

use std::time::Duration;

use clap::Args as ClapArgs;

use super::times;
use crate::config::{GroupSpec, Perm, RetrySpec, StartSpec, TopicSpec, TopicType};
use crate::service::{GroupStart, millis, time};

const INITIAL_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(2 * 3600);
const MULTIPLIER: f32 = 2.0;

#[derive(ClapArgs)]
pub(super) struct TopicSettings {
    /// The type of its messages [default of a new topic: normal]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<TopicType>,
    /// The number of queues [default of a new topic: 8]
    #[arg(long, value_name = "N", conflicts_with_all = ["read_queues", "write_queues"])]
    queues: Option<i32>,
    /// The number of queues for reading, if it differs
    #[arg(long, value_name = "N")]
    read_queues: Option<i32>,
    /// The number of queues for writing, if it differs
    #[arg(long, value_name = "N")]
    write_queues: Option<i32>,
    /// What clients may do with it [default of a new topic: rw]
    #[arg(long, value_name = "PERM")]
    perm: Option<Perm>,
    /// Remove a lite topic, with its messages, this long after its last use [default: never]
    #[arg(long, value_name = "DURATION")]
    lite_expiration: Option<humantime::Duration>,
}

impl TopicSettings {
    /// Changes what was given.
    pub(super) fn apply_to(self, topic: &mut TopicSpec) {
        topic.kind = self.kind.unwrap_or(topic.kind);
        topic.read_queues = self.read_queues.or(self.queues).or(topic.read_queues);
        topic.write_queues = self.write_queues.or(self.queues).or(topic.write_queues);
        topic.perm = self.perm.unwrap_or(topic.perm);
        topic.lite_expiration = self.lite_expiration.map(Into::into).or(topic.lite_expiration);
    }
}

#[derive(ClapArgs)]
pub(super) struct GroupSettings {
    /// Consume in order [default of a new group: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    fifo: Option<bool>,
    /// Deliveries after the first, before a message becomes a dead letter [default of a new group: 16]
    #[arg(long, value_name = "N")]
    max_retries: Option<i32>,
    /// The pauses between the deliveries of a message; the last one repeats [default of a new group:
    /// 1s,5s,10s,30s,1m,… 2h]
    #[arg(
        long,
        value_name = "DURATION[,DURATION]",
        value_delimiter = ',',
        conflicts_with_all = ["retry_initial", "retry_max", "retry_multiplier"]
    )]
    retry: Option<Vec<humantime::Duration>>,
    /// The first of growing pauses [default: 1s]
    #[arg(long, value_name = "DURATION")]
    retry_initial: Option<humantime::Duration>,
    /// The longest of growing pauses [default: 2h]
    #[arg(long, value_name = "DURATION")]
    retry_max: Option<humantime::Duration>,
    /// The factor from one growing pause to the next [default: 2]
    #[arg(long, value_name = "FACTOR")]
    retry_multiplier: Option<f32>,
    /// Where it begins in a topic that it has not received from: earliest, latest or a time [default of a new group: at
    /// the first message, or at the last one if retention has removed messages of the queue, like RocketMQ]
    #[arg(long, value_name = "PLACE", value_parser = start)]
    start: Option<StartSpec>,
    /// Whether it may consume [default of a new group: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    consume: Option<bool>,
    /// The same as --consume=false
    #[arg(long, conflicts_with = "consume")]
    no_consume: bool,
    /// Consume the lite topics of this topic, whose type is lite
    #[arg(long, value_name = "TOPIC")]
    lite_bind_topic: Option<String>,
    /// The most lite topics that a client may subscribe to [default of a new group: 2000]
    #[arg(long, value_name = "N")]
    lite_quota: Option<i32>,
    /// Let a lite topic have one subscriber at a time: a later one takes it over [default of a new group: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    lite_exclusive: Option<bool>,
}

impl GroupSettings {
    /// Changes what was given.
    pub(super) fn apply_to(self, group: &mut GroupSpec) {
        group.retry = self.retry(group.retry.take());
        group.fifo = self.fifo.unwrap_or(group.fifo);
        group.consume = self.consume.unwrap_or(group.consume) && !self.no_consume;
        group.max_retries = self.max_retries.unwrap_or(group.max_retries);
        group.lite_bind_topic = self.lite_bind_topic.or(group.lite_bind_topic.take());
        group.lite_quota = self.lite_quota.unwrap_or(group.lite_quota);
        group.lite_exclusive = self.lite_exclusive.unwrap_or(group.lite_exclusive);
        group.start = self.start.or(group.start);
    }

    fn retry(&self, before: Option<RetrySpec>) -> Option<RetrySpec> {
        if let Some(pauses) = &self.retry {
            return Some(RetrySpec::Table(pauses.iter().map(|pause| **pause).collect()));
        }
        let (initial, max) = (self.retry_initial.map(Into::into), self.retry_max.map(Into::into));
        if initial.is_none() && max.is_none() && self.retry_multiplier.is_none() {
            return before;
        }
        let growing = match before {
            Some(RetrySpec::Growing { initial, max, multiplier }) => (initial, max, multiplier),
            Some(RetrySpec::Table(_)) | None => (INITIAL_PAUSE, MAX_PAUSE, MULTIPLIER),
        };
        Some(RetrySpec::Growing {
            initial: initial.unwrap_or(growing.0),
            max: max.unwrap_or(growing.1),
            multiplier: self.retry_multiplier.unwrap_or(growing.2),
        })
    }
}

fn start(text: &str) -> Result<StartSpec, String> {
    // Besides what a configuration says, how long ago a time is.
    text.parse().or_else(|error: String| match times::parse(text) {
        Ok(at) => Ok(StartSpec(GroupStart::Time(time(millis(at))))),
        Err(_) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: GroupSettings,
    }

    fn changed(mut group: GroupSpec, flags: &[&str]) -> GroupSpec {
        Line::parse_from(["group"].iter().chain(flags)).settings.apply_to(&mut group);
        group
    }

    #[test]
    fn what_is_not_given_stays() {
        let secs = Duration::from_secs;
        let group = GroupSpec { fifo: true, max_retries: 3, ..GroupSpec::named("g") };
        assert_eq!(changed(group.clone(), &[]), group);
        let tabled = changed(group.clone(), &["--retry", "1s,5s", "--fifo=false"]);
        assert_eq!((tabled.fifo, tabled.max_retries), (false, 3));
        assert_eq!(tabled.retry, Some(RetrySpec::Table(vec![secs(1), secs(5)])));
        let growing = |initial, max, multiplier| Some(RetrySpec::Growing { initial, max, multiplier });
        let grown = changed(tabled, &["--retry-initial", "3s"]);
        assert_eq!(grown.retry, growing(secs(3), secs(7200), 2.0));
        let changed = changed(grown, &["--retry-max", "1m", "--start", "latest"]);
        assert_eq!(changed.retry, growing(secs(3), secs(60), 2.0));
        assert_eq!(changed.start, Some(StartSpec(GroupStart::Latest)));
    }
}
