//! The configuration of a consumer group.

use std::time::{Duration, SystemTime};

/// The configuration of a consumer group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    /// The group's name, including its namespace.
    pub name: String,
    /// Whether the group consumes in order.
    pub fifo: bool,
    /// Whether the group may consume at all.
    pub consume: bool,
    /// The maximum number of deliveries of a message after the first one. If they all fail, the message becomes a dead
    /// letter.
    pub max_retries: i32,
    /// The pauses between the deliveries of a message.
    pub retry: RetryPolicy,
    /// The LITE topic to which a lite group is bound (`lite.bind.topic`); `None` for other groups.
    pub lite_bind_topic: Option<String>,
    /// The number of lite topics to which a client may subscribe (`lite.sub.client.quota`). Negative for no limit.
    pub lite_quota: i32,
    /// Whether a lite topic has one subscriber at a time. A later subscriber takes it over (`lite.sub.model`).
    pub lite_exclusive: bool,
    /// Where the group starts in a topic from which it has not received yet. The clients of a lite group choose their own
    /// start.
    pub start: GroupStart,
}

/// Where a group starts in a topic from which it has not received yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupStart {
    /// As in RocketMQ: at the first message of a queue if no message was removed from it yet, else at the last one.
    #[default]
    Default,
    /// At the first stored message.
    Earliest,
    /// After the last message that is stored when the group first receives.
    Latest,
    /// At the first message that was stored at this time or later. The time has whole milliseconds.
    Time(SystemTime),
}

impl GroupConfig {
    /// RocketMQ's default for `max_retries`.
    pub const DEFAULT_MAX_RETRIES: i32 = 16;
    /// RocketMQ's default for `lite_quota`.
    pub const DEFAULT_LITE_QUOTA: i32 = 2000;

    /// A group with RocketMQ's defaults.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            fifo: false,
            consume: true,
            max_retries: Self::DEFAULT_MAX_RETRIES,
            retry: RetryPolicy::default(),
            lite_bind_topic: None,
            lite_quota: Self::DEFAULT_LITE_QUOTA,
            lite_exclusive: false,
            start: GroupStart::Default,
        }
    }

    /// The maximum number of deliveries of a message, including the first one. At least 1: with a negative number of
    /// retries, messages would otherwise become dead letters before their first delivery.
    #[must_use]
    pub fn max_attempts(&self) -> i32 {
        self.max_retries.saturating_add(1).max(1)
    }

    /// Whether a delivery with this attempt number exceeds the group's limit, so that the message becomes a dead letter.
    #[must_use]
    pub fn exceeds_attempts(&self, attempt: i32) -> bool {
        attempt > self.max_attempts()
    }
}

/// The pauses between the deliveries of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum RetryPolicy {
    /// A list of pauses. The last one repeats.
    Customized(Vec<Duration>),
    /// Pauses that grow exponentially.
    Exponential {
        /// The first pause.
        initial: Duration,
        /// The longest pause.
        max: Duration,
        /// The factor between a pause and the next one.
        multiplier: f32,
    },
}

impl Default for RetryPolicy {
    /// RocketMQ's default: 18 pauses from a second to two hours.
    fn default() -> Self {
        const MINUTE: u64 = 60;
        let pauses = [1, 5, 10, 30].into_iter();
        let pauses =
            pauses.chain([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].map(|count| count * MINUTE));
        Self::Customized(pauses.map(Duration::from_secs).collect())
    }
}
