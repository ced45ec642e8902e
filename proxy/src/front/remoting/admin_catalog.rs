//! Requests of tools that create, change, delete and list topics and groups.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Answered, Refusal, json, success};
use super::request::Request;
use crate::error::{Error, ErrorKind};
use crate::remoting::response;
use crate::service::{
    GroupConfig, GroupField, GroupUpdate, TopicConfig, TopicField, TopicKind, TopicUpdate, group_json,
    millis, names,
};

/// A topic's configuration (Apache's `TopicConfig`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TopicBody {
    attributes: BTreeMap<String, String>,
    order: bool,
    perm: i32,
    read_queue_nums: i32,
    topic_filter_type: &'static str,
    topic_name: String,
    topic_sys_flag: i32,
    write_queue_nums: i32,
}

/// The settings of a group that a tool changes (Apache's `SubscriptionGroupConfig`). `None` leaves a setting unchanged.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupChange {
    group_name: String,
    consume_enable: Option<bool>,
    consume_message_orderly: Option<bool>,
    retry_max_times: Option<i32>,
}

/// The version that tools compare to detect changes (Apache's `DataVersion`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DataVersion {
    counter: i64,
    state_version: i64,
    timestamp: i64,
}

impl DataVersion {
    fn now() -> Self {
        Self { counter: 1, state_version: 0, timestamp: millis(SystemTime::now()) }
    }
}

impl From<TopicConfig> for TopicBody {
    fn from(topic: TopicConfig) -> Self {
        let mut attributes = BTreeMap::new();
        if topic.kind != TopicKind::Undeclared {
            attributes.insert(names::MESSAGE_TYPE.to_owned(), names::kind_name(topic.kind).to_owned());
        }
        if let Some(expiration) = topic.lite_expiration {
            attributes.insert(names::LITE_EXPIRATION.to_owned(), (expiration.as_secs() / 60).to_string());
        }
        Self {
            attributes,
            order: false,
            perm: names::permission_bits(topic.permission),
            read_queue_nums: topic.read_queues,
            topic_filter_type: "SINGLE_TAG",
            topic_name: topic.name,
            topic_sys_flag: 0,
            write_queue_nums: topic.write_queues,
        }
    }
}

/// UPDATE_AND_CREATE_TOPIC. Settings that the request does not name are unchanged if the topic exists.
pub(super) async fn put_topic(request: Request) -> Answered {
    let processor = &request.shared.processor;
    let queues = request.number("readQueueNums")?;
    let mut topic = TopicConfig {
        write_queues: request.number("writeQueueNums")?,
        permission: names::permission_of(request.number("perm")?),
        ..TopicConfig::new(request.text("topic")?, TopicKind::Undeclared, queues)
    };
    let mut fields =
        vec![TopicField::ReadQueues, TopicField::WriteQueues, TopicField::Readable, TopicField::Writable];
    let refuse =
        |what: &str| Err(Refusal::new(response::INVALID_PARAMETER, format!("{what} is not supported")));
    let attributes = request.command.text("attributes").unwrap_or_default();
    for change in attributes.split(',').filter(|change| !change.is_empty()) {
        match change.strip_prefix('+').and_then(|change| change.split_once('=')) {
            Some((names::MESSAGE_TYPE, wanted)) => match names::kind_named(wanted) {
                Some(kind) => {
                    topic.kind = kind;
                    fields.push(TopicField::Kind);
                }
                None => return refuse(&format!("the message type {wanted}")),
            },
            _ => return refuse(&format!("the attribute {change}")),
        }
    }
    match processor.update_topic(TopicUpdate { values: topic.clone(), fields }).await {
        Err(error) if error.kind == ErrorKind::TopicNotFound => {
            processor.apply(vec![topic], Vec::new(), true).await?;
        }
        updated => updated?,
    }
    Ok(success())
}

/// DELETE_TOPIC_IN_BROKER. Succeeds if the topic does not exist, as with Apache's brokers.
pub(super) async fn delete_topic(request: Request) -> Answered {
    let deleted = request.shared.processor.delete_topic(request.text("topic")?).await;
    ignore_absent(deleted, ErrorKind::TopicNotFound)
}

/// DELETE_SUBSCRIPTIONGROUP. Succeeds if the group does not exist.
pub(super) async fn delete_group(request: Request) -> Answered {
    let deleted = request.shared.processor.delete_group(request.text("groupName")?).await;
    ignore_absent(deleted, ErrorKind::GroupNotFound)
}

fn ignore_absent(deleted: Result<(), Error>, absent: ErrorKind) -> Answered {
    match deleted {
        Err(error) if error.kind != absent => Err(error.into()),
        _ => Ok(success()),
    }
}

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP. Settings that the request does not name are unchanged if the group exists.
pub(super) async fn put_group(request: Request) -> Answered {
    let GroupChange { group_name, consume_enable, consume_message_orderly, retry_max_times } =
        request.json()?;
    let mut group = GroupConfig::named(group_name);
    let mut fields = Vec::new();
    if let Some(consume) = consume_enable {
        group.consume = consume;
        fields.push(GroupField::Consume);
    }
    if let Some(fifo) = consume_message_orderly {
        group.fifo = fifo;
        fields.push(GroupField::Fifo);
    }
    if let Some(max_retries) = retry_max_times {
        group.max_retries = max_retries;
        fields.push(GroupField::MaxRetries);
    }
    let processor = &request.shared.processor;
    match processor.update_group(GroupUpdate { values: group.clone(), fields }).await {
        Err(error) if error.kind == ErrorKind::GroupNotFound => {
            processor.apply(Vec::new(), vec![group], true).await?;
        }
        updated => updated?,
    }
    Ok(success())
}

/// GET_TOPIC_CONFIG.
pub(super) async fn topic(request: Request) -> Answered {
    let name = request.text("topic")?;
    let topics = request.shared.processor.topics().await.map_err(Refusal::from)?;
    match topics.into_iter().find(|topic| topic.name == name) {
        Some(topic) => json(&TopicBody::from(topic)),
        None => {
            Err(Refusal::new(response::TOPIC_NOT_EXIST, format!("No topic in this broker. topic: {name}")))
        }
    }
}

/// GET_ALL_TOPIC_CONFIG.
pub(super) async fn topics(request: Request) -> Answered {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        data_version: DataVersion,
        topic_config_table: BTreeMap<String, TopicBody>,
    }
    let topics = request.shared.processor.topics().await.map_err(Refusal::from)?;
    let number = topics.len();
    let table = topics.into_iter().map(|topic| (topic.name.clone(), topic.into())).collect();
    let answer = json(&Body { data_version: DataVersion::now(), topic_config_table: table })?;
    Ok(answer.field("totalTopicNum", number))
}

/// GET_SUBSCRIPTIONGROUP_CONFIG.
pub(super) async fn group(request: Request) -> Answered {
    let name = request.text("group")?;
    let groups = request.shared.processor.groups().await.map_err(Refusal::from)?;
    match groups.into_iter().find(|group| group.name == name) {
        Some(group) => json(&group_json::to_json(&group)),
        None => {
            let text = format!("No group in this broker. group: {name}");
            Err(Refusal::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, text))
        }
    }
}

/// GET_ALL_SUBSCRIPTIONGROUP_CONFIG.
pub(super) async fn groups(request: Request) -> Answered {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        data_version: DataVersion,
        forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
        subscription_group_table: BTreeMap<String, Value>,
    }
    let groups = request.shared.processor.groups().await.map_err(Refusal::from)?;
    let number = groups.len();
    let answer = json(&Body {
        data_version: DataVersion::now(),
        forbidden_table: BTreeMap::new(),
        subscription_group_table: groups
            .into_iter()
            .map(|group| (group.name.clone(), group_json::to_json(&group)))
            .collect(),
    })?;
    Ok(answer.field("totalGroupNum", number))
}
