//! The output of commands that show the statistics of one topic or group, or reset a group.

use std::fmt::Write;

use serde::Serialize;

use super::output::{Report, Table, one_line};
use super::units;
use crate::service::{
    GroupQueueStats, GroupStats, LiteTopicPage, LiteTopicStats, QueueReset, QueueStats, StoredBytes,
    TopicStats,
};

/// The result of `topic stats NAME`.
#[derive(Serialize)]
pub(super) struct TopicReport {
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_topic: Option<String>,
    messages: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<BytesView>,
    /// Messages stored per second, over the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_in: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
    queues: Vec<QueueView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_topics: Option<LiteTopicsView>,
    #[serde(skip)]
    age: Option<String>,
}

/// The lite topics of a topic.
#[derive(Serialize)]
struct LiteTopicsView {
    /// The number of all lite topics.
    count: u64,
    /// The lite topics on this page.
    shown: Vec<LiteTopicView>,
    /// Whether more lite topics follow.
    truncated: bool,
}

#[derive(Serialize)]
struct LiteTopicView {
    lite_topic: String,
    messages: i64,
    first_offset: i64,
    next_offset: i64,
    subscribed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
}

#[derive(Serialize)]
pub(super) struct BytesView {
    count: u64,
    estimated: bool,
}

impl From<StoredBytes> for BytesView {
    fn from(bytes: StoredBytes) -> Self {
        Self { count: bytes.count, estimated: bytes.estimated }
    }
}

impl BytesView {
    /// The size, marked if it is an estimate.
    pub(super) fn text(&self) -> String {
        let about = if self.estimated { "about " } else { "" };
        format!("{about}{}", units::format_bytes(self.count))
    }
}

#[derive(Serialize)]
struct QueueView {
    broker: String,
    queue: i32,
    first_offset: i64,
    next_offset: i64,
    messages: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
}

impl TopicReport {
    pub(super) fn new(topic: String, lite_topic: Option<String>, stats: TopicStats) -> Self {
        let oldest = stats.queues.iter().filter_map(|queue| queue.oldest).min();
        let queues: Vec<_> = stats.queues.iter().map(QueueView::new).collect();
        let lite_topics =
            stats.lite_topics.map(|count| LiteTopicsView { count, shown: Vec::new(), truncated: false });
        Self {
            topic,
            lite_topic,
            messages: queues.iter().map(|queue| queue.messages).sum(),
            bytes: stats.bytes.map(Into::into),
            rate_in: stats.rate_in.map(rounded),
            oldest: oldest.map(units::format_time),
            newest: stats.queues.iter().filter_map(|queue| queue.newest).max().map(units::format_time),
            queues,
            lite_topics,
            age: oldest.map(units::format_age),
        }
    }

    /// Whether the topic has lite topics.
    pub(super) fn has_lite_topics(&self) -> bool {
        self.lite_topics.as_ref().is_some_and(|lite_topics| lite_topics.count > 0)
    }

    /// Adds a page of the lite topics.
    pub(super) fn add_lite_topics(&mut self, page: LiteTopicPage) {
        let view = |topic: LiteTopicStats| LiteTopicView {
            lite_topic: topic.name,
            messages: topic.next - topic.first,
            first_offset: topic.first,
            next_offset: topic.next,
            subscribed: topic.subscribed,
            oldest: topic.oldest.map(units::format_time),
            newest: topic.newest.map(units::format_time),
        };
        if let Some(lite_topics) = &mut self.lite_topics {
            lite_topics.shown = page.lite_topics.into_iter().map(view).collect();
            lite_topics.truncated = !page.finished;
        }
    }
}

impl LiteTopicsView {
    fn text(&self) -> String {
        let mut table = Table::new(["LITE TOPIC", "MESSAGES", "FIRST", "NEXT", "SUBSCRIBED", "NEWEST"]);
        for topic in &self.shown {
            table.row([
                one_line(&topic.lite_topic, 100),
                topic.messages.to_string(),
                topic.first_offset.to_string(),
                topic.next_offset.to_string(),
                if topic.subscribed { "yes" } else { "no" }.to_owned(),
                or_dash(topic.newest.as_ref()),
            ]);
        }
        let mut text = table.text();
        if self.truncated {
            text.push_str("There are more lite topics: see --lite-count and --lite-after.\n");
        }
        text
    }
}

impl QueueView {
    fn new(queue: &QueueStats) -> Self {
        Self {
            broker: queue.broker.clone(),
            queue: queue.id,
            first_offset: queue.first,
            next_offset: queue.next,
            messages: queue.next - queue.first,
            oldest: queue.oldest.map(units::format_time),
            newest: queue.newest.map(units::format_time),
        }
    }
}

impl Report for TopicReport {
    fn text(&self) -> String {
        let mut text = match (&self.lite_topics, &self.lite_topic) {
            (Some(lite_topics), _) => format!("{}: {} lite topics", self.topic, lite_topics.count),
            (None, Some(name)) => {
                format!("{}, lite topic {}: {} messages", self.topic, one_line(name, 100), self.messages)
            }
            (None, None) => format!("{}: {} messages", self.topic, self.messages),
        };
        // Writing to a String can't fail.
        if let Some(bytes) = self.bytes.as_ref().filter(|_| self.lite_topics.is_none()) {
            let _ = write!(text, ", {}", bytes.text());
        }
        if let Some(rate) = self.rate_in {
            let _ = write!(text, ", {rate} per second in the last minute");
        }
        if let Some(age) = &self.age {
            let _ = write!(text, ", the oldest {age} old");
        }
        text.push_str("\n\n");
        if let Some(lite_topics) = &self.lite_topics {
            return text + &lite_topics.text();
        }
        let mut table = Table::new(["BROKER", "QUEUE", "MESSAGES", "FIRST", "NEXT", "OLDEST", "NEWEST"]);
        for queue in &self.queues {
            table.row([
                queue.broker.clone(),
                queue.queue.to_string(),
                queue.messages.to_string(),
                queue.first_offset.to_string(),
                queue.next_offset.to_string(),
                or_dash(queue.oldest.as_ref()),
                or_dash(queue.newest.as_ref()),
            ]);
        }
        text + &table.text()
    }
}

/// The result of `group stats NAME`.
#[derive(Serialize)]
pub(super) struct GroupReport {
    group: String,
    topics: Vec<GroupTopicView>,
    truncated: bool,
    #[serde(skip)]
    with_queues: bool,
}

#[derive(Serialize)]
struct GroupTopicView {
    topic: String,
    #[serde(flatten)]
    progress: ProgressView,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_delivered: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_settled: Option<f64>,
    queues: Vec<GroupQueueView>,
}

#[derive(Serialize)]
struct GroupQueueView {
    broker: String,
    queue: i32,
    settled_offset: i64,
    next_offset: i64,
    end_offset: i64,
    #[serde(flatten)]
    progress: ProgressView,
}

#[derive(Serialize)]
struct ProgressView {
    lag: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_unsettled: Option<String>,
    #[serde(skip)]
    age: Option<String>,
}

impl ProgressView {
    fn of(queues: &[GroupQueueStats]) -> Self {
        let sum = |count: fn(&GroupQueueStats) -> Option<i64>| queues.iter().map(count).sum::<Option<i64>>();
        let oldest = queues.iter().filter_map(|queue| queue.oldest).min();
        Self {
            lag: queues.iter().map(|queue| queue.lag).sum(),
            in_flight: sum(|queue| queue.in_flight),
            retry: sum(|queue| queue.retry),
            blocked: sum(|queue| queue.blocked),
            oldest_unsettled: oldest.map(units::format_time),
            age: oldest.map(units::format_age),
        }
    }

    fn cells(&self) -> [String; 5] {
        let count = |count: Option<i64>| or_dash(count);
        let age = or_dash(self.age.as_ref());
        [self.lag.to_string(), count(self.in_flight), count(self.retry), count(self.blocked), age]
    }
}

impl GroupReport {
    pub(super) fn new(group: String, stats: GroupStats, with_queues: bool) -> Self {
        let queue = |queue: &GroupQueueStats| GroupQueueView {
            broker: queue.broker.clone(),
            queue: queue.id,
            settled_offset: queue.settled,
            next_offset: queue.next,
            end_offset: queue.end,
            progress: ProgressView::of(std::slice::from_ref(queue)),
        };
        let topics = stats.topics.into_iter().map(|topic| GroupTopicView {
            progress: ProgressView::of(&topic.queues),
            queues: topic.queues.iter().map(queue).collect(),
            topic: topic.topic,
            rate_delivered: topic.rate_delivered.map(rounded),
            rate_settled: topic.rate_settled.map(rounded),
        });
        Self { group, topics: topics.collect(), truncated: stats.truncated, with_queues }
    }
}

impl Report for GroupReport {
    fn text(&self) -> String {
        if self.topics.is_empty() {
            return format!("group {} has not received from any topic yet", self.group);
        }
        let mut table = Table::new([
            "TOPIC",
            "LAG",
            "IN FLIGHT",
            "RETRY",
            "BLOCKED",
            "OLDEST",
            "DELIVERED/S",
            "SETTLED/S",
        ]);
        for topic in &self.topics {
            let [lag, in_flight, retry, blocked, age] = topic.progress.cells();
            let rates = [or_dash(topic.rate_delivered), or_dash(topic.rate_settled)];
            let [delivered, settled] = rates;
            table.row([topic.topic.clone(), lag, in_flight, retry, blocked, age, delivered, settled]);
        }
        let mut text = table.text();
        if self.with_queues {
            let mut table = Table::new([
                "TOPIC",
                "BROKER",
                "QUEUE",
                "SETTLED TO",
                "NEXT",
                "END",
                "LAG",
                "IN FLIGHT",
                "RETRY",
                "BLOCKED",
                "OLDEST",
            ]);
            for (topic, queue) in
                self.topics.iter().flat_map(|topic| topic.queues.iter().map(move |q| (topic, q)))
            {
                let [lag, in_flight, retry, blocked, age] = queue.progress.cells();
                table.row([
                    topic.topic.clone(),
                    queue.broker.clone(),
                    queue.queue.to_string(),
                    queue.settled_offset.to_string(),
                    queue.next_offset.to_string(),
                    queue.end_offset.to_string(),
                    lag,
                    in_flight,
                    retry,
                    blocked,
                    age,
                ]);
            }
            text = format!("{text}\n{}", table.text());
        }
        if self.truncated {
            text.push_str(
                "There are more topics or lite topics than were counted. Use --topic for a single topic.\n",
            );
        }
        text
    }
}

/// The result of `group reset`.
#[derive(Serialize)]
pub(super) struct ResetReport {
    group: String,
    topic: String,
    queues: Vec<ResetView>,
}

#[derive(Serialize)]
struct ResetView {
    broker: String,
    queue: i32,
    settled_before: Option<i64>,
    next_offset: i64,
}

impl ResetReport {
    pub(super) fn new(group: String, topic: String, queues: Vec<QueueReset>) -> Self {
        let queue = |reset: QueueReset| ResetView {
            broker: reset.broker,
            queue: reset.queue,
            settled_before: reset.before,
            next_offset: reset.offset,
        };
        Self { group, topic, queues: queues.into_iter().map(queue).collect() }
    }
}

impl Report for ResetReport {
    fn text(&self) -> String {
        let mut table = Table::new(["BROKER", "QUEUE", "SETTLED BEFORE", "CONTINUES AT"]);
        for queue in &self.queues {
            table.row([
                queue.broker.clone(),
                queue.queue.to_string(),
                or_dash(queue.settled_before),
                queue.next_offset.to_string(),
            ]);
        }
        format!("group {} was reset in topic {}\n\n{}", self.group, self.topic, table.text())
    }
}

/// The value as a table cell, or `-` if there is none.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A rate with one decimal.
pub(super) fn rounded(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}
