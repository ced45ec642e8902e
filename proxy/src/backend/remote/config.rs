//! Conversion of topic and group configurations from and to the brokers' JSON (Apache's `TopicConfig`,
//! `SubscriptionGroupConfig`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::service::group_json::{self, EXCLUSIVE, LITE_BIND_TOPIC, LITE_MODEL, LITE_QUOTA};
use crate::service::names::{self, LITE_EXPIRATION};
use crate::service::{GroupConfig, GroupStart, RetryPolicy, TopicConfig, TopicKind};

/// A topic in the brokers' JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BrokerTopic {
    topic_name: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    perm: i32,
    #[serde(default)]
    read_queue_nums: i32,
    #[serde(default)]
    write_queue_nums: i32,
}

/// The settings of a topic in the brokers' JSON that this proxy does not change.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct BrokerTopicRest {
    pub(super) topic_filter_type: String,
    pub(super) topic_sys_flag: i32,
    pub(super) order: bool,
}

impl Default for BrokerTopicRest {
    fn default() -> Self {
        Self { topic_filter_type: "SINGLE_TAG".to_owned(), topic_sys_flag: 0, order: false }
    }
}

impl From<BrokerTopic> for TopicConfig {
    fn from(topic: BrokerTopic) -> Self {
        let kind =
            topic.attributes.get(names::MESSAGE_TYPE).map_or(TopicKind::Undeclared, |name| kind_of(name));
        let minutes = topic.attributes.get(LITE_EXPIRATION).and_then(|minutes| minutes.parse::<u64>().ok());
        Self {
            name: topic.topic_name,
            kind,
            read_queues: topic.read_queue_nums,
            write_queues: topic.write_queue_nums,
            permission: names::permission_of(topic.perm),
            lite_expiration: minutes.map(|minutes| Duration::from_secs(minutes.saturating_mul(60))),
            // Brokers have no retention per topic.
            retention: None,
            retention_bytes: None,
        }
    }
}

fn kind_of(name: &str) -> TopicKind {
    names::kind_named(name).unwrap_or(TopicKind::Unspecified)
}

/// The attributes of a topic in the form of brokers: its type, and when its lite topics expire. Empty for a topic that
/// declares no type.
///
/// # Errors
/// An expiration that brokers don't support.
pub(super) fn topic_attributes(topic: &TopicConfig) -> Result<String, String> {
    if topic.kind == TopicKind::Undeclared {
        return Ok(String::new());
    }
    let kind = format!("+{}={}", names::MESSAGE_TYPE, names::kind_name(topic.kind));
    if topic.kind != TopicKind::Lite {
        return Ok(kind);
    }
    let minutes = match topic.lite_expiration {
        None => "-1".to_owned(),
        Some(expiration) if expiration.as_millis() % 60_000 == 0 => (expiration.as_secs() / 60).to_string(),
        Some(_) => return Err("the expiration of lite topics must be whole minutes on brokers".to_owned()),
    };
    Ok(format!("{kind},+{LITE_EXPIRATION}={minutes}"))
}

/// A group in the brokers' JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BrokerGroup {
    group_name: String,
    #[serde(default = "yes")]
    consume_enable: bool,
    #[serde(default)]
    consume_message_orderly: bool,
    #[serde(default = "default_retries")]
    retry_max_times: i32,
    #[serde(default)]
    group_retry_policy: Option<BrokerRetryPolicy>,
    #[serde(default)]
    attributes: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BrokerRetryPolicy {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    exponential_retry_policy: Option<Exponential>,
    #[serde(default)]
    customized_retry_policy: Option<Customized>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Exponential {
    initial: u64,
    max: u64,
    multiplier: f32,
}

impl Default for Exponential {
    fn default() -> Self {
        Self { initial: 5_000, max: 7_200_000, multiplier: 2.0 }
    }
}

#[derive(Deserialize)]
struct Customized {
    next: Vec<u64>,
}

fn yes() -> bool {
    true
}

fn default_retries() -> i32 {
    16
}

impl From<BrokerGroup> for GroupConfig {
    fn from(group: BrokerGroup) -> Self {
        let attributes = group.attributes.unwrap_or_default();
        Self {
            name: group.group_name,
            fifo: group.consume_message_orderly,
            consume: group.consume_enable,
            max_retries: group.retry_max_times,
            retry: group.group_retry_policy.map_or_else(RetryPolicy::default, retry_policy),
            lite_bind_topic: attributes.get(LITE_BIND_TOPIC).cloned(),
            lite_quota: attributes
                .get(LITE_QUOTA)
                .and_then(|quota| quota.parse().ok())
                .unwrap_or(GroupConfig::DEFAULT_LITE_QUOTA),
            lite_exclusive: attributes.get(LITE_MODEL).is_some_and(|model| model == EXCLUSIVE),
            // Brokers have no such setting.
            start: GroupStart::Default,
        }
    }
}

fn retry_policy(policy: BrokerRetryPolicy) -> RetryPolicy {
    if policy.kind == "EXPONENTIAL" {
        let Exponential { initial, max, multiplier } = policy.exponential_retry_policy.unwrap_or_default();
        let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(max));
        return RetryPolicy::Exponential { initial, max, multiplier };
    }
    match policy.customized_retry_policy {
        Some(Customized { next }) if !next.is_empty() => {
            RetryPolicy::Customized(next.into_iter().map(Duration::from_millis).collect())
        }
        _ => RetryPolicy::default(),
    }
}

/// The JSON with which brokers create or change a group.
pub(super) fn group_body(group: &GroupConfig) -> Value {
    let mut body = group_json::to_json(group);
    let attributes = group_json::attributes(group).into_iter();
    body["attributes"] = attributes.map(|(key, value)| (format!("+{key}"), Value::String(value))).collect();
    body
}

/// The JSON that changes a group to this configuration, and keeps all other settings that the broker has for it.
pub(super) fn changed_group_body(present: Value, group: &GroupConfig) -> Value {
    const CHANGED: [&str; 5] =
        ["consumeEnable", "consumeMessageOrderly", "retryMaxTimes", "groupRetryPolicy", "attributes"];
    let (mut body, mut ours) = (present, group_body(group));
    for name in CHANGED {
        body[name] = ours[name].take();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brokers_group_is_read() {
        let body = r#"{"attributes":{"lite.bind.topic":"t"},"consumeEnable":true,"consumeMessageOrderly":true,"groupName":"g",
            "groupRetryPolicy":{"type":"EXPONENTIAL","exponentialRetryPolicy":{"initial":5,"max":9,"multiplier":3}},"retryMaxTimes":2}"#;
        let group: GroupConfig = serde_json::from_str::<BrokerGroup>(body).unwrap().into();
        let retry = RetryPolicy::Exponential {
            initial: Duration::from_millis(5),
            max: Duration::from_millis(9),
            multiplier: 3.0,
        };
        assert_eq!((group.fifo, group.max_retries, group.retry), (true, 2, retry));
        assert_eq!((group.lite_bind_topic.as_deref(), group.lite_quota), (Some("t"), 2000));
    }

    #[test]
    fn a_group_without_a_policy_has_apaches_default() {
        let group: GroupConfig = serde_json::from_str::<BrokerGroup>(r#"{"groupName":"g"}"#).unwrap().into();
        assert_eq!(group.max_retries, 16);
        assert!(matches!(group.retry, RetryPolicy::Customized(pauses) if pauses.len() == 18));
    }

    #[test]
    fn settings_of_lite_groups_and_lite_topics_are_read_and_written() {
        let body = r#"{"attributes":{"lite.bind.topic":"t","lite.sub.model":"Exclusive"},"groupName":"g"}"#;
        let group: GroupConfig = serde_json::from_str::<BrokerGroup>(body).unwrap().into();
        assert!(group.lite_exclusive);
        assert_eq!(group_body(&group)["attributes"]["+lite.sub.model"], "Exclusive");
        for (minutes, expiration) in [("-1", None), ("90", Some(Duration::from_secs(5400)))] {
            let body = format!(
                r#"{{"topicName":"t","attributes":{{"message.type":"LITE","lite.topic.expiration":"{minutes}"}}}}"#
            );
            let topic: TopicConfig = serde_json::from_str::<BrokerTopic>(&body).unwrap().into();
            assert_eq!(topic.lite_expiration, expiration);
            let attributes = format!("+message.type=LITE,+lite.topic.expiration={minutes}");
            assert_eq!(topic_attributes(&topic), Ok(attributes));
            let odd = TopicConfig { lite_expiration: Some(Duration::from_secs(90)), ..topic };
            assert!(topic_attributes(&odd).is_err());
        }
    }

    #[test]
    fn a_topic_without_a_type_declares_none_and_an_unknown_type_is_unspecified() {
        for (attributes, kind) in [
            ("{}", TopicKind::Undeclared),
            (r#"{"message.type":"NORMAL"}"#, TopicKind::Normal),
            (r#"{"message.type":"LITE"}"#, TopicKind::Lite),
            (r#"{"message.type":"NEW"}"#, TopicKind::Unspecified),
        ] {
            let body = format!(r#"{{"topicName":"t","attributes":{attributes},"perm":6}}"#);
            let topic: TopicConfig = serde_json::from_str::<BrokerTopic>(&body).unwrap().into();
            assert_eq!(topic.kind, kind, "{attributes}");
        }
    }
}
