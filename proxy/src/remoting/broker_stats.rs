//! Statistics of a broker (Apache's `Stats` and `BrokerStatsData`).

use serde::{Deserialize, Serialize};

/// Messages stored in a topic. The key is the topic.
pub const STORED: &str = "TOPIC_PUT_NUMS";
/// Messages delivered to a group. The key is [`group_key`].
pub const DELIVERED: &str = "GROUP_GET_NUMS";
/// Messages settled by a group. The key is [`group_key`].
pub const SETTLED: &str = "GROUP_ACK_NUMS";

/// The key of a group's statistics in a topic.
#[must_use]
pub fn group_key(topic: &str, group: &str) -> String {
    format!("{topic}@{group}")
}

/// The topic and the group of a key. `None` if it is not the key of a group.
#[must_use]
pub fn topic_and_group(key: &str) -> Option<(&str, &str)> {
    key.split_once('@')
}

/// One statistic, over several periods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerStats {
    /// The last minute.
    pub stats_minute: PeriodStats,
    /// The last hour.
    pub stats_hour: PeriodStats,
    /// The last day.
    pub stats_day: PeriodStats,
}

/// One statistic, over one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeriodStats {
    /// The number of events.
    pub sum: i64,
    /// The number of events per second.
    pub tps: f64,
    /// The average of the events that were counted together.
    pub avgpt: f64,
}
