//! The configuration of a topic.

use std::time::Duration;

/// The type of messages that a topic accepts, as in RocketMQ's `message.type` attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicKind {
    /// The type is unknown. The topic accepts no messages.
    Unspecified,
    /// No type is declared. The topic accepts normal messages, and messages of any type from clients whose protocol has no
    /// types.
    Undeclared,
    /// Normal messages.
    #[default]
    Normal,
    /// FIFO messages.
    Fifo,
    /// DELAY messages.
    Delay,
    /// TRANSACTION messages.
    Transaction,
    /// Normal, FIFO, DELAY and TRANSACTION messages.
    Mixed,
    /// PRIORITY messages.
    Priority,
    /// LITE messages.
    Lite,
}

/// The configuration of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// The topic's name, including its namespace.
    pub name: String,
    /// The type of its messages.
    pub kind: TopicKind,
    /// The number of queues for reading.
    pub read_queues: i32,
    /// The number of queues for writing.
    pub write_queues: i32,
    /// Whether clients may receive from the topic and send to it.
    pub permission: Permission,
    /// How long a lite topic is kept after its last use, in a LITE topic (`lite.topic.expiration`); `None` for ever.
    pub lite_expiration: Option<Duration>,
    /// How long messages are kept; `None` for the default in the broker's configuration.
    pub retention: Option<Duration>,
    /// The maximum size of the messages that are kept, in bytes, 0 for no limit; `None` for the default in the broker's
    /// configuration.
    pub retention_bytes: Option<u64>,
}

impl TopicConfig {
    /// A topic with this number of queues, which clients may read and write. All other settings have their defaults.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: TopicKind, queues: i32) -> Self {
        Self {
            name: name.into(),
            kind,
            read_queues: queues,
            write_queues: queues,
            permission: Permission { read: true, write: true },
            lite_expiration: None,
            retention: None,
            retention_bytes: None,
        }
    }
}

/// The operations that are allowed on a topic's queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// Consumers may receive.
    pub read: bool,
    /// Producers may send.
    pub write: bool,
}
