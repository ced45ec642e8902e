//! A consumer group in JSON, as Apache's brokers and tools read it (`SubscriptionGroupConfig`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{GroupConfig, RetryPolicy};

/// The attribute of a lite group that names its topic.
pub const LITE_BIND_TOPIC: &str = "lite.bind.topic";
/// How many lite topics a client may subscribe to.
pub const LITE_QUOTA: &str = "lite.sub.client.quota";
/// Whether several clients may subscribe to the same lite topic: [`SHARED`] or [`EXCLUSIVE`].
pub const LITE_MODEL: &str = "lite.sub.model";
/// They may.
pub const SHARED: &str = "Shared";
/// They may not.
pub const EXCLUSIVE: &str = "Exclusive";

/// A group's configuration. What this proxy does not know has the value that brokers give it.
#[must_use]
pub fn of(group: &GroupConfig) -> Value {
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

/// The attributes among it, by their names.
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
    fn a_group_without_settings_is_as_apaches_brokers_make_it() {
        let body = of(&GroupConfig::named("g"));
        assert_eq!(body["groupRetryPolicy"], json!({"type": "CUSTOMIZED"}));
        assert_eq!(body["attributes"], json!({}));
        let retry = RetryPolicy::Customized(vec![Duration::from_secs(1)]);
        let (lite_bind_topic, lite_exclusive) = (Some("t".to_owned()), true);
        let body = of(&GroupConfig { retry, lite_bind_topic, lite_exclusive, ..GroupConfig::named("g") });
        let policy = json!({"type": "CUSTOMIZED", "customizedRetryPolicy": {"next": [1000]}});
        assert_eq!(body["groupRetryPolicy"], policy);
        assert_eq!(body["attributes"], json!({"lite.bind.topic": "t", "lite.sub.model": "Exclusive"}));
    }
}
