//! Settles deliveries: acknowledges them, changes their leases, and moves them to the dead-letter topic.

use std::time::Duration;

use super::command::Command;
use super::environment::Environment;
use super::handle::{Opened, Scope, SealedLease};
use super::receive::invisible_time;
use super::renewed_leases::TakenLease;
use super::validate;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind, RequestTrace, Size, TraceStep};
use crate::service::{
    AckOutcome, Acknowledge, ChangeInvisible, Forward, InvisibleOutcome, NextAttempt, Settle,
};

/// Acknowledges deliveries. Returns one result per entry, in order.
///
/// # Errors
/// `IllegalTopic`, `IllegalGroup`, `BadRequest` without entries. All other errors are results of entries.
#[derive(Clone, Debug)]
pub struct AckCommand {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The deliveries.
    pub entries: Vec<AckEntry>,
}

/// A delivery to settle.
#[derive(Clone, Debug)]
pub struct AckEntry {
    /// The delivery's receipt handle.
    pub handle: String,
    /// The message's id.
    pub message_id: String,
    /// The message's lite topic, if it has one.
    pub lite_topic: Option<String>,
}

/// The result of one acknowledgement.
pub type AckResult = Result<(), Error>;

/// Changes the lease of a delivery. Returns the handle of the new lease.
///
/// # Errors
/// In this order: `IllegalTopic`, `IllegalGroup`, `IllegalInvisibleTime`, `InvalidHandle` (forged, of another topic or
/// group, or expired), then the backend's failures.
#[derive(Clone, Debug)]
pub struct ChangeInvisibleCommand {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The delivery.
    pub entry: AckEntry,
    /// The length of the new lease from now, in milliseconds.
    pub invisible_ms: i64,
    /// Whether the client suspends the message, so that the next delivery does not count as another attempt.
    pub suspend: bool,
}

/// Moves a delivery to its group's dead-letter topic. As with Apache's broker, its lease may have expired.
///
/// # Errors
/// In this order: `IllegalTopic`, `IllegalGroup`, `InvalidHandle` (forged, or of another topic or group), then the
/// backend's failures.
#[derive(Clone, Debug)]
pub struct ForwardCommand {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The delivery.
    pub entry: AckEntry,
}

impl Command for AckCommand {
    type Answer = Vec<AckResult>;
    const KIND: OperationKind = OperationKind::Acknowledge;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    fn size(&self) -> Size {
        Size::of_messages(self.entries.len())
    }

    fn trace(&self, traced: &mut RequestTrace<'_>) {
        for entry in &self.entries {
            traced.begin_settlement(TraceStep::Acknowledged, &entry.handle, &entry.message_id);
        }
    }

    fn trace_end(result: Result<&Self::Answer, &Error>, traced: &mut RequestTrace<'_>) {
        match result {
            Ok(results) => {
                for (index, result) in results.iter().enumerate() {
                    traced.end(index, result.as_ref().copied());
                }
            }
            Err(error) => traced.end_all(Err(error)),
        }
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<Vec<AckResult>, Error> {
        validate::topic(&self.topic)?;
        validate::group(&self.group)?;
        if self.entries.is_empty() {
            return Err(Error::new(ErrorKind::BadRequest, "ack message result is empty"));
        }
        let scope = environment.handle_sealer.scope(&self.topic, &self.group);
        let mut answers = Vec::with_capacity(self.entries.len());
        let mut batches: Vec<ClusterBatch> = Vec::new();
        for entry in self.entries {
            let answer = match open(environment, &scope, &entry.handle).await {
                Ok(OpenedLease { lease, taken }) => {
                    let batch = batch_of(&mut batches, &lease.cluster);
                    batch.pending.push(PendingAck { index: answers.len(), taken });
                    batch.entries.push(to_settle(entry, lease));
                    Ok(())
                }
                Err(error) => Err(error),
            };
            answers.push(answer);
        }
        for ClusterBatch { cluster, pending, entries } in batches {
            let request = Acknowledge {
                topic: self.topic.clone(),
                group: self.group.clone(),
                entries,
                deadline: context.deadline_within(environment.limits.call),
            };
            let outcomes = match environment.clusters.get(&cluster) {
                Ok(cluster) => match cluster.services.messages.acknowledge(request).await {
                    Ok(outcomes) => outcomes,
                    Err(error) => vec![AckOutcome::Failed(error); pending.len()],
                },
                Err(error) => vec![AckOutcome::Invalid(error.message); pending.len()],
            };
            for (PendingAck { index, taken }, outcome) in pending.into_iter().zip(outcomes) {
                if !matches!(outcome, AckOutcome::Failed(_)) {
                    taken.settled();
                }
                answers[index] = to_result(outcome);
            }
        }
        Ok(answers)
    }
}

impl Command for ChangeInvisibleCommand {
    type Answer = String;
    const KIND: OperationKind = OperationKind::ChangeInvisible;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    fn size(&self) -> Size {
        Size::of_messages(1)
    }

    fn trace(&self, traced: &mut RequestTrace<'_>) {
        traced.begin_settlement(TraceStep::Retried, &self.entry.handle, &self.entry.message_id);
    }

    fn trace_end(result: Result<&String, &Error>, traced: &mut RequestTrace<'_>) {
        if let Ok(handle) = result {
            traced.replace_handle(0, handle);
        }
        traced.end_all(result.map(drop));
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<String, Error> {
        let Self { topic, group, entry, invisible_ms, suspend } = self;
        validate::topic(&topic)?;
        validate::group(&group)?;
        let invisible = invisible_time(invisible_ms, Duration::ZERO, &environment.limits)?;
        let scope = environment.handle_sealer.scope(&topic, &group);
        let OpenedLease { lease, taken } = open(environment, &scope, &entry.handle).await?;
        let cluster = environment.clusters.get(&lease.cluster)?;
        let request = ChangeInvisible {
            topic: topic.clone(),
            group: group.clone(),
            entry: to_settle(entry, lease),
            invisible,
            next_attempt: if suspend { NextAttempt::Suspended } else { NextAttempt::Counts },
            deadline: context.deadline_within(environment.limits.call),
        };
        let changed = cluster.services.messages.change_invisible(request).await;
        let changed = changed.map_err(|error| Error::on_topic(error, &topic))?;
        taken.settled();
        match changed {
            InvisibleOutcome::Changed { coordinates, received_at }
            | InvisibleOutcome::Gone { coordinates, received_at } => Ok(scope.seal(&SealedLease {
                received_at,
                invisible,
                cluster: cluster.name.as_ref().to_owned(),
                coordinates,
            })),
            InvisibleOutcome::Expired => Err(expired()),
        }
    }
}

impl Command for ForwardCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::ForwardToDeadLetter;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    fn size(&self) -> Size {
        Size::of_messages(1)
    }

    fn trace(&self, traced: &mut RequestTrace<'_>) {
        traced.begin_settlement(TraceStep::DeadLettered, &self.entry.handle, &self.entry.message_id);
    }

    fn trace_end(result: Result<&(), &Error>, traced: &mut RequestTrace<'_>) {
        traced.end_all(result.copied());
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        let Self { topic, group, entry } = self;
        validate::topic(&topic)?;
        validate::group(&group)?;
        let scope = environment.handle_sealer.scope(&topic, &group);
        let OpenedLease { lease, taken } = open(environment, &scope, &entry.handle).await?;
        let cluster = environment.clusters.get(&lease.cluster)?;
        let request = Forward {
            topic: topic.clone(),
            group: group.clone(),
            entry: to_settle(entry, lease),
            deadline: context.deadline_within(environment.limits.call),
        };
        let forwarded = cluster.services.messages.forward_to_dead_letter(request).await;
        forwarded.map_err(|error| Error::on_topic(error, &topic))?;
        taken.settled();
        Ok(())
    }
}

/// The lease of a handle, whose renewal is suspended while it is being settled.
struct OpenedLease<'a> {
    lease: SealedLease,
    taken: TakenLease<'a>,
}

/// Opens a client's handle, which contains the first lease. If this proxy has renewed the lease since, returns the renewed
/// lease.
///
/// # Errors
/// `InvalidHandle`. A handle of another topic or group is refused, although Apache's brokers answer OK and do nothing:
/// otherwise the client would believe that the message is settled.
async fn open<'a>(
    environment: &'a Environment,
    scope: &Scope<'_>,
    handle: &str,
) -> Result<OpenedLease<'a>, Error> {
    let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidHandle, message));
    match scope.open(handle) {
        Opened::Lease(lease) => {
            let taken = environment.leases.take(handle).await;
            Ok(OpenedLease { lease: taken.lease().unwrap_or(lease), taken })
        }
        Opened::Foreign => invalid("receipt handle is of another topic or group"),
        Opened::Forged => invalid("receipt handle is not from this server"),
    }
}

/// Acknowledgements for one cluster.
struct ClusterBatch<'a> {
    cluster: String,
    /// One for each of the `entries`.
    pending: Vec<PendingAck<'a>>,
    entries: Vec<Settle>,
}

/// An acknowledgement that waits for its outcome.
struct PendingAck<'a> {
    /// The index of the entry in the request.
    index: usize,
    taken: TakenLease<'a>,
}

// Nearly always there is one batch. Handles of several clusters only occur after a placement rule was changed.
fn batch_of<'b, 'a>(batches: &'b mut Vec<ClusterBatch<'a>>, cluster: &str) -> &'b mut ClusterBatch<'a> {
    let index = batches.iter().position(|batch| batch.cluster == cluster).unwrap_or_else(|| {
        batches.push(ClusterBatch { cluster: cluster.to_owned(), pending: Vec::new(), entries: Vec::new() });
        batches.len() - 1
    });
    &mut batches[index]
}

fn to_settle(entry: AckEntry, lease: SealedLease) -> Settle {
    Settle {
        coordinates: lease.coordinates,
        message_id: entry.message_id,
        lite_topic: entry.lite_topic,
        received_at: lease.received_at,
        invisible: lease.invisible,
    }
}

fn to_result(outcome: AckOutcome) -> AckResult {
    match outcome {
        AckOutcome::Done => Ok(()),
        AckOutcome::Expired => Err(expired()),
        AckOutcome::Invalid(reason) => Err(Error::new(ErrorKind::InvalidHandle, reason)),
        AckOutcome::Failed(error) => Err(error.into()),
    }
}

fn expired() -> Error {
    Error::new(ErrorKind::InvalidHandle, "receipt handle is expired")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures::FutureExt;

    use super::super::{ClusterRouter, Limits, scripted};
    use super::*;

    #[tokio::test]
    async fn a_cancelled_change_leaves_the_renewed_lease() {
        let ([services], [mut calls]) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        let environment = &processor.environment;
        let renewed = Settle {
            coordinates: "renewed".to_owned(),
            message_id: "m".to_owned(),
            lite_topic: None,
            received_at: SystemTime::now(),
            invisible: Duration::from_secs(60),
        };
        let first = SealedLease {
            received_at: SystemTime::UNIX_EPOCH,
            invisible: Duration::from_secs(60),
            cluster: String::new(),
            coordinates: "first".to_owned(),
        };
        let handle = environment.handle_sealer.scope("t", "g").seal(&first);
        environment.leases.add(handle.clone(), scripted::renewal("c", renewed));
        let change = || ChangeInvisibleCommand {
            topic: "t".to_owned(),
            group: "g".to_owned(),
            entry: AckEntry { handle: handle.clone(), message_id: "m".to_owned(), lite_topic: None },
            invisible_ms: 1000,
            suspend: false,
        };
        let context = Context::of_client("c");
        for _ in 0..2 {
            assert!(processor.run(&context, change()).now_or_never().is_none());
            let (change, _unanswered) = scripted::change(&mut calls).await;
            assert_eq!(change.entry.coordinates, "renewed");
        }
    }

    #[tokio::test]
    async fn the_backend_decides_whether_a_lease_has_expired() {
        let ([services], [mut calls]) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        // The lease has expired by the wall clock, which may have been set forward.
        let lease = SealedLease {
            received_at: SystemTime::UNIX_EPOCH,
            invisible: Duration::from_secs(60),
            cluster: String::new(),
            coordinates: "running".to_owned(),
        };
        let change = ChangeInvisibleCommand {
            topic: "t".to_owned(),
            group: "g".to_owned(),
            entry: AckEntry {
                handle: processor.environment.handle_sealer.scope("t", "g").seal(&lease),
                message_id: "m".to_owned(),
                lite_topic: None,
            },
            invisible_ms: 1000,
            suspend: false,
        };
        let context = Context::of_client("c");
        for (outcome, expected) in [
            (
                InvisibleOutcome::Changed { coordinates: "new".to_owned(), received_at: SystemTime::now() },
                Ok(()),
            ),
            (InvisibleOutcome::Expired, Err(ErrorKind::InvalidHandle)),
        ] {
            let changing = processor.run(&context, change.clone());
            let answering = async {
                let (_, answer) = scripted::change(&mut calls).await;
                answer.send(Ok(outcome)).expect("a change");
            };
            let (changed, ()) = tokio::join!(changing, answering);
            assert_eq!(changed.map(drop).map_err(|error| error.kind), expected);
        }
    }

    #[tokio::test]
    async fn a_handle_of_another_topic_or_group_is_invalid() {
        let ([services], [_calls]) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        let lease = SealedLease {
            received_at: SystemTime::now(),
            invisible: Duration::from_secs(60),
            cluster: String::new(),
            coordinates: "q".to_owned(),
        };
        let handle = processor.environment.handle_sealer.scope("t", "g").seal(&lease);
        let context = Context::of_client("c");
        for (topic, group) in [("t", "other"), ("other", "g")] {
            let (topic, group) = (topic.to_owned(), group.to_owned());
            let entry = AckEntry { handle: handle.clone(), message_id: "m".to_owned(), lite_topic: None };
            let ack = AckCommand { topic: topic.clone(), group: group.clone(), entries: vec![entry.clone()] };
            let acked = processor.run(&context, ack).await.expect("results");
            let change = ChangeInvisibleCommand {
                topic: topic.clone(),
                group: group.clone(),
                entry: entry.clone(),
                invisible_ms: 1000,
                suspend: false,
            };
            let changed = processor.run(&context, change).await.map(drop);
            let forwarded = processor.run(&context, ForwardCommand { topic, group, entry }).await;
            for result in [acked[0].clone(), changed, forwarded] {
                assert_eq!(result.map_err(|error| error.kind), Err(ErrorKind::InvalidHandle));
            }
        }
    }
}
