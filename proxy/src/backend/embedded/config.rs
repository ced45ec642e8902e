use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the embedded broker behaves. Every field has a default, so that an empty table is a working one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// The directory that holds everything; made if it is missing.
    pub data_dir: PathBuf,
    /// When an acknowledged send is safe.
    pub flush: Flush,
    /// Whether a topic is made by the first request that names it (NORMAL, `default_queues` queues).
    pub auto_create_topics: bool,
    /// Whether a consumer group is made by the first request that names it.
    pub auto_create_groups: bool,
    /// How many queues an automatically made topic has.
    pub default_queues: i32,
    /// How long messages are kept, consumed or not.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// How many bytes of recent messages stay in memory, so that consumers who keep up never read the disk.
    pub cache_bytes: usize,
    /// How many bytes of sends may wait for the disk before new ones are refused as busy.
    pub max_pending_bytes: usize,
    /// How many deliveries of one queue a group may have unsettled; it gets nothing new beyond that. Each takes
    /// about 200 bytes of memory.
    pub max_unsettled_per_queue: usize,
    /// How many receives may wait for one topic and group.
    pub max_waiting_per_group: usize,
    /// How many receives may wait altogether.
    pub max_waiting: usize,
    /// The broker's name in routes.
    pub broker_name: String,
    /// Who stores the messages, `host:port`, as deliveries tell it.
    pub store_host: String,
}

/// When an acknowledged send is safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flush {
    /// It is on the disk: it survives a power failure. Concurrent sends share one fsync.
    #[default]
    Sync,
    /// It is with the operating system: it survives the death of this process, but not of the machine.
    Async,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("rocketmq-thin-data"),
            flush: Flush::Sync,
            auto_create_topics: true,
            auto_create_groups: true,
            default_queues: 8,
            retention: Duration::from_secs(72 * 3600),
            cache_bytes: 32 << 20,
            max_pending_bytes: 64 << 20,
            max_unsettled_per_queue: 50_000,
            max_waiting_per_group: 1024,
            max_waiting: 100_000,
            broker_name: "embedded".to_owned(),
            store_host: "127.0.0.1:8081".to_owned(),
        }
    }
}
