//! Settling: acknowledging a delivery, changing its lease, moving it to the dead letters.

use std::time::{Duration, SystemTime};

use super::command::Command;
use super::environment::Environment;
use super::handle::{Lease, Opened, Scope};
use super::lease::Taken;
use super::receive::invisible_time;
use super::validate;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind, Size, TraceStep, Traced};
use crate::service::{
    AckOutcome, Acknowledge, ChangeInvisible, Forward, InvisibleOutcome, NextAttempt, Settle,
};

/// Acknowledges deliveries. Returns one result per entry, in order.
///
/// # Errors
/// `IllegalTopic`, `IllegalGroup`, `BadRequest` without entries. Every other error is an entry's.
#[derive(Clone, Debug)]
pub struct AckCommand {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The deliveries.
    pub entries: Vec<AckEntry>,
}

/// One delivery to settle.
#[derive(Clone, Debug)]
pub struct AckEntry {
    /// Its receipt handle.
    pub handle: String,
    /// The message's id.
    pub message_id: String,
    /// The lite topic, where the message has one.
    pub lite_topic: Option<String>,
}

/// The result of one acknowledgement.
pub type AckResult = Result<(), Error>;

/// Changes the lease of a delivery. Returns the handle of the new lease.
///
/// # Errors
/// In this order: `IllegalTopic`, `IllegalGroup`, `IllegalInvisibleTime`, `InvalidHandle` (not ours, of another topic or
/// group, or expired), then the backend's failures.
#[derive(Clone, Debug)]
pub struct ChangeCommand {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The delivery.
    pub entry: AckEntry,
    /// The lease's length from now, in milliseconds.
    pub invisible_ms: i64,
    /// The next delivery does not count as another attempt.
    pub suspend: bool,
}

/// Moves a delivery to its group's dead-letter topic. As with Apache's broker, its lease may be over already.
///
/// # Errors
/// In this order: `IllegalTopic`, `IllegalGroup`, `InvalidHandle` (not ours, or of another topic or group), then the
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

    fn trace(&self, traced: &mut Traced<'_>) {
        for entry in &self.entries {
            traced.settles(TraceStep::Acknowledged, &entry.handle, &entry.message_id);
        }
    }

    fn trace_end(result: Result<&Self::Answer, &Error>, traced: &mut Traced<'_>) {
        match result {
            Ok(results) => {
                for (index, result) in results.iter().enumerate() {
                    traced.ended(index, result.as_ref().copied());
                }
            }
            Err(error) => traced.all_ended(Err(error)),
        }
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<Vec<AckResult>, Error> {
        validate::topic(&self.topic)?;
        validate::group(&self.group)?;
        if self.entries.is_empty() {
            return Err(Error::new(ErrorKind::BadRequest, "ack message result is empty"));
        }
        let scope = environment.handles.scope(&self.topic, &self.group);
        let mut answers = Vec::with_capacity(self.entries.len());
        let mut batches: Vec<Batch> = Vec::new();
        for entry in self.entries {
            let answer = match open(environment, &scope, &entry.handle).await {
                Ok(open) if open.lease.expired(SystemTime::now()) => {
                    open.taken.settled();
                    Err(expired())
                }
                Ok(Open { lease, taken }) => {
                    let batch = batch_of(&mut batches, &lease.cluster);
                    batch.places.push(Place { index: answers.len(), taken });
                    batch.entries.push(settle(entry, lease));
                    Ok(())
                }
                Err(error) => Err(error),
            };
            answers.push(answer);
        }
        for Batch { cluster, places, entries } in batches {
            let request = Acknowledge {
                topic: self.topic.clone(),
                group: self.group.clone(),
                entries,
                deadline: context.deadline_within(environment.limits.call),
            };
            let outcomes = match environment.clusters.get(&cluster) {
                Ok(cluster) => match cluster.services.messages.acknowledge(request).await {
                    Ok(outcomes) => outcomes,
                    Err(error) => vec![AckOutcome::Failed(error); places.len()],
                },
                Err(error) => vec![AckOutcome::Invalid(error.message); places.len()],
            };
            for (Place { index, taken }, outcome) in places.into_iter().zip(outcomes) {
                if !matches!(outcome, AckOutcome::Failed(_)) {
                    taken.settled();
                }
                answers[index] = result(outcome);
            }
        }
        Ok(answers)
    }
}

impl Command for ChangeCommand {
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

    fn trace(&self, traced: &mut Traced<'_>) {
        traced.settles(TraceStep::Retried, &self.entry.handle, &self.entry.message_id);
    }

    fn trace_end(result: Result<&String, &Error>, traced: &mut Traced<'_>) {
        if let Ok(handle) = result {
            traced.renamed(0, handle);
        }
        traced.all_ended(result.map(drop));
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<String, Error> {
        let Self { topic, group, entry, invisible_ms, suspend } = self;
        validate::topic(&topic)?;
        validate::group(&group)?;
        let invisible = invisible_time(invisible_ms, Duration::ZERO, &environment.limits)?;
        let scope = environment.handles.scope(&topic, &group);
        let Open { lease, taken } = open(environment, &scope, &entry.handle).await?;
        if lease.expired(SystemTime::now()) {
            taken.settled();
            return Err(expired());
        }
        let cluster = environment.clusters.get(&lease.cluster)?;
        let request = ChangeInvisible {
            topic: topic.clone(),
            group: group.clone(),
            entry: settle(entry, lease),
            invisible,
            next_attempt: if suspend { NextAttempt::Suspended } else { NextAttempt::Counts },
            deadline: context.deadline_within(environment.limits.call),
        };
        let changed = cluster.services.messages.change_invisible(request).await;
        let changed = changed.map_err(|error| Error::on_topic(error, &topic))?;
        taken.settled();
        match changed {
            InvisibleOutcome::Changed { coordinates, received_at } => Ok(scope.seal(&Lease {
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

    fn trace(&self, traced: &mut Traced<'_>) {
        traced.settles(TraceStep::DeadLettered, &self.entry.handle, &self.entry.message_id);
    }

    fn trace_end(result: Result<&(), &Error>, traced: &mut Traced<'_>) {
        traced.all_ended(result.copied());
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        let Self { topic, group, entry } = self;
        validate::topic(&topic)?;
        validate::group(&group)?;
        let scope = environment.handles.scope(&topic, &group);
        let Open { lease, taken } = open(environment, &scope, &entry.handle).await?;
        let cluster = environment.clusters.get(&lease.cluster)?;
        let request = Forward {
            topic: topic.clone(),
            group: group.clone(),
            entry: settle(entry, lease),
            deadline: context.deadline_within(environment.limits.call),
        };
        let forwarded = cluster.services.messages.forward_to_dead_letter(request).await;
        forwarded.map_err(|error| Error::on_topic(error, &topic))?;
        taken.settled();
        Ok(())
    }
}

/// The lease of a handle, taken out of renewal while it is being settled.
struct Open<'a> {
    lease: Lease,
    taken: Taken<'a>,
}

/// Opens a client's handle. The client keeps the handle that it was given: if this proxy has renewed the lease since,
/// the renewed lease counts.
///
/// # Errors
/// `InvalidHandle`. A handle of another topic or group is refused, though Apache's brokers answer OK and do nothing: the
/// client would believe that the message is settled.
async fn open<'a>(environment: &'a Environment, scope: &Scope<'_>, handle: &str) -> Result<Open<'a>, Error> {
    let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidHandle, message));
    match scope.open(handle) {
        Opened::Lease(lease) => {
            let taken = environment.leases.take(handle).await;
            Ok(Open { lease: taken.lease().unwrap_or(lease), taken })
        }
        Opened::Foreign => invalid("receipt handle is of another topic or group"),
        Opened::Forged => invalid("receipt handle is not from this server"),
    }
}

/// Acknowledgements for one cluster.
struct Batch<'a> {
    cluster: String,
    places: Vec<Place<'a>>,
    entries: Vec<Settle>,
}

/// Where the result of an entry belongs.
struct Place<'a> {
    /// The index among the answers.
    index: usize,
    taken: Taken<'a>,
}

// Nearly always one batch: it takes a changed placement rule to have handles of several clusters.
fn batch_of<'b, 'a>(batches: &'b mut Vec<Batch<'a>>, cluster: &str) -> &'b mut Batch<'a> {
    let index = batches.iter().position(|batch| batch.cluster == cluster).unwrap_or_else(|| {
        batches.push(Batch { cluster: cluster.to_owned(), places: Vec::new(), entries: Vec::new() });
        batches.len() - 1
    });
    &mut batches[index]
}

fn settle(entry: AckEntry, lease: Lease) -> Settle {
    Settle {
        coordinates: lease.coordinates,
        message_id: entry.message_id,
        lite_topic: entry.lite_topic,
        received_at: lease.received_at,
        invisible: lease.invisible,
    }
}

fn result(outcome: AckOutcome) -> AckResult {
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
    use futures::FutureExt;

    use super::super::{ClusterRouter, Limits, scripted};
    use super::*;

    #[tokio::test]
    async fn a_cancelled_change_leaves_the_renewed_lease() {
        let ([services], [mut asked]) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        let environment = &processor.environment;
        let renewed = Settle {
            coordinates: "renewed".to_owned(),
            message_id: "m".to_owned(),
            lite_topic: None,
            received_at: SystemTime::now(),
            invisible: Duration::from_secs(60),
        };
        let first = Lease {
            received_at: SystemTime::UNIX_EPOCH,
            invisible: Duration::from_secs(60),
            cluster: String::new(),
            coordinates: "first".to_owned(),
        };
        let handle = environment.handles.scope("t", "g").seal(&first);
        environment.leases.keep(handle.clone(), scripted::renewal("c", renewed));
        let change = || ChangeCommand {
            topic: "t".to_owned(),
            group: "g".to_owned(),
            entry: AckEntry { handle: handle.clone(), message_id: "m".to_owned(), lite_topic: None },
            invisible_ms: 1000,
            suspend: false,
        };
        let context = Context::of_client("c");
        for _ in 0..2 {
            assert!(processor.run(&context, change()).now_or_never().is_none());
            let (asked, _unanswered) = scripted::change(&mut asked).await;
            assert_eq!(asked.entry.coordinates, "renewed");
        }
    }

    #[tokio::test]
    async fn a_handle_of_another_topic_or_group_is_invalid() {
        let ([services], [_asked]) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        let lease = Lease {
            received_at: SystemTime::now(),
            invisible: Duration::from_secs(60),
            cluster: String::new(),
            coordinates: "q".to_owned(),
        };
        let handle = processor.environment.handles.scope("t", "g").seal(&lease);
        let context = Context::of_client("c");
        for (topic, group) in [("t", "other"), ("other", "g")] {
            let (topic, group) = (topic.to_owned(), group.to_owned());
            let entry = AckEntry { handle: handle.clone(), message_id: "m".to_owned(), lite_topic: None };
            let ack = AckCommand { topic: topic.clone(), group: group.clone(), entries: vec![entry.clone()] };
            let acked = processor.run(&context, ack).await.expect("results");
            let change = ChangeCommand {
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
