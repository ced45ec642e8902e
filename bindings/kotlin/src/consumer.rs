//! What simple consumers do rarely.

use std::time::Duration;

use rocketmq_thin_bridge::CLOSE_DEADLINE;

use crate::completions::submit;
use crate::options::{ConsumeOptions, TopicFilter};
use crate::outcome::Outcome;
use crate::registry::{CLIENTS, CONSUMERS, DELIVERIES};

/// Creates a simple consumer.
#[uniffi::export]
pub(crate) fn make_consumer(client: i64, options: ConsumeOptions) -> i64 {
    submit(|| Some(CLIENTS.get(client)?.simple_consumer(options.into())))
}

/// Gives a delivery back, to be delivered again after a time.
#[uniffi::export]
pub(crate) fn nack_delivery(consumer: i64, delivery: i64, after: Duration) -> i64 {
    submit(|| Some(CONSUMERS.get(consumer)?.nack(DELIVERIES.get(delivery)?, after)))
}

/// Makes a delivery a dead letter.
#[uniffi::export]
pub(crate) fn dead_letter_delivery(consumer: i64, delivery: i64) -> i64 {
    submit(|| Some(CONSUMERS.get(consumer)?.dead_letter(DELIVERIES.get(delivery)?)))
}

/// Keeps the lease of a delivery for at most this time.
#[uniffi::export]
pub(crate) fn keep_delivery_lease(consumer: i64, delivery: i64, max: Duration) -> Outcome {
    let kept = || Some(CONSUMERS.get(consumer)?.keep_lease(&DELIVERIES.get(delivery)?, max));
    Outcome::answer(kept(), |()| Outcome::Done)
}

/// Whether the lease of a delivery is over although it was not settled.
#[uniffi::export]
pub(crate) fn is_lease_lost(delivery: i64) -> bool {
    DELIVERIES.get(delivery).is_some_and(|delivery| delivery.is_lease_lost())
}

/// Receives a topic, or changes its filter.
#[uniffi::export]
pub(crate) fn subscribe_topic(consumer: i64, subscription: TopicFilter) -> i64 {
    submit(|| Some(CONSUMERS.get(consumer)?.subscribe(subscription.into())))
}

/// Stops receiving a topic.
#[uniffi::export]
pub(crate) fn unsubscribe_topic(consumer: i64, topic: String) -> i64 {
    submit(|| Some(CONSUMERS.get(consumer)?.unsubscribe(topic)))
}

/// What a simple consumer receives now.
#[uniffi::export]
pub(crate) fn consumer_subscriptions(consumer: i64) -> Vec<TopicFilter> {
    let subscriptions = CONSUMERS.get(consumer).and_then(|consumer| consumer.subscriptions().ok());
    subscriptions.unwrap_or_default().into_iter().filter_map(TopicFilter::new).collect()
}

/// Closes a simple consumer.
#[uniffi::export]
pub(crate) fn close_consumer(consumer: i64, deadline: Option<Duration>) -> i64 {
    submit(|| Some(CONSUMERS.get(consumer)?.close(deadline.unwrap_or(CLOSE_DEADLINE))))
}
