//! Simple consumers: all operations except receive, put-back and ack, which are called often (`operations.rs`).

use std::time::Duration;

use rocketmq_thin_bridge::CLOSE_DEADLINE;

use crate::completions::submit;
use crate::options::ConsumeOptions;
use crate::outcome::Outcome;
use crate::registry::{CLIENTS, CONSUMERS, DELIVERIES};

/// Creates a simple consumer.
#[uniffi::export]
pub(crate) fn create_consumer(client: i64, options: ConsumeOptions) -> i64 {
    submit(|| Some(CLIENTS.get(client)?.simple_consumer(options.into())))
}

/// Gives a delivery that could not be processed back to the server, which delivers it again after `after`.
#[uniffi::export]
pub(crate) fn nack_delivery(consumer: i64, delivery: i64, after: Duration) -> i64 {
    submit(|| Some(CONSUMERS.get(consumer)?.nack(DELIVERIES.get(delivery)?, after)))
}

/// Moves a delivery to the dead-letter topic.
#[uniffi::export]
pub(crate) fn dead_letter_delivery(consumer: i64, delivery: i64) -> i64 {
    submit(|| Some(CONSUMERS.get(consumer)?.dead_letter(DELIVERIES.get(delivery)?)))
}

/// Renews the lease of a delivery until it is settled or dropped, for at most `max`.
#[uniffi::export]
pub(crate) fn keep_delivery_lease(consumer: i64, delivery: i64, max: Duration) -> Outcome {
    let keep = || Some(CONSUMERS.get(consumer)?.keep_lease(&DELIVERIES.get(delivery)?, max));
    Outcome::from_result(keep(), |()| Outcome::Done)
}

/// Returns whether the lease of a delivery has ended before the delivery was settled.
#[uniffi::export]
pub(crate) fn is_lease_lost(delivery: i64) -> bool {
    DELIVERIES.get(delivery).is_some_and(|delivery| delivery.is_lease_lost())
}

/// Closes a simple consumer.
#[uniffi::export]
pub(crate) fn close_consumer(consumer: i64, deadline: Option<Duration>) -> i64 {
    submit(|| Some(CONSUMERS.get(consumer)?.close(deadline.unwrap_or(CLOSE_DEADLINE))))
}
