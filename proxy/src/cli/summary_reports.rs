//! The output of `topic stats` and `group stats` for all topics and groups.

use serde::Serialize;

use super::output::{Report, Table, one_line};
use super::stat_reports::{BytesView, or_dash, rounded};
use super::units;
use crate::processor::{GroupSummary, TopicSummary};

/// The result of `topic stats` without a name.
#[derive(Serialize)]
pub(super) struct TopicSummaries {
    topics: Vec<TopicLine>,
    /// Whether there are more than these.
    truncated: bool,
}

#[derive(Serialize)]
struct TopicLine {
    topic: String,
    queues: usize,
    messages: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<BytesView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_in: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_topics: Option<u64>,
    #[serde(skip)]
    age: Option<String>,
}

impl TopicSummaries {
    pub(super) fn new(topics: Vec<TopicSummary>, truncated: bool) -> Self {
        let line = |topic: TopicSummary| TopicLine {
            topic: topic.name,
            queues: topic.queues,
            messages: topic.messages,
            bytes: topic.bytes.map(Into::into),
            rate_in: topic.rate_in.map(rounded),
            oldest: topic.oldest.map(units::format_time),
            newest: topic.newest.map(units::format_time),
            lite_topics: topic.lite_topics,
            age: topic.oldest.map(units::format_age),
        };
        Self { topics: topics.into_iter().map(line).collect(), truncated }
    }
}

impl Report for TopicSummaries {
    fn text(&self) -> String {
        if self.topics.is_empty() {
            return "no topics".to_owned();
        }
        let mut table =
            Table::new(["TOPIC", "QUEUES", "MESSAGES", "BYTES", "STORED/S", "OLDEST", "LITE TOPICS"]);
        for topic in &self.topics {
            table.row([
                one_line(&topic.topic, usize::MAX),
                topic.queues.to_string(),
                topic.messages.to_string(),
                or_dash(topic.bytes.as_ref().map(BytesView::text)),
                or_dash(topic.rate_in),
                or_dash(topic.age.as_ref()),
                or_dash(topic.lite_topics),
            ]);
        }
        table.text() + if self.truncated { "There are more topics: see --limit.\n" } else { "" }
    }
}

/// The result of `group stats` without a name.
#[derive(Serialize)]
pub(super) struct GroupSummaries {
    groups: Vec<GroupLine>,
    /// Whether there are more than these.
    truncated: bool,
}

#[derive(Serialize)]
struct GroupLine {
    group: String,
    topics: usize,
    lag: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_unsettled: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_delivered: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_settled: Option<f64>,
    /// Whether the group has more topics or lite topics than were counted.
    truncated: bool,
    #[serde(skip)]
    age: Option<String>,
}

impl GroupSummaries {
    pub(super) fn new(groups: Vec<GroupSummary>, truncated: bool) -> Self {
        let line = |group: GroupSummary| GroupLine {
            group: group.name,
            topics: group.topics,
            lag: group.lag,
            in_flight: group.in_flight,
            retry: group.retry,
            blocked: group.blocked,
            oldest_unsettled: group.oldest.map(units::format_time),
            rate_delivered: group.rate_delivered.map(rounded),
            rate_settled: group.rate_settled.map(rounded),
            truncated: group.truncated,
            age: group.oldest.map(units::format_age),
        };
        Self { groups: groups.into_iter().map(line).collect(), truncated }
    }
}

impl Report for GroupSummaries {
    fn text(&self) -> String {
        if self.groups.is_empty() {
            return "no groups".to_owned();
        }
        let mut table = Table::new([
            "GROUP",
            "TOPICS",
            "LAG",
            "IN FLIGHT",
            "RETRY",
            "BLOCKED",
            "OLDEST",
            "DELIVERED/S",
            "SETTLED/S",
        ]);
        for group in &self.groups {
            let about = if group.truncated { "+" } else { "" };
            table.row([
                one_line(&group.group, usize::MAX),
                format!("{}{about}", group.topics),
                format!("{}{about}", group.lag),
                or_dash(group.in_flight),
                or_dash(group.retry),
                or_dash(group.blocked),
                or_dash(group.age.as_ref()),
                or_dash(group.rate_delivered),
                or_dash(group.rate_settled),
            ]);
        }
        table.text() + if self.truncated { "There are more groups: see --limit.\n" } else { "" }
    }
}
