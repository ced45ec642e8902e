//! Seals the receipt handles of received messages, and moves messages without attempts left to the dead-letter topic.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster_router::Cluster;
use super::environment::Environment;
use super::handle::{Scope, SealedLease};
use super::receive::LeasedDelivery;
use super::renewed_leases::{LeaseHolder, Renewal};
use crate::context::Context;
use crate::service::{ChangeInvisible, Delivery, Forward, GroupConfig, Services, Settle};

/// Gives back deliveries on drop, if their receive is cancelled before they are sealed.
struct GiveBackGuard<'a> {
    source: &'a DeliverySource<'a>,
    call_timeout: Duration,
    deliveries: VecDeque<Delivery>,
}

impl Drop for GiveBackGuard<'_> {
    fn drop(&mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        let services = self.source.cluster.services.clone();
        let deadline = Instant::now() + self.call_timeout;
        let Scope { topic, group, .. } = self.source.scope;
        let changes: Vec<_> = self
            .deliveries
            .drain(..)
            .map(|delivery| ChangeInvisible::give_back(topic, group, &delivery, deadline))
            .collect();
        tokio::spawn(async move {
            for change in changes {
                give_back_one(&services, change).await;
            }
        });
    }
}

/// Keeps the dead letters of a FIFO group in the order of its messages.
#[derive(Default)]
struct DeadLetterOrder {
    /// The sequences with a message that the client gets.
    delivered: HashSet<Sequence>,
    /// The sequences with a message that still has to become a dead letter.
    waiting: HashSet<Sequence>,
}

/// Messages that are delivered in order: those of a message group in a queue, or those of a queue that have none.
type Sequence = (i32, Option<String>);

impl DeadLetterOrder {
    /// Whether the next message of this sequence must be received again later: an exhausted one because an earlier message
    /// may still become a dead letter, and every message that follows one that waits.
    fn must_wait(&mut self, sequence: &Sequence, is_exhausted: bool) -> bool {
        if is_exhausted && self.delivered.contains(sequence) {
            self.waiting.insert(sequence.clone());
        }
        self.waiting.contains(sequence)
    }
}

/// The cluster, topic and group of deliveries.
pub(super) struct DeliverySource<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) scope: Scope<'a>,
}

impl DeliverySource<'_> {
    /// Creates the receipt handles. Deliveries that exceed the group's attempts are moved to the dead-letter topic instead.
    pub(super) async fn seal(
        &self,
        environment: &Environment,
        deliveries: Vec<Delivery>,
        group: &GroupConfig,
    ) -> Vec<LeasedDelivery> {
        let mut guard = GiveBackGuard {
            source: self,
            call_timeout: environment.limits.call,
            deliveries: deliveries.into(),
        };
        let mut later =
            GiveBackGuard { source: self, call_timeout: guard.call_timeout, deliveries: VecDeque::new() };
        let mut order = DeadLetterOrder::default();
        let mut leased = Vec::with_capacity(guard.deliveries.len());
        for _ in 0..guard.deliveries.len() {
            let Some(delivery) = guard.deliveries.pop_front() else { break };
            let sequence = (delivery.queue_id, delivery.message.group.clone());
            let is_exhausted = group.exceeds_attempts(delivery.attempt - delivery.attempts_of_others);
            if group.fifo && order.must_wait(&sequence, is_exhausted) {
                // A later receive finds it again, once the earlier messages are settled.
                later.deliveries.push_back(delivery);
            } else if !is_exhausted {
                order.delivered.insert(sequence);
                // The guard keeps the delivery until the whole batch is ready.
                guard.deliveries.push_back(delivery);
            } else if !self.forward(&delivery, environment).await {
                order.waiting.insert(sequence);
            }
        }
        for delivery in std::mem::take(&mut guard.deliveries) {
            let lease = SealedLease {
                received_at: delivery.received_at,
                invisible: delivery.invisible,
                cluster: self.cluster.name.as_ref().to_owned(),
                coordinates: delivery.coordinates.clone(),
            };
            leased.push(LeasedDelivery { handle: self.scope.seal(&lease), delivery });
        }
        leased
    }

    /// Moves a message to the dead-letter topic. Returns whether it was moved.
    async fn forward(&self, delivery: &Delivery, environment: &Environment) -> bool {
        let Scope { topic, group, .. } = self.scope;
        let forward = Forward {
            topic: topic.to_owned(),
            group: group.to_owned(),
            entry: Settle::from(delivery),
            deadline: Instant::now() + environment.limits.call,
        };
        let moved = self.cluster.services.messages.forward_to_dead_letter(forward).await;
        match &moved {
            Ok(()) => {
                environment
                    .message_trace
                    .iter()
                    .for_each(|trace| trace.record_dead_letter(topic, group, &delivery.message));
            }
            // The message is delivered again when its lease ends, and then moved again.
            Err(error) => {
                tracing::warn!(topic, group, %error, "could not move a message to the dead-letter topic");
            }
        }
        moved.is_ok()
    }

    /// Renews the leases of these deliveries from now on, if their client has a session. Without a session, the proxy could
    /// not notice that the client is gone.
    pub(super) fn renew(&self, environment: &Environment, context: &Context, leased: &[LeasedDelivery]) {
        let Some(client) = environment.clients.find(context) else { return };
        let holder = Arc::new(LeaseHolder {
            client,
            cluster: self.cluster.name.clone(),
            topic: self.scope.topic.to_owned(),
            group: self.scope.group.to_owned(),
        });
        for LeasedDelivery { delivery, handle } in leased {
            let renewal = Renewal::new(holder.clone(), Settle::from(delivery), delivery.attempt);
            environment.leases.add(handle.clone(), renewal);
        }
    }
}

/// Gives back a delivery. Errors are logged.
pub(super) async fn give_back_one(services: &Services, change: ChangeInvisible) {
    let (topic, group) = (change.topic.clone(), change.group.clone());
    if let Err(error) = services.messages.change_invisible(change).await {
        tracing::debug!(topic, group, %error, "could not give back a message; it stays invisible until its lease ends");
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::super::scripted::{self, BackendCall};
    use super::super::{ClusterRouter, Limits};
    use super::*;
    use crate::service::{GroupStart, Message, NextAttempt, RetryPolicy};

    #[tokio::test]
    async fn a_receive_that_is_cancelled_while_it_forwards_a_message_gives_back_the_others() {
        let ([services], [mut calls]) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        let environment = &processor.environment;
        let cluster = environment.clusters.route((&Context::of_client("c")).into(), "t");
        let source = DeliverySource { cluster, scope: environment.handle_sealer.scope("t", "g") };
        let config = group_with_two_attempts(false);
        let last_attempt = config.max_attempts();
        let deliveries = [("first", 1), ("dead", last_attempt + 1), ("last", last_attempt)];
        let deliveries = deliveries.map(|(coordinates, attempt)| Delivery {
            coordinates: coordinates.to_owned(),
            attempt,
            ..scripted::delivery("t")
        });
        let mut sealing = Box::pin(source.seal(environment, deliveries.into(), &config));
        assert!(poll!(&mut sealing).is_pending());
        drop(sealing);
        let Some(BackendCall::Forward(forward, _)) = calls.recv().await else { panic!("not a forward") };
        assert_eq!(forward.entry.coordinates, "dead");
        let mut given_back = Vec::new();
        for _ in 0..2 {
            let (change, _) = scripted::change(&mut calls).await;
            assert_eq!((change.invisible, change.next_attempt), (Duration::ZERO, NextAttempt::GivenBack));
            given_back.push(change.entry.coordinates);
        }
        given_back.sort();
        assert_eq!(given_back, ["first", "last"]);
    }

    /// Seals three deliveries of a message group in a FIFO group, with these numbers of attempts of two that it allows. Returns
    /// the coordinates of those that the client gets, that are moved, and that are given back. Moves fail.
    async fn seal_in_order(attempts: [i32; 3]) -> [Vec<String>; 3] {
        let ([services], [mut calls]) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        let environment = &processor.environment;
        let cluster = environment.clusters.route((&Context::of_client("c")).into(), "t");
        let source = DeliverySource { cluster, scope: environment.handle_sealer.scope("t", "g") };
        let deliveries = attempts.iter().zip(["1", "2", "3"]).map(|(attempt, coordinates)| Delivery {
            coordinates: coordinates.to_owned(),
            attempt: *attempt,
            message: Message { group: Some("message-group".to_owned()), ..Message::default() },
            ..scripted::delivery("t")
        });
        let config = group_with_two_attempts(true);
        let mut sealing = Box::pin(source.seal(environment, deliveries.collect(), &config));
        let mut moved = Vec::new();
        let leased = loop {
            tokio::select! {
                biased;
                leased = &mut sealing => break leased,
                call = calls.recv() => {
                    let Some(BackendCall::Forward(forward, answer)) = call else { panic!("not a forward") };
                    moved.push(forward.entry.coordinates);
                    drop(answer);
                }
            }
        };
        drop(sealing);
        let leased: Vec<_> = leased.into_iter().map(|leased| leased.delivery.coordinates).collect();
        let mut given_back = Vec::new();
        while leased.len() + moved.len() + given_back.len() < attempts.len() {
            let (change, _) = scripted::change(&mut calls).await;
            assert_eq!(change.next_attempt, NextAttempt::GivenBack);
            given_back.push(change.entry.coordinates);
        }
        [leased, moved, given_back]
    }

    #[tokio::test]
    async fn an_exhausted_message_waits_for_earlier_messages_of_its_message_group() {
        let [leased, moved, given_back] = seal_in_order([1, 3, 1]).await;
        assert_eq!((leased, moved), (vec!["1".to_owned()], vec![]));
        assert_eq!(given_back, ["2", "3"]);
    }

    #[tokio::test]
    async fn messages_wait_for_an_exhausted_message_of_their_message_group_that_could_not_be_moved() {
        let [leased, moved, given_back] = seal_in_order([3, 3, 1]).await;
        assert_eq!((leased, moved), (vec![], vec!["1".to_owned()]));
        assert_eq!(given_back, ["2", "3"]);
    }

    fn group_with_two_attempts(fifo: bool) -> GroupConfig {
        GroupConfig {
            name: "g".to_owned(),
            fifo,
            consume: true,
            max_retries: 1,
            retry: RetryPolicy::default(),
            lite_bind_topic: None,
            lite_quota: 0,
            lite_exclusive: false,
            start: GroupStart::Default,
        }
    }
}
