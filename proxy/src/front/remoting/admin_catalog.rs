//! Requests of tools that create, change, delete and list topics and groups.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Answered, Refusal, json, success};
use super::request::Request;
use crate::error::{Error, ErrorKind};
use crate::processor::Processor;
use crate::remoting::response;
use crate::service::{
    GroupConfig, GroupField, GroupUpdate, Permission, TopicConfig, TopicField, TopicKind, TopicUpdate,
    group_json, millis, names,
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

/// The settings of a topic that a tool changes (Apache's `TopicConfig`, whose defaults these are).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TopicChange {
    topic_name: String,
    #[serde(default = "sixteen")]
    read_queue_nums: i32,
    #[serde(default = "sixteen")]
    write_queue_nums: i32,
    #[serde(default = "read_and_write")]
    perm: i32,
    /// The new value by `+` and the attribute's name.
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

fn sixteen() -> i32 {
    16
}

fn read_and_write() -> i32 {
    names::permission_bits(Permission { read: true, write: true })
}

impl TopicChange {
    fn into_update(self) -> Result<TopicUpdate, Refusal> {
        let mut topic = TopicConfig {
            write_queues: self.write_queue_nums,
            permission: names::permission_of(self.perm),
            ..TopicConfig::new(self.topic_name, TopicKind::Undeclared, self.read_queue_nums)
        };
        let mut fields =
            vec![TopicField::ReadQueues, TopicField::WriteQueues, TopicField::Readable, TopicField::Writable];
        for (attribute, value) in &self.attributes {
            let refuse =
                |what: &str| Refusal::new(response::INVALID_PARAMETER, format!("{what} is not supported"));
            if attribute.strip_prefix('+') != Some(names::MESSAGE_TYPE) {
                return Err(refuse(&format!("the attribute {attribute}")));
            }
            topic.kind =
                names::kind_named(value).ok_or_else(|| refuse(&format!("the message type {value}")))?;
            fields.push(TopicField::Kind);
        }
        Ok(TopicUpdate { values: topic, fields })
    }
}

impl From<GroupChange> for GroupUpdate {
    fn from(change: GroupChange) -> Self {
        let mut group = GroupConfig::named(change.group_name);
        let mut fields = Vec::new();
        if let Some(consume) = change.consume_enable {
            group.consume = consume;
            fields.push(GroupField::Consume);
        }
        if let Some(fifo) = change.consume_message_orderly {
            group.fifo = fifo;
            fields.push(GroupField::Fifo);
        }
        if let Some(max_retries) = change.retry_max_times {
            group.max_retries = max_retries;
            fields.push(GroupField::MaxRetries);
        }
        Self { values: group, fields }
    }
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
    let attributes = request.command.text("attributes").unwrap_or_default();
    let attributes = attributes.split(',').filter(|change| !change.is_empty());
    let change = TopicChange {
        topic_name: request.text("topic")?.to_owned(),
        read_queue_nums: request.number("readQueueNums")?,
        write_queue_nums: request.number("writeQueueNums")?,
        perm: request.number("perm")?,
        attributes: attributes
            .map(|change| change.split_once('=').unwrap_or((change, "")))
            .map(|(attribute, value)| (attribute.to_owned(), value.to_owned()))
            .collect(),
    };
    update_or_create_topic(&request.shared.processor, change.into_update()?).await?;
    Ok(success())
}

/// UPDATE_AND_CREATE_TOPIC_LIST. Nothing is changed if a topic of the list is refused before it is sent to a backend.
/// Otherwise the topics before one that fails are changed.
pub(super) async fn put_topics(request: Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        topic_config_list: Vec<TopicChange>,
    }
    let Body { topic_config_list } = request.json()?;
    let updates: Result<Vec<_>, _> = topic_config_list.into_iter().map(TopicChange::into_update).collect();
    for update in updates? {
        update_or_create_topic(&request.shared.processor, update).await?;
    }
    Ok(success())
}

async fn update_or_create_topic(processor: &Processor, update: TopicUpdate) -> Result<(), Error> {
    let topic = update.values.clone();
    match processor.update_topic(update).await {
        Err(error) if error.kind == ErrorKind::TopicNotFound => {
            processor.apply(vec![topic], Vec::new(), true).await
        }
        updated => updated,
    }
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
    let change: GroupChange = request.json()?;
    update_or_create_group(&request.shared.processor, change.into()).await?;
    Ok(success())
}

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST. The groups before one that fails are changed.
pub(super) async fn put_groups(request: Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        group_config_list: Vec<GroupChange>,
    }
    let Body { group_config_list } = request.json()?;
    for change in group_config_list {
        update_or_create_group(&request.shared.processor, change.into()).await?;
    }
    Ok(success())
}

async fn update_or_create_group(processor: &Processor, update: GroupUpdate) -> Result<(), Error> {
    let group = update.values.clone();
    match processor.update_group(update).await {
        Err(error) if error.kind == ErrorKind::GroupNotFound => {
            processor.apply(Vec::new(), vec![group], true).await
        }
        updated => updated,
    }
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
