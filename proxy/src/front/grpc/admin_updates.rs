//! Converts updates of single settings of topics and groups between the wire and the backend.

use prost_types::FieldMask;
use rocketmq_thin_proto::thin as pb;
use tonic::Status;

use super::admin_config;
use crate::service::{GroupField, GroupUpdate, TopicField, TopicUpdate};

/// The names of a topic's fields in a mask.
const TOPIC_FIELDS: [(&str, TopicField); 8] = [
    ("type", TopicField::Kind),
    ("read_queues", TopicField::ReadQueues),
    ("write_queues", TopicField::WriteQueues),
    ("readable", TopicField::Readable),
    ("writable", TopicField::Writable),
    ("lite_expiration", TopicField::LiteExpiration),
    ("retention", TopicField::Retention),
    ("retention_bytes", TopicField::RetentionBytes),
];

/// The names of a group's fields in a mask. If a field has several names, the client sends the first one.
const GROUP_FIELDS: [(&str, GroupField); 12] = [
    ("fifo", GroupField::Fifo),
    ("consume", GroupField::Consume),
    ("max_retries", GroupField::MaxRetries),
    ("customized", GroupField::Retry),
    ("exponential", GroupField::Retry),
    ("exponential.initial", GroupField::RetryInitial),
    ("exponential.max", GroupField::RetryMax),
    ("exponential.multiplier", GroupField::RetryMultiplier),
    ("lite_bind_topic", GroupField::LiteBindTopic),
    ("lite_quota", GroupField::LiteQuota),
    ("lite_exclusive", GroupField::LiteExclusive),
    ("start", GroupField::Start),
];

pub(super) fn topic_to_wire(update: TopicUpdate) -> pb::UpdateTopicRequest {
    let fields = Some(mask(&TOPIC_FIELDS, &update.fields));
    pb::UpdateTopicRequest { topic: Some(admin_config::topic(update.values)), fields }
}

pub(super) fn topic(request: pb::UpdateTopicRequest) -> Result<TopicUpdate, Status> {
    let fields = fields(&TOPIC_FIELDS, request.fields, "topic")?;
    let topic = request.topic.ok_or_else(|| Status::invalid_argument("the topic is missing"))?;
    Ok(TopicUpdate { values: admin_config::topic_config(topic)?, fields })
}

pub(super) fn group_to_wire(update: GroupUpdate) -> pb::UpdateGroupRequest {
    let fields = Some(mask(&GROUP_FIELDS, &update.fields));
    pb::UpdateGroupRequest { group: Some(admin_config::group(update.values)), fields }
}

pub(super) fn group(request: pb::UpdateGroupRequest) -> Result<GroupUpdate, Status> {
    let fields = fields(&GROUP_FIELDS, request.fields, "group")?;
    let group = request.group.ok_or_else(|| Status::invalid_argument("the group is missing"))?;
    Ok(GroupUpdate { values: admin_config::group_config(group)?, fields })
}

fn mask<F: PartialEq + Copy>(known: &[(&str, F)], fields: &[F]) -> FieldMask {
    let name = |field: &F| known.iter().find(|(_, known)| known == field).map(|(name, _)| (*name).to_owned());
    FieldMask { paths: fields.iter().filter_map(name).collect() }
}

fn fields<F: Copy>(known: &[(&str, F)], mask: Option<FieldMask>, what: &str) -> Result<Vec<F>, Status> {
    let field = |path: String| match known.iter().find(|(name, _)| *name == path) {
        Some((_, field)) => Ok(*field),
        None => Err(Status::invalid_argument(format!("a {what} has no updatable field {path:?}"))),
    };
    mask.unwrap_or_default().paths.into_iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::{GroupConfig, RetryPolicy};

    #[test]
    fn an_update_arrives_as_it_was_sent() {
        let secs = Duration::from_secs;
        let retry = RetryPolicy::Exponential { initial: secs(3), max: secs(60), multiplier: 3.0 };
        let values = GroupConfig { retry, max_retries: 9, ..GroupConfig::named("g") };
        let fields = vec![GroupField::RetryInitial, GroupField::Retry, GroupField::Start];
        let update = group(group_to_wire(GroupUpdate { values, fields: fields.clone() })).expect("an update");
        assert_eq!(update.fields, fields);
        let initial = GroupUpdate { fields: vec![GroupField::RetryInitial], ..update };
        let changed = initial.apply_to(&GroupConfig { fifo: true, ..GroupConfig::named("g") });
        let retry = RetryPolicy::Exponential { initial: secs(3), max: secs(7200), multiplier: 2.0 };
        assert_eq!(changed, GroupConfig { fifo: true, retry, ..GroupConfig::named("g") });
        let unknown = FieldMask { paths: vec!["queues".to_owned()] };
        let refused =
            topic(pb::UpdateTopicRequest { topic: None, fields: Some(unknown) }).expect_err("a refusal");
        assert!(refused.message().contains("\"queues\""), "{refused}");
    }
}
