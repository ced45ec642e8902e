//! Settling: acknowledging a delivery, and changing its invisible time. See [`super::dead_letter`] for the third way.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::broker::Broker;
use super::clock;
use super::lease::{Coordinates, Lease};
use super::message_groups::GroupHash;
use super::progress::{Progress, State};
use super::progress_writer::Written;
use super::queue::Queue;
use super::topic::Topic;
use crate::service::{
    AckOutcome, Acknowledge, ChangeInvisible, InvisibleOutcome, NextAttempt, ServiceError, ServiceErrorKind,
    Settle, millis, time,
};

/// What coordinates refer to.
pub(super) enum Referent {
    /// The lease in force.
    Running(Lease),
    /// A lease that is over, on a message that was not delivered again.
    Over(Lease),
    /// Nothing that can be settled: the message is settled, or another lease has replaced this one.
    Nothing,
}

/// A group's progress in a topic, and the topic's queues.
pub(super) struct GroupProgress {
    pub(super) progress: Arc<Progress>,
    pub(super) queues: Arc<[Arc<Queue>]>,
}

impl Broker {
    /// See [`crate::service::Messages::acknowledge`]. The topic is the one that the deliveries are from, which may be a lite
    /// topic of the one that the request names.
    pub(super) async fn acknowledge_entries(
        &self,
        topic: &Arc<Topic>,
        request: Acknowledge,
    ) -> Result<Vec<AckOutcome>, ServiceError> {
        let Some(group) = self.group_progress(topic, &request.group).await? else {
            return Ok(request.entries.iter().map(outcome_of_unknown).collect());
        };
        let (outcomes, written) = self.end_leases(&group, &request)?;
        // If this fails nothing was acknowledged, and the leases go on.
        written.done().await?;
        Ok(outcomes)
    }

    fn end_leases(
        &self,
        group: &GroupProgress,
        request: &Acknowledge,
    ) -> Result<(Vec<AckOutcome>, Written), ServiceError> {
        let now = clock::monotonic();
        let mut change = group.progress.change()?;
        let mut outcomes = Vec::with_capacity(request.entries.len());
        let mut freed = Freed::new(self.config.max_unsettled_per_queue);
        for entry in &request.entries {
            let at = match parse(entry).and_then(|at| group.check_topic(at)) {
                Ok(at) => at,
                Err(error) => {
                    outcomes.push(AckOutcome::Invalid(error.message));
                    continue;
                }
            };
            let queue = group.queue_index(at);
            outcomes.push(match referent(&mut change, queue, at, now) {
                Referent::Running(_) => {
                    freed.end_lease(&mut change, queue, at.offset);
                    AckOutcome::Done
                }
                Referent::Over(_) => AckOutcome::Expired,
                Referent::Nothing => outcome_of_unknown(entry),
            });
        }
        let written = change.commit(&self.progress_writer);
        let deliverable = freed.deliverable(&mut change, now);
        drop(change);
        group.progress.count_settled(freed.count);
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
        let Some(group) = self.group_progress(topic, &request.group).await? else {
            return Ok(changed(Coordinates { token: rand::random(), ..at }));
        };
        group.check_topic(at)?;
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
        let coordinates = Coordinates { token: rand::random(), ..at };
        let changed = changed(coordinates);
        let now = clock::monotonic();
        let queue = group.queue_index(at);
        let mut change = group.progress.change()?;
        let old = match referent(&mut change, queue, at, now) {
            Referent::Running(lease) => lease,
            unsettleable => {
                let expired = matches!(unsettleable, Referent::Over(_)) || is_past(&request.entry);
                // Apache's brokers agree to a change of nothing, too. The new coordinates settle nothing either.
                let outcome = if expired { InvisibleOutcome::Expired } else { changed };
                return Ok((outcome, change.commit(&self.progress_writer)));
            }
        };
        let invisible = u64::try_from(request.invisible.as_millis()).unwrap_or(u64::MAX);
        let visible_at = now.saturating_add(invisible);
        let uncounted = match request.next_attempt {
            NextAttempt::Counts => false,
            // As with Apache's brokers.
            NextAttempt::Suspended => !old.fifo,
            NextAttempt::GivenBack => true,
        };
        let old_group = old.group;
        let lease = Lease { visible_at, token: coordinates.token, uncounted, ..old };
        let is_last = lease.is_last(group.progress.max_attempts());
        change.queue(queue).lease(at.offset, lease);
        let written = change.commit(&self.progress_writer);
        if invisible > 0 || is_last {
            self.expiry.schedule(&group.progress, &mut change, visible_at);
            return Ok((changed, written));
        }
        let is_deliverable = !change.in_order || change.queue(queue).is_free(old_group, now);
        drop(change);
        group.progress.wake(usize::from(is_deliverable));
        Ok((changed, written))
    }

    /// Where a group stands in a topic. `None` if there is no such group: settling creates neither topic nor group.
    pub(super) async fn group_progress(
        &self,
        topic: &Arc<Topic>,
        group: &str,
    ) -> Result<Option<GroupProgress>, ServiceError> {
        let Some(group) = self.catalog.group(group) else { return Ok(None) };
        let progress = topic.consumer(group.id);
        let queues = self.loaded(topic, &progress).await?;
        Ok(Some(GroupProgress { progress, queues }))
    }
}

impl GroupProgress {
    /// Returns coordinates that are of this topic.
    ///
    /// # Errors
    /// `InvalidHandle` for those of a deleted topic with the same name.
    pub(super) fn check_topic(&self, at: Coordinates) -> Result<Coordinates, ServiceError> {
        if at.topic.is_some_and(|topic| topic != self.progress.topic()) {
            let text = "the topic of this receipt was deleted, and created again since";
            return Err(ServiceError::new(ServiceErrorKind::InvalidHandle, text));
        }
        Ok(at)
    }

    /// The index of the queue that coordinates name. Those of another topic may name a queue that is not there.
    pub(super) fn queue_index(&self, at: Coordinates) -> usize {
        (at.queue as usize).min(self.queues.len().saturating_sub(1))
    }
}

fn changed(coordinates: Coordinates) -> InvisibleOutcome {
    InvisibleOutcome::Changed { coordinates: coordinates.to_string(), received_at: time(clock::now() as i64) }
}

/// What the end of leases makes deliverable.
pub(super) struct Freed {
    max_leases: usize,
    /// How many leases have ended.
    pub(super) count: usize,
    // The queues and message groups in which leases have ended.
    groups: BTreeSet<(usize, Option<GroupHash>)>,
    // The queues that had too many unsettled messages.
    full: BTreeSet<usize>,
}

impl Freed {
    /// Nothing yet. A queue may have `max_leases` unsettled messages.
    pub(super) fn new(max_leases: usize) -> Self {
        Self { max_leases, count: 0, groups: BTreeSet::new(), full: BTreeSet::new() }
    }

    /// Ends a lease for good.
    pub(super) fn end_lease(&mut self, state: &mut State, queue: usize, offset: u64) {
        let progress = state.queue(queue);
        if progress.is_full(self.max_leases) {
            self.full.insert(queue);
        }
        self.groups.insert((queue, progress.leases().get(offset).and_then(|lease| lease.group)));
        progress.end_lease(offset);
        self.count += 1;
    }

    /// How many waiting receives may find something now: a message group goes on when nothing blocks it, and a queue that
    /// had too many unsettled messages when it has fewer.
    pub(super) fn deliverable(&self, state: &mut State, now: u64) -> usize {
        let in_order = state.in_order;
        let is_free = |(queue, group): &&(usize, _)| in_order && state.queue(*queue).is_free(*group, now);
        let free = self.groups.iter().filter(is_free).count();
        let has_room = self.full.iter().any(|queue| !state.queue(*queue).is_full(self.max_leases));
        free.max(usize::from(has_room))
    }
}

/// What coordinates refer to, in a queue of a group.
pub(super) fn referent(state: &mut State, queue: usize, at: Coordinates, now: u64) -> Referent {
    match state.queue(queue).leases().get(at.offset) {
        Some(lease) if lease.token != at.token => Referent::Nothing,
        Some(lease) if lease.is_over(now) => Referent::Over(lease.clone()),
        Some(lease) => Referent::Running(lease.clone()),
        None => Referent::Nothing,
    }
}

/// The answer to an acknowledgement that settles nothing.
fn outcome_of_unknown(entry: &Settle) -> AckOutcome {
    match parse(entry) {
        Err(error) => AckOutcome::Invalid(error.message),
        Ok(_) if is_past(entry) => AckOutcome::Expired,
        Ok(_) => AckOutcome::Done,
    }
}

/// Whether the lease is over by what the caller knows of it.
fn is_past(entry: &Settle) -> bool {
    // A lease begins by the wall clock and ends by the monotonic clock. Both count whole milliseconds and may differ by
    // one.
    const CLOCK_DIFFERENCE_MS: i64 = 1;
    let until = entry.received_at.checked_add(entry.invisible);
    until.is_some_and(|until| millis(until) - CLOCK_DIFFERENCE_MS <= clock::now() as i64)
}

/// Reads the coordinates of an entry.
pub(super) fn parse(entry: &Settle) -> Result<Coordinates, ServiceError> {
    entry.coordinates.parse().map_err(|_| {
        let text = format!("not a receipt of this broker: {}", entry.coordinates);
        ServiceError::new(ServiceErrorKind::InvalidHandle, text)
    })
}
