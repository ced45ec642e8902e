//! Settling: acknowledging a delivery, changing its lease, giving it up.

use std::time::{Duration, SystemTime};

use super::handle::{Lease, Opened, Scope};
use super::lease::Taken;
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
            let (opened, taken) = self.lease_of(&scope, &entry.handle).await;
            let answer = match opened {
                Opened::Ours(lease) if lease.expired(SystemTime::now()) => {
                    taken.settled();
                    Err(expired())
                }
                Opened::Ours(lease) => {
                    let batch = batch_of(&mut batches, &lease.cluster);
                    batch.places.push((answers.len(), taken));
                    batch.entries.push(settle(entry, lease));
                    Ok(())
                }
                Opened::Foreign(_) => self.check_topic_exists(context, &command.topic).await,
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
            let outcomes = match self.clusters.get(&cluster) {
                Ok(cluster) => match cluster.services.messages.acknowledge(request).await {
                    Ok(outcomes) => outcomes,
                    Err(error) => vec![AckOutcome::Failed(error); places.len()],
                },
                Err(error) => vec![AckOutcome::Invalid(error.message); places.len()],
            };
            for ((place, taken), outcome) in places.into_iter().zip(outcomes) {
                if !matches!(outcome, AckOutcome::Failed(_)) {
                    taken.settled();
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
        let (opened, taken) = self.lease_of(&scope, &handle).await;
        let lease = match opened {
            Opened::Ours(lease) | Opened::Foreign(lease) if lease.expired(SystemTime::now()) => {
                taken.settled();
                return Err(expired());
            }
            Opened::Ours(lease) => lease,
            Opened::Foreign(lease) => {
                self.check_topic_exists(context, &command.topic).await?;
                let lease = Lease { received_at: SystemTime::now(), invisible, ..lease };
                return Ok(scope.reseal_foreign(&handle, &lease));
            }
            Opened::Forged => return Err(forged()),
        };
        let cluster = self.clusters.get(&lease.cluster)?;
        let request = ChangeInvisible {
            topic: command.topic.clone(),
            group: command.group.clone(),
            entry: settle(command.entry, lease),
            invisible,
            suspend: command.suspend,
            deadline: context.deadline_within(self.limits.call),
        };
        let changed = cluster.services.messages.change_invisible(request).await;
        let changed = changed.map_err(|error| Error::on_topic(error, &command.topic))?;
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
        let (opened, taken) = self.lease_of(&scope, &command.entry.handle).await;
        let lease = match opened {
            Opened::Ours(lease) => lease,
            Opened::Foreign(_) => return Ok(()),
            Opened::Forged => return Err(forged()),
        };
        let cluster = self.clusters.get(&lease.cluster)?;
        let request = Forward {
            topic: command.topic.clone(),
            group: command.group,
            entry: settle(command.entry, lease),
            deadline: context.deadline_within(self.limits.call),
        };
        let forwarded = cluster.services.messages.forward_to_dead_letter(request).await;
        forwarded.map_err(|error| Error::on_topic(error, &command.topic))?;
        taken.settled();
        Ok(())
    }

    // A client keeps the handle it was given; where this proxy renewed the lease since, that lease counts. It is
    // not renewed while it is being settled.
    async fn lease_of(&self, scope: &Scope<'_>, handle: &str) -> (Opened, Taken<'_>) {
        let opened = scope.open(handle);
        if !matches!(opened, Opened::Ours(_)) {
            return (opened, self.leases.nothing());
        }
        let taken = self.leases.take(handle).await;
        (taken.lease().map_or(opened, Opened::Ours), taken)
    }

    // A handle of another topic or group settles nothing, and nobody is told: so do Apache's brokers. Where the
    // topic does not even exist, clients must hear that trying again is in vain.
    async fn check_topic_exists(&self, context: &Context, topic: &str) -> Result<(), Error> {
        match self.services(context, topic).metadata.topic(topic).await {
            Err(error) if error.kind == ServiceErrorKind::TopicNotFound => {
                Err(Error::new(ErrorKind::InvalidHandle, format!("receipt handle is not of topic {topic}")))
            }
            _ => Ok(()),
        }
    }
}

/// Acknowledgements for one cluster.
struct Batch<'a> {
    cluster: String,
    /// Which of the answers, and what was renewed by this proxy.
    places: Vec<(usize, Taken<'a>)>,
    entries: Vec<Settle>,
}

// One in practice: rules change rarely.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;

    use super::super::lease::Renewal;
    use super::super::{ClusterRouter, Limits, scripted};
    use super::*;

    #[tokio::test]
    async fn a_change_that_its_client_gives_up_leaves_the_renewed_lease() {
        let ([services], [mut asked]) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
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
        let handle = processor.handles.scope("t", "g").seal(&first);
        let names = ["c", "", "t", "g"].map(Arc::from);
        processor.leases.keep(handle.clone(), Renewal::new(names.each_ref(), renewed, 1));
        let change = || ChangeCommand {
            topic: "t".to_owned(),
            group: "g".to_owned(),
            entry: AckEntry { handle: handle.clone(), message_id: "m".to_owned(), lite_topic: None },
            invisible_ms: 1000,
            suspend: false,
        };
        let context = scripted::context("c");
        for _ in 0..2 {
            assert!(processor.change_invisible(&context, change()).now_or_never().is_none());
            let (asked, _unanswered) = scripted::change(&mut asked).await;
            assert_eq!(asked.entry.coordinates, "renewed");
        }
    }
}
