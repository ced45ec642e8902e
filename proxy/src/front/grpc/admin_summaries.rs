//! Converts pages of statistics of topics, groups and lite topics between the wire and the processor.

use rocketmq_thin_proto::thin as pb;

use super::admin_stats::time;
use super::convert;
use crate::processor::{GroupSummary, Page, TopicSummary};
use crate::service::{LiteTopicPage, LiteTopicStats, StoredBytes};

pub(super) fn topics_to_wire(page: Page<TopicSummary>) -> pb::ListTopicStatsResponse {
    let topic = |topic: TopicSummary| pb::TopicSummary {
        name: topic.name,
        queues: i32::try_from(topic.queues).unwrap_or(i32::MAX),
        messages: topic.messages,
        stored_bytes: topic.bytes.map(|bytes| bytes.count),
        estimated: topic.bytes.is_some_and(|bytes| bytes.estimated),
        rate_in: topic.rate_in,
        oldest: topic.oldest.map(convert::timestamp),
        newest: topic.newest.map(convert::timestamp),
        lite_topics: topic.lite_topics,
    };
    pb::ListTopicStatsResponse { topics: page.lines.into_iter().map(topic).collect(), next: page.next }
}

pub(super) fn topics(page: pb::ListTopicStatsResponse) -> Page<TopicSummary> {
    let topic = |topic: pb::TopicSummary| {
        let estimated = topic.estimated;
        TopicSummary {
            name: topic.name,
            queues: usize::try_from(topic.queues).unwrap_or_default(),
            messages: topic.messages,
            bytes: topic.stored_bytes.map(|count| StoredBytes { count, estimated }),
            rate_in: topic.rate_in,
            oldest: time(topic.oldest),
            newest: time(topic.newest),
            lite_topics: topic.lite_topics,
        }
    };
    Page { lines: page.topics.into_iter().map(topic).collect(), next: page.next }
}

pub(super) fn groups_to_wire(page: Page<GroupSummary>) -> pb::ListGroupStatsResponse {
    let group = |group: GroupSummary| pb::GroupSummary {
        name: group.name,
        topics: i32::try_from(group.topics).unwrap_or(i32::MAX),
        lag: group.lag,
        in_flight: group.in_flight,
        retry: group.retry,
        blocked: group.blocked,
        oldest_unsettled: group.oldest.map(convert::timestamp),
        rate_delivered: group.rate_delivered,
        rate_settled: group.rate_settled,
        truncated: group.truncated,
    };
    pb::ListGroupStatsResponse { groups: page.lines.into_iter().map(group).collect(), next: page.next }
}

pub(super) fn groups(page: pb::ListGroupStatsResponse) -> Page<GroupSummary> {
    let group = |group: pb::GroupSummary| GroupSummary {
        name: group.name,
        topics: usize::try_from(group.topics).unwrap_or_default(),
        lag: group.lag,
        in_flight: group.in_flight,
        retry: group.retry,
        blocked: group.blocked,
        oldest: time(group.oldest_unsettled),
        rate_delivered: group.rate_delivered,
        rate_settled: group.rate_settled,
        truncated: group.truncated,
    };
    Page { lines: page.groups.into_iter().map(group).collect(), next: page.next }
}

pub(super) fn lite_topics_to_wire(page: LiteTopicPage) -> pb::ListLiteTopicsResponse {
    let lite_topic = |topic: LiteTopicStats| pb::LiteTopic {
        name: topic.name,
        first_offset: topic.first,
        next_offset: topic.next,
        oldest: topic.oldest.map(convert::timestamp),
        newest: topic.newest.map(convert::timestamp),
        subscribed: topic.subscribed,
    };
    let lite_topics = page.lite_topics.into_iter().map(lite_topic).collect();
    pb::ListLiteTopicsResponse { lite_topics, finished: page.finished }
}

pub(super) fn lite_topics(page: pb::ListLiteTopicsResponse) -> LiteTopicPage {
    let lite_topic = |topic: pb::LiteTopic| LiteTopicStats {
        name: topic.name,
        first: topic.first_offset,
        next: topic.next_offset,
        oldest: time(topic.oldest),
        newest: time(topic.newest),
        subscribed: topic.subscribed,
    };
    let lite_topics = page.lite_topics.into_iter().map(lite_topic).collect();
    LiteTopicPage { lite_topics, finished: page.finished }
}
