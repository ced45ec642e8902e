//! The names and numbers that RocketMQ's brokers and clients use for topics, their types and permissions, and message
//! properties.

use super::{Permission, TopicKind};

/// The prefix of a group's retry topics.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// The prefix of a group's dead-letter topic, followed by the group's name.
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";

/// The topic to which clients and this proxy send message traces.
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";

/// The attribute of a topic with its type.
pub const MESSAGE_TYPE: &str = "message.type";
/// The attribute of a LITE topic with the lifetime of its unused lite topics, in minutes; -1 for ever.
pub const LITE_EXPIRATION: &str = "lite.topic.expiration";

/// Whether a text is empty or consists only of whitespace by Java's definition (`Character.isWhitespace`), which excludes
/// non-breaking spaces.
#[must_use]
pub fn is_blank(text: &str) -> bool {
    let is_blank = |char| match char {
        '\u{A0}' | '\u{2007}' | '\u{202F}' | '\u{85}' => false,
        '\u{1C}'..='\u{1F}' => true,
        char => char::is_whitespace(char),
    };
    text.chars().all(is_blank)
}

/// All types that a topic can declare.
const KINDS: [TopicKind; 8] = [
    TopicKind::Unspecified,
    TopicKind::Normal,
    TopicKind::Fifo,
    TopicKind::Delay,
    TopicKind::Transaction,
    TopicKind::Mixed,
    TopicKind::Priority,
    TopicKind::Lite,
];

/// Bits of a topic's permission (Apache's `PermName`).
const PERMISSION_READ: i32 = 4;
const PERMISSION_WRITE: i32 = 2;

/// The name of a topic's type. A topic that declares no type has that of normal messages.
#[must_use]
pub fn kind_name(kind: TopicKind) -> &'static str {
    match kind {
        TopicKind::Unspecified => "UNSPECIFIED",
        TopicKind::Normal | TopicKind::Undeclared => "NORMAL",
        TopicKind::Fifo => "FIFO",
        TopicKind::Delay => "DELAY",
        TopicKind::Transaction => "TRANSACTION",
        TopicKind::Mixed => "MIXED",
        TopicKind::Priority => "PRIORITY",
        TopicKind::Lite => "LITE",
    }
}

/// The type with this name; `None` if there is no such type.
#[must_use]
pub fn kind_named(name: &str) -> Option<TopicKind> {
    KINDS.into_iter().find(|kind| kind_name(*kind) == name)
}

/// The number for a topic's permission.
#[must_use]
pub fn permission_bits(Permission { read, write }: Permission) -> i32 {
    i32::from(read) * PERMISSION_READ + i32::from(write) * PERMISSION_WRITE
}

/// The permission for a number.
#[must_use]
pub fn permission_of(bits: i32) -> Permission {
    Permission { read: bits & PERMISSION_READ != 0, write: bits & PERMISSION_WRITE != 0 }
}

/// The retry topic of a group for messages that it has read by offset.
#[must_use]
pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// The dead-letter topic of a group.
#[must_use]
pub fn dead_letter_topic(group: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}{group}")
}

/// The group whose dead letters a topic holds; `None` if this is not a dead-letter topic.
#[must_use]
pub fn group_of_dead_letters(topic: &str) -> Option<&str> {
    topic.strip_prefix(DEAD_LETTER_PREFIX)
}

/// Whether a topic is a group's retry or dead-letter topic.
#[must_use]
pub fn is_retry_or_dead_letter(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX) || topic.starts_with(DEAD_LETTER_PREFIX)
}

/// Splits `namespace%topic`. The prefix of a retry or dead-letter topic comes first, as in `%DLQ%namespace%group`.
#[must_use]
pub fn split_namespace(topic: &str) -> QualifiedTopic<'_> {
    let prefix = [RETRY_PREFIX, DEAD_LETTER_PREFIX].into_iter().find(|prefix| topic.starts_with(prefix));
    let prefix = prefix.unwrap_or_default();
    let rest = &topic[prefix.len()..];
    let (namespace, name) = match rest.split_once('%') {
        Some((namespace, name)) if !namespace.is_empty() => (namespace, name),
        _ => ("", rest),
    };
    QualifiedTopic { prefix, namespace, name }
}

/// The parts of a topic's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QualifiedTopic<'a> {
    /// [`RETRY_PREFIX`], [`DEAD_LETTER_PREFIX`], or empty.
    pub prefix: &'static str,
    /// The namespace; empty if there is none.
    pub namespace: &'a str,
    /// The name without prefix and namespace.
    pub name: &'a str,
}

/// Names of message properties (Apache's `MessageConst`).
pub mod properties {
    /// The sender's message id.
    pub const UNIQUE_KEY: &str = "UNIQ_KEY";
    /// The tag.
    pub const TAGS: &str = "TAGS";
    /// Business keys, separated by blanks.
    pub const KEYS: &str = "KEYS";
    /// The message group of a FIFO message.
    pub const SHARDING_KEY: &str = "__SHARDINGKEY";
    /// The delivery time, in milliseconds since the Unix epoch.
    pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
    /// The delay of the delivery, in seconds.
    pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
    /// The delay of the delivery, in milliseconds.
    pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
    /// The delay of the delivery, as one of the broker's levels.
    pub const DELAY_LEVEL: &str = "DELAY";
    /// `true` for the half message of a transaction.
    pub const TRANSACTION_PREPARED: &str = "TRAN_MSG";
    /// The producer group to which brokers send transaction checks.
    pub const PRODUCER_GROUP: &str = "PGROUP";
    /// The producer group of a classic client. On brokers, [`PRODUCER_GROUP`] contains the topic instead.
    pub const OWN_PRODUCER_GROUP: &str = "__PRODUCER_GROUP";
    /// The seconds before a broker first checks a transaction.
    pub const CHECK_IMMUNITY_SECONDS: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    /// W3C trace context.
    pub const TRACE_CONTEXT: &str = "TRACE_CONTEXT";
    /// The host on which the sender created the message.
    pub const BORN_HOST: &str = "__BORNHOST";
    /// When the sender created the message, in milliseconds since the Unix epoch.
    pub const BORN_TIMESTAMP: &str = "BORN_TIMESTAMP";
    /// The priority.
    pub const PRIORITY: &str = "_SYS_MSG_PRIORITY_";
    /// The lite topic.
    pub const LITE_TOPIC: &str = "__LITE_TOPIC";
    /// A message's offset in its lite topic.
    pub const MULTI_QUEUE_OFFSET: &str = "INNER_MULTI_QUEUE_OFFSET";
    /// The id of a message before it was moved to a retry topic.
    pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
    /// The topic from which a broker moved a message to a retry or dead-letter topic.
    pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
    /// The topic in which a dead letter failed.
    pub const DEAD_LETTER_ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
    /// The id of a dead letter in the topic in which it failed.
    pub const DEAD_LETTER_ORIGIN_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
    /// When the message was first popped.
    pub const FIRST_POP_TIME: &str = "1ST_POP_TIME";
    /// The region of the broker.
    pub const REGION: &str = "MSG_REGION";
    /// The region that clients assume if a message has no [`REGION`].
    pub const DEFAULT_REGION: &str = "DefaultRegion";
    /// The transaction id of a half message, with which some clients end the transaction.
    pub const TRANSACTION_ID: &str = "__transactionId__";
    /// The client that waits for a reply.
    pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
    /// When a reply was passed to the client that waits for it.
    pub const PUSH_REPLY_TIME: &str = "PUSH_REPLY_TIME";
    /// Whether clients trace the message.
    pub const TRACE_ON: &str = "TRACE_ON";
    /// The broker's cluster.
    pub const CLUSTER: &str = "CLUSTER";
    /// The broker's receipt handle of a popped message.
    pub const POP_CHECK_POINT: &str = "POP_CK";

    /// Properties that are reserved for brokers, sorted. `INNER_NUM` is our addition: Apache's proxy accepts it, and its
    /// broker then refuses the message without a usable reason.
    pub(super) const RESERVED: [&str; 55] = [
        "1ST_POP_TIME",
        "ARRIVE_TIME",
        "BORN_TIMESTAMP",
        "BUYER_ID",
        "CLUSTER",
        "CONSUME_START_TIME",
        "CORRECTION_FLAG",
        "CORRELATION_ID",
        "DELAY",
        "DLQ_ORIGIN_MESSAGE_ID",
        "DLQ_ORIGIN_TOPIC",
        "DUP_INFO",
        "EXTEND_UNIQ_INFO",
        "INNER_MULTI_QUEUE_OFFSET",
        "INNER_NUM",
        "INSTANCE_ID",
        "KEYS",
        "MAX_OFFSET",
        "MAX_RECONSUME_TIMES",
        "MIN_OFFSET",
        "MQ2_FLAG",
        "MSG_REGION",
        "MSG_TYPE",
        "ORIGIN_GROUP",
        "ORIGIN_MESSAGE_ID",
        "PGROUP",
        "POP_CK",
        "POP_CK_OFFSET",
        "PUSH_REPLY_TIME",
        "REAL_QID",
        "REAL_TOPIC",
        "RECONSUME_TIME",
        "REPLY_TO_CLIENT",
        "RETRY_TOPIC",
        "TAGS",
        "TIMER_DELAY_LEVEL",
        "TIMER_DELAY_MS",
        "TIMER_DELAY_SEC",
        "TIMER_DELIVER_MS",
        "TIMER_DEL_UNIQKEY",
        "TIMER_DEQUEUE_MS",
        "TIMER_ENQUEUE_MS",
        "TIMER_OUT_MS",
        "TIMER_ROLL_TIMES",
        "TRACE_ON",
        "TRANSFER_FLAG",
        "TRAN_MSG",
        "TRAN_PREPARED_QUEUE_OFFSET",
        "TTL",
        "UNIQ_KEY",
        "WAIT",
        "_SYS_MSG_PRIORITY_",
        "__BORNHOST",
        "__CRC32#",
        "__LITE_TOPIC",
    ];

    /// Whether a property is reserved for brokers: users can't send it, and don't receive it.
    #[must_use]
    pub fn is_reserved(key: &str) -> bool {
        RESERVED.binary_search(&key).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_properties_are_recognized() {
        assert!(properties::RESERVED.is_sorted());
        assert!(properties::is_reserved("UNIQ_KEY") && !properties::is_reserved("user"));
    }

    #[test]
    fn a_namespace_ends_at_the_first_percent_sign() {
        for (topic, prefix, namespace, name) in [
            ("t", "", "", "t"),
            ("ns%t", "", "ns", "t"),
            ("%DLQ%g", "%DLQ%", "", "g"),
            ("%DLQ%ns%g", "%DLQ%", "ns", "g"),
            ("%RETRY%ns%g_ns%t", "%RETRY%", "ns", "g_ns%t"),
            ("%t", "", "", "%t"),
        ] {
            assert_eq!(split_namespace(topic), QualifiedTopic { prefix, namespace, name }, "{topic}");
        }
    }
}
