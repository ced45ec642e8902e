//! Writes a consumer group as JSON for Apache's brokers and tools (`SubscriptionGroupConfig`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{GroupConfig, RetryPolicy};

/// The attribute with the topic to which a lite group is bound.
pub const LITE_BIND_TOPIC: &str = "lite.bind.topic";
/// The attribute with the number of lite topics that a client may subscribe to.
pub const LITE_QUOTA: &str = "lite.sub.client.quota";
/// The attribute that says whether several clients may share a lite topic: [`SHARED`] or [`EXCLUSIVE`].
pub const LITE_MODEL: &str = "lite.sub.model";
/// Several clients may subscribe to the same lite topic.
pub const SHARED: &str = "Shared";
/// Only one client may subscribe to a lite topic.
pub const EXCLUSIVE: &str = "Exclusive";

/// A group's configuration. Settings that this proxy does not have get the brokers' default values.
#[must_use]
pub fn to_json(group: &GroupConfig) -> Value {
    json!({
        "groupName": group.name,
        "consumeEnable": group.consume,
        "consumeFromMinEnable": true,
        "consumeBroadcastEnable": true,
        "consumeMessageOrderly": group.fifo,
        "retryQueueNums": 1,
        "retryMaxTimes": group.max_retries,
        "groupRetryPolicy": retry_policy(&group.retry),
        "brokerId": 0,
        "whichBrokerWhenConsumeSlowly": 1,
        "notifyConsumerIdsChangedEnable": true,
        "groupSysFlag": 0,
        "consumeTimeoutMinute": 15,
        "attributes": attributes(group),
    })
}

/// The group's attributes by name.
#[must_use]
pub fn attributes(group: &GroupConfig) -> BTreeMap<&'static str, String> {
    let mut attributes = BTreeMap::new();
    if let Some(topic) = &group.lite_bind_topic {
        let model = if group.lite_exclusive { EXCLUSIVE } else { SHARED };
        attributes.insert(LITE_BIND_TOPIC, topic.clone());
        attributes.insert(LITE_MODEL, model.to_owned());
    }
    if group.lite_quota != GroupConfig::DEFAULT_LITE_QUOTA {
        attributes.insert(LITE_QUOTA, group.lite_quota.to_string());
    }
    attributes
}

fn retry_policy(policy: &RetryPolicy) -> Value {
    let millis = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match policy {
        policy if *policy == RetryPolicy::default() => json!({"type": "CUSTOMIZED"}),
        RetryPolicy::Customized(pauses) => {
            let next: Vec<_> = pauses.iter().map(millis).collect();
            json!({"type": "CUSTOMIZED", "customizedRetryPolicy": {"next": next}})
        }
        RetryPolicy::Exponential { initial, max, multiplier } => json!({
            "type": "EXPONENTIAL",
            "exponentialRetryPolicy": {"initial": millis(initial), "max": millis(max), "multiplier": multiplier},
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_group_is_written_as_by_apaches_brokers() {
        let body = to_json(&GroupConfig::named("g"));
        assert_eq!(body["groupRetryPolicy"], json!({"type": "CUSTOMIZED"}));
        assert_eq!(body["attributes"], json!({}));
        let retry = RetryPolicy::Customized(vec![Duration::from_secs(1)]);
        let (lite_bind_topic, lite_exclusive) = (Some("t".to_owned()), true);
        let body =
            to_json(&GroupConfig { retry, lite_bind_topic, lite_exclusive, ..GroupConfig::named("g") });
        let policy = json!({"type": "CUSTOMIZED", "customizedRetryPolicy": {"next": [1000]}});
        assert_eq!(body["groupRetryPolicy"], policy);
        assert_eq!(body["attributes"], json!({"lite.bind.topic": "t", "lite.sub.model": "Exclusive"}));
    }
}
