//! A cached message of a push consumer, and the sequence that it belongs to.

use std::{sync::Arc, time::Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::{dispatch::Sequence, outcome::ConsumeResult};
use crate::{
    consumer::{InvisibleDurationChange, Subscribed},
    message::{Delivery, Lease},
    metrics::{CachedMessage, ConsumeSeries},
    session::{Session, VerificationReply},
};

/// A cached message.
pub(super) struct HeldMessage {
    pub(super) lease: Arc<Lease>,
    /// How many times the message was handed out, by this consumer and others.
    pub(super) attempt: u32,
    /// Whether later messages wait for this one.
    pub(super) ordered: bool,
    /// When the next attempt is due after a handler has failed; `None` if no handler of this consumer has failed.
    retry_at: Option<Instant>,
    /// Counts the message in the metrics.
    pub(super) cached: CachedMessage,
    /// The message; taken when it is handed out, unless it may be handed out again.
    delivery: Option<Delivery>,
    /// The subscription that the message was received for; `None` for a message to verify.
    subscribed: Option<Arc<Subscribed>>,
    /// Set for a message to verify. Such a message has no lease to settle or give back.
    pub(super) verification: Option<VerificationRequest>,
}

/// A request of a server to verify a message, which waits for the result.
pub(super) struct VerificationRequest {
    pub(super) reply: VerificationReply,
    pub(super) _room: OwnedSemaphorePermit,
}

impl VerificationRequest {
    /// Sends the result of the handler to the server.
    pub(super) fn answer(self, result: ConsumeResult) {
        self.reply.send(result == ConsumeResult::Ack);
    }
}

impl HeldMessage {
    /// Wraps a message that was received for `subscribed`.
    pub(super) fn received(
        delivery: Delivery,
        subscribed: Arc<Subscribed>,
        ordered: bool,
        series: Arc<ConsumeSeries>,
    ) -> Self {
        Self {
            lease: delivery.lease.clone(),
            attempt: delivery.attempt,
            ordered,
            retry_at: None,
            cached: CachedMessage::new(series, delivery.body.len()),
            delivery: Some(delivery),
            subscribed: Some(subscribed),
            verification: None,
        }
    }

    /// Wraps a message to verify.
    pub(super) fn for_verification(
        delivery: Delivery,
        verification: VerificationRequest,
        series: Arc<ConsumeSeries>,
    ) -> Self {
        Self {
            lease: delivery.lease.clone(),
            attempt: delivery.attempt,
            ordered: false,
            retry_at: None,
            cached: CachedMessage::new(series, delivery.body.len()),
            delivery: Some(delivery),
            subscribed: None,
            verification: Some(verification),
        }
    }

    /// Whether the subscription that the message was received for has ended.
    pub(super) fn is_unsubscribed(&self) -> bool {
        self.subscribed.as_ref().is_some_and(|subscribed| subscribed.stop.is_cancelled())
    }

    /// Records that a handler has failed, and that the message is handed out again at `at`.
    pub(super) fn retry_at(&mut self, at: Instant) {
        self.attempt = self.attempt.saturating_add(1);
        self.retry_at = Some(at);
    }

    /// The change that gives the message back. If a handler has failed, it counts as an attempt, and keeps the rest of
    /// the retry delay. Otherwise, a message that always fails would never reach the maximum number of attempts while
    /// consumers restart often, and its message group would wait forever.
    pub(super) fn giving_back(&self, session: &Arc<Session>, now: Instant) -> InvisibleDurationChange {
        let (session, lease) = (session.clone(), self.lease.clone());
        match self.retry_at {
            Some(at) => InvisibleDurationChange::nack(session, lease, at.saturating_duration_since(now)),
            None => InvisibleDurationChange::give_back(session, lease),
        }
    }

    /// Takes back the message that was handed out.
    pub(super) fn put_back(&mut self, delivery: Delivery) {
        self.delivery = Some(delivery);
    }

    /// The message for a handler. An ordered message is cloned, because it may be handed out again.
    pub(super) fn hand_out(&mut self, now: Instant) -> Option<Delivery> {
        self.cached.handler_started(now);
        if self.ordered {
            self.delivery.clone().map(|delivery| Delivery { attempt: self.attempt, ..delivery })
        } else {
            self.delivery.take()
        }
    }
}

/// The sequence of a message: its message group, else its lite topic, else its queue.
pub(super) fn sequence(delivery: &Delivery, broker: &Arc<str>) -> Sequence {
    let topic = delivery.lease.message().topic.clone();
    match delivery.message_group.as_ref().or(delivery.lite_topic.as_ref()) {
        Some(group) => Sequence::Group { topic, group: group.clone() },
        None => Sequence::Queue { topic, broker: broker.clone(), id: delivery.queue_id },
    }
}
