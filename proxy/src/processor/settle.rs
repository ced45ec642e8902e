//! Settling: acknowledging a delivery, changing its lease, giving it up.

use std::time::{Duration, SystemTime};

use super::handle::{Lease, Opened, Scope};
use super::lease::Renewal;
use super::receive::invisible_time;
use super::{Processor, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::service::{
    AckOutcome, Acknowledge, ChangeInvisible, Forward, InvisibleOutcome, ServiceErrorKind, Settle,
};

/// Deliveries to acknowledge.
#[derive(Clone, Debug)]
pub struct SettleCommand {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The deliveries.
    pub entries: Vec<AckEntry>,
}

/// One delivery to acknowledge.
#[derive(Clone, Debug)]
pub struct AckEntry {
    /// Its receipt handle.
    pub handle: String,
    /// The message's id.
    pub message_id: String,
    /// The lite topic, where the message has one.
    pub lite_topic: Option<String>,
}

/// What became of one acknowledgement.
pub type Acked = Result<(), Error>;

/// A change of a delivery's lease.
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

/// A delivery to give up.
#[derive(Clone, Debug)]
pub struct ForwardCommand {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The delivery.
    pub entry: AckEntry,
}

impl Processor {
    /// Acknowledges deliveries; one answer per entry, in order.
    ///
    /// # Errors
    /// `IllegalTopic`, `IllegalGroup`, `BadRequest` without entries. Everything else is an entry's.
    pub async fn acknowledge(&self, context: &Context, command: SettleCommand) -> Result<Vec<Acked>, Error> {
        validate::topic(&command.topic)?;
        validate::group(&command.group)?;
        if command.entries.is_empty() {
            return Err(Error::new(ErrorKind::BadRequest, "ack message result is empty"));
        }
        let scope = self.handles.scope(&command.topic, &command.group);
        let mut answers = Vec::with_capacity(command.entries.len());
        let mut batches: Vec<Batch> = Vec::new();
        for entry in command.entries {
            let (opened, renewal) = self.lease_of(&scope, &entry.handle).await;
            let answer = match opened {
                Opened::Ours(lease) if lease.expired(SystemTime::now()) => Err(expired()),
                Opened::Ours(lease) => {
                    let renewed = renewal.map(|renewal| (entry.handle.clone(), renewal));
                    let batch = batch_of(&mut batches, &lease.cluster);
                    batch.places.push((answers.len(), renewed));
                    batch.entries.push(settle(entry, lease));
                    Ok(())
                }
                Opened::Foreign(_) => self.fruitless(context, &command.topic).await,
                Opened::Forged => Err(forged()),
            };
            answers.push(answer);
        }
        for Batch { cluster, places, entries } in batches {
            let request = Acknowledge {
                topic: command.topic.clone(),
                group: command.group.clone(),
                entries,
                deadline: context.deadline_within(self.limits.call),
            };
            let outcomes = match self.placement.named(&cluster) {
                Ok(cluster) => match cluster.services.messages.acknowledge(request).await {
                    Ok(outcomes) => outcomes,
                    Err(error) => vec![AckOutcome::Failed(error); places.len()],
                },
                Err(error) => vec![AckOutcome::Invalid(error.message); places.len()],
            };
            for ((place, renewed), outcome) in places.into_iter().zip(outcomes) {
                if matches!(outcome, AckOutcome::Failed(_)) {
                    self.keep_again(renewed);
                }
                answers[place] = acked(outcome);
            }
        }
        Ok(answers)
    }

    /// Changes a lease and returns the handle of the new one.
    ///
    /// # Errors
    /// In this order: `IllegalTopic`, `IllegalGroup`, `IllegalInvisibleTime`, `InvalidHandle` (not ours, or
    /// expired), then the backend's failures.
    pub async fn change_invisible(&self, context: &Context, command: ChangeCommand) -> Result<String, Error> {
        validate::topic(&command.topic)?;
        validate::group(&command.group)?;
        let invisible = invisible_time(command.invisible_ms, Duration::ZERO, &self.limits)?;
        let scope = self.handles.scope(&command.topic, &command.group);
        let handle = command.entry.handle.clone();
        let (opened, renewal) = self.lease_of(&scope, &handle).await;
        let lease = match opened {
            Opened::Ours(lease) | Opened::Foreign(lease) if lease.expired(SystemTime::now()) => {
                return Err(expired());
            }
            Opened::Ours(lease) => lease,
            Opened::Foreign(lease) => {
                self.fruitless(context, &command.topic).await?;
                let lease = Lease { received_at: SystemTime::now(), invisible, ..lease };
                return Ok(scope.reseal_foreign(&handle, &lease));
            }
            Opened::Forged => return Err(forged()),
        };
        let cluster = self.placement.named(&lease.cluster)?;
        let request = ChangeInvisible {
            topic: command.topic.clone(),
            group: command.group.clone(),
            entry: settle(command.entry, lease),
            invisible,
            suspend: command.suspend,
            deadline: context.deadline_within(self.limits.call),
        };
        let changed = cluster.services.messages.change_invisible(request).await;
        if changed.is_err() {
            self.keep_again(renewal.map(|renewal| (handle, renewal)));
        }
        match changed.map_err(|error| Error::on_topic(error, &command.topic))? {
            InvisibleOutcome::Changed { coordinates, received_at } => Ok(scope.seal(&Lease {
                received_at,
                invisible,
                cluster: cluster.name.as_ref().to_owned(),
                coordinates,
            })),
            InvisibleOutcome::Expired => Err(expired()),
        }
    }

    /// Moves a delivery to its group's dead letters. As with Apache's broker, its lease may be over already, and a
    /// handle of another topic or group moves nothing without a word.
    ///
    /// # Errors
    /// In this order: `IllegalTopic`, `IllegalGroup`, `InvalidHandle`, then the backend's failures.
    pub async fn forward_to_dead_letter(
        &self,
        context: &Context,
        command: ForwardCommand,
    ) -> Result<(), Error> {
        validate::topic(&command.topic)?;
        validate::group(&command.group)?;
        let scope = self.handles.scope(&command.topic, &command.group);
        let handle = command.entry.handle.clone();
        let (opened, renewal) = self.lease_of(&scope, &handle).await;
        let lease = match opened {
            Opened::Ours(lease) => lease,
            Opened::Foreign(_) => return Ok(()),
            Opened::Forged => return Err(forged()),
        };
        let cluster = self.placement.named(&lease.cluster)?;
        let request = Forward {
            topic: command.topic.clone(),
            group: command.group,
            entry: settle(command.entry, lease),
            deadline: context.deadline_within(self.limits.call),
        };
        let forwarded = cluster.services.messages.forward_to_dead_letter(request).await;
        if forwarded.is_err() {
            self.keep_again(renewal.map(|renewal| (handle, renewal)));
        }
        forwarded.map_err(|error| Error::on_topic(error, &command.topic))
    }

    // A client keeps the handle it was given; where this proxy renewed the lease since, that lease counts. It is
    // not renewed any more until it is kept again.
    async fn lease_of(&self, scope: &Scope<'_>, handle: &str) -> (Opened, Option<Renewal>) {
        match scope.open(handle) {
            Opened::Ours(lease) => {
                let renewal = self.leases.take(handle).await;
                (Opened::Ours(renewal.as_ref().map_or(lease, Renewal::lease)), renewal)
            }
            opened => (opened, None),
        }
    }

    // The client will try again with the handle it has, and that says nothing of the renewals.
    fn keep_again(&self, renewed: Option<(String, Renewal)>) {
        if let Some((handle, renewal)) = renewed {
            self.leases.keep(handle, renewal);
        }
    }

    // A handle of another topic or group settles nothing, and nobody is told: so do Apache's brokers. Where the
    // topic does not even exist, clients must hear that trying again is in vain.
    async fn fruitless(&self, context: &Context, topic: &str) -> Result<(), Error> {
        match self.services(context, topic).metadata.topic(topic).await {
            Err(error) if error.kind == ServiceErrorKind::TopicNotFound => {
                Err(Error::new(ErrorKind::InvalidHandle, format!("receipt handle is not of topic {topic}")))
            }
            _ => Ok(()),
        }
    }
}

/// Acknowledgements for one cluster.
struct Batch {
    cluster: String,
    /// Which of the answers, and what was renewed by this proxy.
    places: Vec<(usize, Option<(String, Renewal)>)>,
    entries: Vec<Settle>,
}

// One in practice: rules change rarely.
fn batch_of<'a>(batches: &'a mut Vec<Batch>, cluster: &str) -> &'a mut Batch {
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

fn acked(outcome: AckOutcome) -> Acked {
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

fn forged() -> Error {
    Error::new(ErrorKind::InvalidHandle, "receipt handle is not from this server")
}
