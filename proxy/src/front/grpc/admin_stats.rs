//! Converts statistics, lists of clients and resets of groups between the wire and the backend.

use std::time::SystemTime;

use rocketmq_thin_proto::thin as pb;
use tonic::Status;

use super::convert;
use crate::processor::ConnectedClient;
use crate::service::{
    self, DiskStats, GroupQueueStats, GroupStats, GroupTopicStats, QueueReset, QueueStats, ResetGroup,
    ResetTarget, StoreStats, StoredBytes, TopicStats, TopicUsage,
};

pub(super) fn topic_stats_to_wire(stats: TopicStats) -> pb::TopicStatsResponse {
    let queue = |queue: QueueStats| pb::QueueStats {
        broker: queue.broker,
        id: queue.id,
        first_offset: queue.first,
        next_offset: queue.next,
        oldest: queue.oldest.map(convert::timestamp),
        newest: queue.newest.map(convert::timestamp),
    };
    pb::TopicStatsResponse {
        queues: stats.queues.into_iter().map(queue).collect(),
        stored_bytes: stats.bytes.map(|bytes| bytes.count),
        estimated: stats.bytes.is_some_and(|bytes| bytes.estimated),
        rate_in: stats.rate_in,
        lite_topics: stats.lite_topics,
    }
}

pub(super) fn topic_stats(stats: pb::TopicStatsResponse) -> TopicStats {
    let queue = |queue: pb::QueueStats| QueueStats {
        broker: queue.broker,
        id: queue.id,
        first: queue.first_offset,
        next: queue.next_offset,
        oldest: time(queue.oldest),
        newest: time(queue.newest),
    };
    let estimated = stats.estimated;
    TopicStats {
        queues: stats.queues.into_iter().map(queue).collect(),
        bytes: stats.stored_bytes.map(|count| StoredBytes { count, estimated }),
        rate_in: stats.rate_in,
        stored: None,
        lite_topics: stats.lite_topics,
    }
}

pub(super) fn group_stats_to_wire(stats: GroupStats) -> pb::GroupStatsResponse {
    let queue = |queue: GroupQueueStats| pb::GroupQueueStats {
        broker: queue.broker,
        id: queue.id,
        settled_offset: queue.settled,
        next_offset: queue.next,
        end_offset: queue.end,
        lag: queue.lag,
        in_flight: queue.in_flight,
        retry: queue.retry,
        blocked: queue.blocked,
        oldest_unsettled: queue.oldest.map(convert::timestamp),
    };
    let topic = |topic: GroupTopicStats| pb::GroupTopicStats {
        topic: topic.topic,
        queues: topic.queues.into_iter().map(queue).collect(),
        rate_delivered: topic.rate_delivered,
        rate_settled: topic.rate_settled,
    };
    pb::GroupStatsResponse {
        topics: stats.topics.into_iter().map(topic).collect(),
        truncated: stats.truncated,
    }
}

pub(super) fn group_stats(stats: pb::GroupStatsResponse) -> GroupStats {
    let queue = |queue: pb::GroupQueueStats| GroupQueueStats {
        broker: queue.broker,
        id: queue.id,
        settled: queue.settled_offset,
        next: queue.next_offset,
        end: queue.end_offset,
        lag: queue.lag,
        in_flight: queue.in_flight,
        retry: queue.retry,
        blocked: queue.blocked,
        oldest: time(queue.oldest_unsettled),
    };
    let topic = |topic: pb::GroupTopicStats| GroupTopicStats {
        topic: topic.topic,
        queues: topic.queues.into_iter().map(queue).collect(),
        rate_delivered: topic.rate_delivered,
        rate_settled: topic.rate_settled,
        delivered: None,
        settled: None,
    };
    GroupStats { topics: stats.topics.into_iter().map(topic).collect(), truncated: stats.truncated }
}

pub(super) fn store_stats_to_wire(stats: StoreStats) -> pb::StoreStatsResponse {
    let topic = |topic: TopicUsage| pb::TopicUsage {
        name: topic.name,
        messages: topic.messages,
        bytes: topic.bytes.count,
        estimated: topic.bytes.estimated,
    };
    pb::StoreStatsResponse {
        directory: stats.directory,
        usage: stats.disk.usage.into_iter().map(|(kind, bytes)| pb::DiskUsage { kind, bytes }).collect(),
        free_bytes: stats.disk.free_bytes,
        total_bytes: stats.disk.total_bytes,
        failure: stats.disk.failure,
        topics: stats.topics.into_iter().map(topic).collect(),
        truncated: stats.truncated,
    }
}

pub(super) fn store_stats(stats: pb::StoreStatsResponse) -> StoreStats {
    let topic = |topic: pb::TopicUsage| TopicUsage {
        name: topic.name,
        messages: topic.messages,
        bytes: StoredBytes { count: topic.bytes, estimated: topic.estimated },
    };
    let disk = DiskStats {
        usage: stats.usage.into_iter().map(|usage| (usage.kind, usage.bytes)).collect(),
        free_bytes: stats.free_bytes,
        total_bytes: stats.total_bytes,
        failure: stats.failure,
        ..DiskStats::default()
    };
    StoreStats {
        directory: stats.directory,
        disk,
        topics: stats.topics.into_iter().map(topic).collect(),
        truncated: stats.truncated,
    }
}

pub(super) fn client_to_wire(client: ConnectedClient) -> pb::Client {
    pb::Client {
        id: client.id,
        address: client.address,
        language: client.language,
        version: client.version,
        namespace: client.namespace,
        r#type: client.kind,
        group: client.group,
        topics: client.topics,
        since: Some(convert::timestamp(client.since)),
        connected: client.connected,
    }
}

pub(super) fn client(client: pb::Client) -> ConnectedClient {
    ConnectedClient {
        id: client.id,
        address: client.address,
        language: client.language,
        version: client.version,
        namespace: client.namespace,
        kind: client.r#type,
        group: client.group,
        topics: client.topics,
        since: time(client.since).unwrap_or(SystemTime::UNIX_EPOCH),
        connected: client.connected,
    }
}

pub(super) fn reset_to_wire(reset: ResetGroup) -> pb::ResetGroupRequest {
    use pb::reset_group_request::{Edge, Target};
    let target = match reset.target {
        ResetTarget::Earliest => Target::Edge(Edge::Earliest.into()),
        ResetTarget::Latest => Target::Edge(Edge::Latest.into()),
        ResetTarget::Time(at) => Target::Time(convert::timestamp(at)),
        ResetTarget::Offset { broker, queue, offset } => {
            Target::Offset(pb::QueueOffset { broker, queue_id: queue, offset })
        }
    };
    pb::ResetGroupRequest { group: reset.group, topic: reset.topic, target: Some(target) }
}

pub(super) fn reset(request: pb::ResetGroupRequest) -> Result<ResetGroup, Status> {
    use pb::reset_group_request::{Edge, Target};
    let missing =
        || Status::invalid_argument("the target is missing or invalid; expected edge, time or offset");
    let target = match request.target.ok_or_else(missing)? {
        Target::Edge(edge) => match Edge::try_from(edge).map_err(|_| missing())? {
            Edge::Earliest => ResetTarget::Earliest,
            Edge::Latest => ResetTarget::Latest,
        },
        Target::Time(at) => ResetTarget::Time(time(Some(at)).ok_or_else(missing)?),
        Target::Offset(pb::QueueOffset { broker, queue_id, offset }) => {
            ResetTarget::Offset { broker, queue: queue_id, offset }
        }
    };
    Ok(ResetGroup { group: request.group, topic: request.topic, target })
}

pub(super) fn resets_to_wire(queues: Vec<QueueReset>) -> pb::ResetGroupResponse {
    let queue = |QueueReset { broker, queue, before, offset }| pb::QueueReset {
        broker,
        queue_id: queue,
        before,
        offset,
    };
    pb::ResetGroupResponse { queues: queues.into_iter().map(queue).collect() }
}

pub(super) fn resets(response: pb::ResetGroupResponse) -> Vec<QueueReset> {
    let queue = |pb::QueueReset { broker, queue_id, before, offset }| QueueReset {
        broker,
        queue: queue_id,
        before,
        offset,
    };
    response.queues.into_iter().map(queue).collect()
}

/// A time from the wire. `None` if it is absent or invalid.
pub(super) fn time(timestamp: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    timestamp.and_then(convert::timestamp_millis).map(service::time)
}
