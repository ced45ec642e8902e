//! Converts the configurations of topics and groups between the wire and the backend.

use std::time::Duration;

use rocketmq_thin_proto::thin as pb;
use tonic::Status;

use super::{admin_stats, convert};
use crate::service::{GroupConfig, GroupStart, Permission, RetryPolicy, TopicConfig, TopicKind};

/// Encodes the configuration of a topic.
pub(super) fn topic(config: TopicConfig) -> pb::Topic {
    pb::Topic {
        r#type: match config.kind {
            TopicKind::Unspecified => pb::TopicType::Unspecified,
            TopicKind::Normal | TopicKind::Undeclared => pb::TopicType::Normal,
            TopicKind::Fifo => pb::TopicType::Fifo,
            TopicKind::Delay => pb::TopicType::Delay,
            TopicKind::Transaction => pb::TopicType::Transaction,
            TopicKind::Mixed => pb::TopicType::Mixed,
            TopicKind::Priority => pb::TopicType::Priority,
            TopicKind::Lite => pb::TopicType::Lite,
        }
        .into(),
        name: config.name,
        read_queues: config.read_queues,
        write_queues: config.write_queues,
        readable: config.permission.read,
        writable: config.permission.write,
        lite_expiration: config.lite_expiration.map(convert::duration),
        retention: config.retention.map(convert::duration),
        retention_bytes: config.retention_bytes,
    }
}

/// Decodes the configuration of a topic.
pub(super) fn topic_config(topic: pb::Topic) -> Result<TopicConfig, Status> {
    Ok(TopicConfig {
        kind: match topic.r#type() {
            pb::TopicType::Unspecified => TopicKind::Unspecified,
            pb::TopicType::Normal => TopicKind::Normal,
            pb::TopicType::Fifo => TopicKind::Fifo,
            pb::TopicType::Delay => TopicKind::Delay,
            pb::TopicType::Transaction => TopicKind::Transaction,
            pb::TopicType::Mixed => TopicKind::Mixed,
            pb::TopicType::Priority => TopicKind::Priority,
            pb::TopicType::Lite => TopicKind::Lite,
        },
        name: topic.name,
        read_queues: topic.read_queues,
        write_queues: topic.write_queues,
        permission: Permission { read: topic.readable, write: topic.writable },
        lite_expiration: topic.lite_expiration.as_ref().map(duration).transpose()?,
        retention: topic.retention.as_ref().map(duration).transpose()?,
        retention_bytes: topic.retention_bytes,
    })
}

/// Encodes the configuration of a group.
pub(super) fn group(config: GroupConfig) -> pb::Group {
    use pb::group::Retry;
    pb::Group {
        name: config.name,
        fifo: config.fifo,
        consume: config.consume,
        max_retries: config.max_retries,
        retry: Some(match config.retry {
            RetryPolicy::Customized(pauses) => Retry::Customized(pb::CustomizedRetry {
                next: pauses.into_iter().map(convert::duration).collect(),
            }),
            RetryPolicy::Exponential { initial, max, multiplier } => {
                Retry::Exponential(pb::ExponentialRetry {
                    initial: Some(convert::duration(initial)),
                    max: Some(convert::duration(max)),
                    multiplier,
                })
            }
        }),
        lite_bind_topic: config.lite_bind_topic,
        lite_quota: config.lite_quota,
        lite_exclusive: config.lite_exclusive,
        start: Some(start_to_wire(config.start)),
    }
}

/// Decodes the configuration of a group.
pub(super) fn group_config(group: pb::Group) -> Result<GroupConfig, Status> {
    use pb::group::Retry;
    let retry = match group.retry {
        Some(Retry::Customized(table)) if !table.next.is_empty() => {
            RetryPolicy::Customized(table.next.iter().map(duration).collect::<Result<_, Status>>()?)
        }
        Some(Retry::Exponential(pb::ExponentialRetry { initial, max, multiplier })) => {
            RetryPolicy::Exponential {
                initial: duration(&initial.unwrap_or_default())?,
                max: duration(&max.unwrap_or_default())?,
                multiplier,
            }
        }
        _ => RetryPolicy::default(),
    };
    Ok(GroupConfig {
        name: group.name,
        fifo: group.fifo,
        consume: group.consume,
        max_retries: group.max_retries,
        retry,
        lite_bind_topic: group.lite_bind_topic,
        lite_quota: group.lite_quota,
        lite_exclusive: group.lite_exclusive,
        start: start(group.start)?,
    })
}

fn start_to_wire(start: GroupStart) -> pb::GroupStart {
    use pb::group_start::Place;
    let (place, time) = match start {
        GroupStart::Default => (Place::Default, None),
        GroupStart::Earliest => (Place::Earliest, None),
        GroupStart::Latest => (Place::Latest, None),
        GroupStart::Time(at) => (Place::Time, Some(convert::timestamp(at))),
    };
    pb::GroupStart { place: place.into(), time }
}

fn start(start: Option<pb::GroupStart>) -> Result<GroupStart, Status> {
    use pb::group_start::Place;
    let start = start.unwrap_or_default();
    Ok(match start.place() {
        Place::Default => GroupStart::Default,
        Place::Earliest => GroupStart::Earliest,
        Place::Latest => GroupStart::Latest,
        Place::Time => {
            let at = admin_stats::time(start.time);
            GroupStart::Time(at.ok_or_else(|| Status::invalid_argument("start.time is missing or invalid"))?)
        }
    })
}

fn duration(duration: &prost_types::Duration) -> Result<Duration, Status> {
    let millis = u64::try_from(convert::millis(Some(duration)));
    millis.map(Duration::from_millis).map_err(|_| Status::invalid_argument("a duration must not be negative"))
}
