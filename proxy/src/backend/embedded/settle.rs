//! Acknowledges deliveries and changes their invisible time. See [`super::dead_letter`] for moves to the dead-letter
//! topic.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::broker::Broker;
use super::clock;
use super::lease::{Coordinates, Lease};
use super::message_groups::GroupHash;
use super::progress::{Progress, ProgressState};
use super::progress_writer::Written;
use super::queue::Queue;
use super::topic::Topic;
use crate::service::{
    AckOutcome, Acknowledge, ChangeInvisible, InvisibleOutcome, NextAttempt, ServiceError, ServiceErrorKind,
    Settle, millis, time,
};

/// The state of the lease that the coordinates of a delivery name.
pub(super) enum LeaseStatus {
    /// The lease is running.
    Running(Lease),
    /// The lease has expired, and the message was not delivered again.
    Expired(Lease),
    /// The lease is gone: the message is settled, or another lease has replaced this one.
    Gone,
}

/// A group's progress in a topic, and the topic's queues.
pub(super) struct GroupProgress {
    pub(super) topic: Arc<Topic>,
    pub(super) progress: Arc<Progress>,
    pub(super) queues: Arc<[Arc<Queue>]>,
}

impl Broker {
    /// See [`crate::service::Messages::acknowledge`]. `topic` is the topic of the deliveries. It may be a lite topic of
    /// the topic in the request.
    pub(super) async fn acknowledge_entries(
        &self,
        topic: &Arc<Topic>,
        request: Acknowledge,
    ) -> Result<Vec<AckOutcome>, ServiceError> {
        let group = match self.group_progress(topic, &request.group).await {
            // The group was deleted.
            Err(error) if error.kind == ServiceErrorKind::InvalidHandle => {
                return Ok(vec![AckOutcome::Invalid(error.message); request.entries.len()]);
            }
            group => group?,
        };
        let (outcomes, written) = self.end_leases(&group, &request)?;
        // If this fails, nothing was acknowledged and the leases continue.
        written.done().await?;
        Ok(outcomes)
    }

    fn end_leases(
        &self,
        group: &GroupProgress,
        request: &Acknowledge,
    ) -> Result<(Vec<AckOutcome>, Written), ServiceError> {
        let now = clock::monotonic();
        let mut transaction = group.progress.begin()?;
        let mut outcomes = Vec::with_capacity(request.entries.len());
        let mut ended = EndedLeases::new(self.config.max_unsettled_per_queue);
        for entry in &request.entries {
            let at = match parse(entry).and_then(|at| group.check_ids(at)) {
                Ok(at) => at,
                Err(error) => {
                    outcomes.push(AckOutcome::Invalid(error.message));
                    continue;
                }
            };
            let queue = group.queue_index(at);
            outcomes.push(match lease_status(&mut transaction, queue, at, now) {
                LeaseStatus::Running(_) => {
                    ended.end_lease(&mut transaction, queue, at.offset);
                    AckOutcome::Done
                }
                LeaseStatus::Expired(_) => AckOutcome::Expired,
                LeaseStatus::Gone if is_past(at, entry, now) => AckOutcome::Expired,
                LeaseStatus::Gone => AckOutcome::Done,
            });
        }
        let written = transaction.commit(&self.progress_writer);
        let deliverable = ended.deliverable(&mut transaction, now);
        if ended.unblock_exhausted(group.progress.max_attempts(), &mut transaction, now) {
            self.expiry.schedule(&group.progress, &mut transaction, now);
        }
        drop(transaction);
        group.topic.count_settled(&group.progress, ended.count);
        group.progress.wake(deliverable);
        Ok((outcomes, written))
    }

    /// See [`crate::service::Messages::change_invisible`], and [`Broker::acknowledge_entries`] for the topic.
    pub(super) async fn change_lease(
        &self,
        topic: &Arc<Topic>,
        request: ChangeInvisible,
    ) -> Result<InvisibleOutcome, ServiceError> {
        let at = parse(&request.entry)?;
        let group = self.group_progress(topic, &request.group).await?;
        group.check_ids(at)?;
        let (outcome, written) = self.replace_lease(&group, at, &request)?;
        written.done().await?;
        Ok(outcome)
    }

    fn replace_lease(
        &self,
        group: &GroupProgress,
        at: Coordinates,
        request: &ChangeInvisible,
    ) -> Result<(InvisibleOutcome, Written), ServiceError> {
        let now = clock::monotonic();
        let invisible = u64::try_from(request.invisible.as_millis()).unwrap_or(u64::MAX);
        let visible_at = now.saturating_add(invisible);
        let coordinates = Coordinates { token: rand::random(), until: Some(visible_at), ..at };
        let queue = group.queue_index(at);
        let mut transaction = group.progress.begin()?;
        let old = match lease_status(&mut transaction, queue, at, now) {
            LeaseStatus::Running(lease) => lease,
            expired_or_gone => {
                let expired =
                    matches!(expired_or_gone, LeaseStatus::Expired(_)) || is_past(at, &request.entry, now);
                let outcome = if expired { InvisibleOutcome::Expired } else { gone(coordinates) };
                return Ok((outcome, transaction.commit(&self.progress_writer)));
            }
        };
        let uncounted = match request.next_attempt {
            NextAttempt::Counts => false,
            // As with Apache's brokers.
            NextAttempt::Suspended => !old.fifo,
            NextAttempt::GivenBack => true,
        };
        let old_group = old.group;
        let lease = Lease { visible_at, token: coordinates.token, uncounted, ..old };
        let is_last_attempt = lease.is_last_attempt(group.progress.max_attempts());
        transaction.queue(queue).lease(at.offset, lease);
        let written = transaction.commit(&self.progress_writer);
        if invisible > 0 || is_last_attempt {
            self.expiry.schedule(&group.progress, &mut transaction, visible_at);
            return Ok((changed(coordinates), written));
        }
        let is_deliverable = !transaction.in_order || transaction.queue(queue).is_unblocked(old_group, now);
        drop(transaction);
        group.progress.wake(usize::from(is_deliverable));
        Ok((changed(coordinates), written))
    }

    /// Returns a group's progress in a topic. Settling creates neither topics nor groups.
    ///
    /// # Errors
    /// `InvalidHandle` if the group does not exist: it was deleted after the delivery.
    pub(super) async fn group_progress(
        &self,
        topic: &Arc<Topic>,
        group: &str,
    ) -> Result<GroupProgress, ServiceError> {
        let group = self.catalog.group(group).ok_or_else(|| deleted("group"))?;
        let progress = topic.consumer(group.id);
        let queues = self.loaded(topic, &progress).await?;
        Ok(GroupProgress { topic: topic.clone(), progress, queues })
    }
}

impl GroupProgress {
    /// Returns the coordinates if they belong to this topic and this group.
    ///
    /// # Errors
    /// `InvalidHandle` if they belong to a deleted topic or group with the same name.
    pub(super) fn check_ids(&self, at: Coordinates) -> Result<Coordinates, ServiceError> {
        for (id, now, what) in
            [(at.topic, self.progress.topic(), "topic"), (at.group, self.progress.group(), "group")]
        {
            if id.is_some_and(|id| id != now) {
                let text = format!("the {what} of this receipt handle was deleted and created again");
                return Err(ServiceError::new(ServiceErrorKind::InvalidHandle, text));
            }
        }
        Ok(at)
    }

    /// The index of the queue in the coordinates, limited to the existing queues, as a client may send any number.
    pub(super) fn queue_index(&self, at: Coordinates) -> usize {
        (at.queue as usize).min(self.queues.len().saturating_sub(1))
    }
}

/// The outcome of a successful change, with the new coordinates.
fn changed(coordinates: Coordinates) -> InvisibleOutcome {
    InvisibleOutcome::Changed { coordinates: coordinates.to_string(), received_at: time(clock::now() as i64) }
}

/// The outcome of a change of a lease that is gone. The new coordinates name no lease either.
fn gone(coordinates: Coordinates) -> InvisibleOutcome {
    InvisibleOutcome::Gone { coordinates: coordinates.to_string(), received_at: time(clock::now() as i64) }
}

/// Ends leases, and finds how many receives may continue because of that.
pub(super) struct EndedLeases {
    max_leases: usize,
    /// How many leases were ended.
    pub(super) count: usize,
    // The queues and message groups in which leases were ended. Empty unless the group consumes in order.
    groups: BTreeSet<(usize, Option<GroupHash>)>,
    // The queues that had `max_leases` unsettled messages.
    full: BTreeSet<usize>,
}

impl EndedLeases {
    /// `max_leases` is the maximum number of unsettled messages of a queue.
    pub(super) fn new(max_leases: usize) -> Self {
        Self { max_leases, count: 0, groups: BTreeSet::new(), full: BTreeSet::new() }
    }

    /// Ends a lease because the message is consumed.
    pub(super) fn end_lease(&mut self, state: &mut ProgressState, queue: usize, offset: u64) {
        let in_order = state.in_order;
        let progress = state.queue(queue);
        if progress.is_full(self.max_leases) {
            self.full.insert(queue);
        }
        if in_order {
            self.groups.insert((queue, progress.leases().get(offset).and_then(|lease| lease.group)));
        }
        progress.end_lease(offset);
        self.count += 1;
    }

    /// Returns whether messages whose last lease has expired, and that waited in order for the leases that were ended, have
    /// to be searched for. The next search begins with them.
    pub(super) fn unblock_exhausted(&self, max_attempts: u32, state: &mut ProgressState, now: u64) -> bool {
        let unblocked = self.groups.iter().filter_map(|(queue, group)| {
            let queue = state.queues().get(*queue)?;
            queue.end_with_last_attempt(*group, max_attempts).filter(|end| *end <= now)
        });
        let Some(since) = unblocked.min() else { return false };
        state.examined_until = state.examined_until.min(since.saturating_sub(1));
        true
    }

    /// How many waiting receives may get messages now, because a message group is no longer blocked or a queue no
    /// longer has too many unsettled messages.
    pub(super) fn deliverable(&self, state: &mut ProgressState, now: u64) -> usize {
        let is_unblocked = |(queue, group): &&(usize, _)| state.queue(*queue).is_unblocked(*group, now);
        let free = self.groups.iter().filter(is_unblocked).count();
        let has_room = self.full.iter().any(|queue| !state.queue(*queue).is_full(self.max_leases));
        free.max(usize::from(has_room))
    }
}

/// Returns the state of the lease that the coordinates name.
pub(super) fn lease_status(
    state: &mut ProgressState,
    queue: usize,
    at: Coordinates,
    now: u64,
) -> LeaseStatus {
    match state.queue(queue).leases().get(at.offset) {
        Some(lease) if lease.token != at.token => LeaseStatus::Gone,
        Some(lease) if lease.has_expired(now) => LeaseStatus::Expired(lease.clone()),
        Some(lease) => LeaseStatus::Running(lease.clone()),
        None => LeaseStatus::Gone,
    }
}

/// The error for coordinates of a topic or group that does not exist any more.
pub(super) fn deleted(what: &str) -> ServiceError {
    let text = format!("the {what} of this receipt handle was deleted");
    ServiceError::new(ServiceErrorKind::InvalidHandle, text)
}

/// Whether a lease that is gone would have expired by now, in ms of [`clock::monotonic`].
fn is_past(at: Coordinates, entry: &Settle, now: u64) -> bool {
    if let Some(until) = at.until {
        return until <= now;
    }
    // A handle of an older version has only times of the wall clock. The clocks are rounded to milliseconds and may
    // differ by one.
    const CLOCK_DIFFERENCE_MS: i64 = 1;
    let until = entry.received_at.checked_add(entry.invisible);
    until.is_some_and(|until| millis(until) - CLOCK_DIFFERENCE_MS <= clock::now() as i64)
}

/// Parses the coordinates of an entry.
pub(super) fn parse(entry: &Settle) -> Result<Coordinates, ServiceError> {
    entry.coordinates.parse().map_err(|_| {
        let text = format!("not a receipt handle of this broker: {}", entry.coordinates);
        ServiceError::new(ServiceErrorKind::InvalidHandle, text)
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::backend::embedded::testing::{deliveries, open, send, uncached};

    #[tokio::test]
    async fn an_old_handle_is_refused_after_the_wall_clock_was_set_back() {
        let clock = clock::controlled::begin(1_700_000_000_000);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
        send(&broker, ["a"]).await;
        let first = deliveries(&broker, 1).await.remove(0);
        clock.advance(600_001);
        let again = deliveries(&broker, 1).await.remove(0);
        clock.step(-3_600_000);
        let topic = broker.topic("topic").await.expect("a topic");
        let deadline = Instant::now() + Duration::from_secs(30);
        let request = |entry| Acknowledge {
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            entries: vec![entry],
            deadline,
        };
        for (delivery, expected) in [(&first, AckOutcome::Expired), (&again, AckOutcome::Done)] {
            let acknowledged = broker.acknowledge_entries(&topic, request(Settle::from(delivery))).await;
            assert_eq!(acknowledged.expect("an answer"), [expected]);
        }
    }
}
