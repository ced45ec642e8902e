//! The configuration of the embedded broker.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The configuration of the embedded broker. Every field has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// The directory that holds all data. It is created if it is missing.
    pub data_dir: PathBuf,
    /// How durable an acknowledged send is.
    pub flush: Flush,
    /// Whether the first request that names a topic creates it (NORMAL, `default_queues` queues).
    pub auto_create_topics: bool,
    /// Whether the first request that names a consumer group creates it.
    pub auto_create_groups: bool,
    /// The number of topics, and of groups, at which requests stop creating more. It bounds the memory that a client
    /// can fill with names.
    pub auto_create_limit: usize,
    /// The number of queues of a topic that a request creates.
    pub default_queues: i32,
    /// How long messages are kept, whether consumed or not.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
    /// The maximum size of the messages that a topic keeps, in bytes, whether consumed or not; 0 means no limit. The
    /// oldest messages are removed first, in chunks of up to 128 KiB. The newest chunk of each queue stays.
    pub retention_bytes: u64,
    /// The maximum size of the messages that all topics keep together, in bytes; 0 means no limit. The oldest messages
    /// are removed first.
    pub store_retention_bytes: u64,
    /// The time from the send of a half message to its first orphan check, unless the message sets another one.
    #[serde(with = "crate::duration")]
    pub transaction_timeout: Duration,
    /// The time between two orphan checks of a half message.
    #[serde(with = "crate::duration")]
    pub transaction_check_interval: Duration,
    /// How many orphan checks a half message gets at most. If it is still undecided an interval after the last check,
    /// it is discarded, with a warning.
    pub transaction_check_max: u32,
    /// The maximum size of the recent messages in memory, in bytes. Consumers that keep up never read the disk.
    pub cache_bytes: usize,
    /// The maximum size of the messages that wait to be stored, in bytes. Further sends are refused as busy.
    pub max_pending_bytes: usize,
    /// How many unsettled deliveries a group may have in one queue. The group gets no new messages from the queue
    /// beyond that. Each delivery takes about 200 bytes of memory. In a FIFO group, as many further messages may wait
    /// behind others of their message group.
    pub max_unsettled_per_queue: usize,
    /// How many receives may wait for one topic and group.
    pub max_waiting_per_group: usize,
    /// How many receives may wait in total.
    pub max_waiting: usize,
    /// The maximum number of lite topics of one topic. Sends that would create more are refused.
    pub max_lite_topics: usize,
    /// The maximum number of subscriptions of all clients to lite topics. Each takes about 200 bytes of memory.
    pub max_lite_subscriptions: usize,
    /// The broker's name in routes.
    pub broker_name: String,
    /// The `host:port` that deliveries name as the broker that stores the message.
    pub store_host: String,
    /// `retention_bytes` for individual topics, by name; 0 means no limit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub topic_retention_bytes: BTreeMap<String, u64>,
}

/// How durable an acknowledged send is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flush {
    /// Synced to the disk: the message survives a power failure. Concurrent sends share one fsync.
    #[default]
    Sync,
    /// Handed to the operating system: the message survives the end of this process, but not a power failure.
    Async,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("rocketmq-thin-data"),
            flush: Flush::Sync,
            auto_create_topics: true,
            auto_create_groups: true,
            auto_create_limit: 10_000,
            default_queues: 8,
            retention: Duration::from_secs(72 * 3600),
            retention_bytes: 0,
            store_retention_bytes: 0,
            transaction_timeout: Duration::from_secs(6),
            transaction_check_interval: Duration::from_secs(30),
            transaction_check_max: 15,
            cache_bytes: 32 << 20,
            max_pending_bytes: 64 << 20,
            max_unsettled_per_queue: 50_000,
            max_waiting_per_group: 20_000,
            max_waiting: 100_000,
            max_lite_topics: 1_000_000,
            max_lite_subscriptions: 100_000,
            // The default name of Apache's broker.
            broker_name: "broker-a".to_owned(),
            store_host: "127.0.0.1:8081".to_owned(),
            topic_retention_bytes: BTreeMap::new(),
        }
    }
}
