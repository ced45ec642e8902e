//! Lite topics. Both simple and push consumers can subscribe to them.

use std::time::SystemTime;

use rocketmq_thin_bridge::{LiteRevocations, OffsetOption};

use crate::completions::submit;
use crate::outcome::Outcome;
use crate::registry::{CONSUMERS, PUSH_CONSUMERS, Registry};
use crate::subscriptions::{ConsumerKey, call};

static REVOCATIONS: Registry<LiteRevocations> = Registry::new();

/// Where a group starts in a lite topic.
#[derive(uniffi::Enum)]
pub(crate) enum StartOffset {
    Last,
    Min,
    Max,
    Offset(u64),
    Tail(u64),
    Timestamp(SystemTime),
}

impl From<StartOffset> for OffsetOption {
    fn from(given: StartOffset) -> Self {
        match given {
            StartOffset::Last => Self::Last,
            StartOffset::Min => Self::Min,
            StartOffset::Max => Self::Max,
            StartOffset::Offset(offset) => Self::Offset(offset),
            StartOffset::Tail(messages) => Self::Tail(messages),
            StartOffset::Timestamp(time) => Self::Timestamp(time),
        }
    }
}

/// Subscribes to a lite topic, in which the group starts at `start`, or at its last position.
#[uniffi::export]
pub(crate) fn subscribe_lite_topic(
    consumer: ConsumerKey,
    lite_topic: String,
    start: Option<StartOffset>,
) -> i64 {
    submit(|| call!(consumer, subscribe_lite(lite_topic, start.map(Into::into))))
}

/// Ends the subscription of a lite topic.
#[uniffi::export]
pub(crate) fn unsubscribe_lite_topic(consumer: ConsumerKey, lite_topic: String) -> i64 {
    submit(|| call!(consumer, unsubscribe_lite(lite_topic)))
}

/// Returns the lite topics that a consumer is subscribed to.
#[uniffi::export]
pub(crate) fn subscribed_lite_topics(consumer: ConsumerKey) -> Vec<String> {
    call!(consumer, lite_topics()).and_then(Result::ok).unwrap_or_default()
}

/// Returns a stream of the lite topics whose subscriptions the server ends from now on.
#[uniffi::export]
pub(crate) fn lite_revocations(consumer: ConsumerKey) -> Outcome {
    Outcome::from_result(call!(consumer, lite_revocations()), |revocations| {
        Outcome::registered(REVOCATIONS.insert(revocations), |key| REVOCATIONS.remove(key))
    })
}

/// Waits for the next lite topic whose subscription the server ends.
#[uniffi::export]
pub(crate) fn next_revocation(revocations: i64) -> i64 {
    submit(|| Some(REVOCATIONS.get(revocations)?.next()))
}
