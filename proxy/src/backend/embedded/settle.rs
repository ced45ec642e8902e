//! Settling: acknowledge, change the invisible time, forward to the dead letters.

use std::sync::Arc;

use super::blocking::blocking;
use super::broker::Broker;
use super::clock;
use super::codec::{self, Stored};
use super::lease::{Coordinates, Lease};
use super::progress::Progress;
use super::queue::Queue;
use super::store::corrupt;
use super::topic::not_found;
use super::writer::Entry;
use crate::service::{
    AckOutcome, Acknowledge, ChangeInvisible, Delay, Forward, InvisibleOutcome, ServiceError,
    ServiceErrorKind, Settle, millis, time,
};

/// What coordinates turn out to name.
enum Named {
    /// The running lease.
    Running(Lease),
    /// A lease that ran out, and that nobody has taken since.
    Over(Lease),
    /// Nothing that can be settled: it is settled already, or another lease took its place.
    Nothing,
}

/// A group's progress in a topic, ready to be changed.
struct Position {
    progress: Arc<Progress>,
    queues: Arc<[Arc<Queue>]>,
}

impl Broker {
    /// See [`crate::service::Messages::acknowledge`].
    pub(super) async fn acknowledge_entries(
        &self,
        request: Acknowledge,
    ) -> Result<Vec<AckOutcome>, ServiceError> {
        let now = clock::now();
        let Some(position) = self.position(&request.topic, &request.group).await? else {
            return Ok(request.entries.iter().map(|entry| unknown(entry, now)).collect());
        };
        let mut slot = position.progress.lock();
        let state = slot.get_or_insert_default();
        let mut changes = position.progress.changes(&self.store);
        let mut outcomes = Vec::with_capacity(request.entries.len());
        let mut unblocked = 0;
        for entry in &request.entries {
            let Ok(at) = entry.coordinates.parse::<Coordinates>() else {
                outcomes.push(unknown(entry, now));
                continue;
            };
            let progress = state.queue(position.queue_index(at));
            outcomes.push(match named(progress.leases.get(at.offset), at, now) {
                Named::Running(lease) => {
                    let was_full = progress.leases.len() == self.config.max_unsettled_per_queue;
                    progress.settle(&mut changes, at.queue, at.offset);
                    unblocked += usize::from(was_full || (lease.fifo && progress.leases.is_empty()));
                    AckOutcome::Done
                }
                Named::Over(_) => AckOutcome::Expired,
                Named::Nothing => unknown(entry, now),
            });
        }
        changes.commit()?;
        drop(slot);
        // A queue consumed in order goes on with its next messages, and so does one that had too many out.
        position.progress.wake(unblocked);
        Ok(outcomes)
    }

    /// See [`crate::service::Messages::change_invisible`].
    pub(super) async fn change_lease(
        &self,
        request: ChangeInvisible,
    ) -> Result<InvisibleOutcome, ServiceError> {
        let at = parse(&request.entry)?;
        let now = clock::now();
        let invisible = u64::try_from(request.invisible.as_millis()).unwrap_or(u64::MAX);
        let coordinates = Coordinates { token: rand::random(), ..at };
        let changed =
            InvisibleOutcome::Changed { coordinates: coordinates.to_string(), received_at: time(now as i64) };
        let Some(position) = self.position(&request.topic, &request.group).await? else { return Ok(changed) };
        let mut slot = position.progress.lock();
        let state = slot.get_or_insert_default();
        let leases = &mut state.queue(position.queue_index(at)).leases;
        let old = match named(leases.get(at.offset), at, now) {
            Named::Running(lease) => lease,
            Named::Over(_) => return Ok(InvisibleOutcome::Expired),
            Named::Nothing if is_past(&request.entry, now) => return Ok(InvisibleOutcome::Expired),
            // Apache's brokers agree to this too; the new coordinates settle nothing either.
            Named::Nothing => return Ok(changed),
        };
        let visible_at = now.saturating_add(invisible);
        let lease = Lease { visible_at, token: coordinates.token, uncounted: request.suspend, ..old };
        let mut changes = position.progress.changes(&self.store);
        changes.lease(at.queue, at.offset, &lease);
        changes.commit()?;
        leases.set(at.offset, lease);
        self.expiry.schedule(&position.progress, state, visible_at);
        drop(slot);
        if invisible == 0 {
            position.progress.wake(1);
        }
        Ok(changed)
    }

    /// See [`crate::service::Messages::forward_to_dead_letter`].
    pub(super) async fn move_to_dead_letters(&self, request: Forward) -> Result<(), ServiceError> {
        let at = parse(&request.entry)?;
        let Some(position) = self.position(&request.topic, &request.group).await? else { return Ok(()) };
        let lease = match position.lease(at) {
            Named::Running(lease) | Named::Over(lease) => lease,
            // It was settled, or another consumer has it: then that one decides.
            Named::Nothing => return Ok(()),
        };
        let Some(stored) = self.read_message(&position, at).await? else { return Ok(()) };
        let attempts = stored.earlier_attempts.saturating_add(lease.attempt);
        let mut letter = stored.message;
        // What Apache's brokers make of a dead letter.
        letter.delay = Some(Delay::Untold);
        let dead_letters = self.make_topic(&format!("%DLQ%{}", request.group), 1).await?;
        let entry = Entry { message: codec::encode(&letter, attempts), queue: 0, due: None };
        self.append(dead_letters, vec![entry], request.deadline).await?;
        self.consume(&position, at)
    }

    /// Ends a lease for good, if it is still the one that the coordinates name.
    fn consume(&self, position: &Position, at: Coordinates) -> Result<(), ServiceError> {
        let mut slot = position.progress.lock();
        let state = slot.get_or_insert_default();
        let progress = state.queue(position.queue_index(at));
        let lease = match named(progress.leases.get(at.offset), at, clock::now()) {
            Named::Running(lease) | Named::Over(lease) => lease,
            Named::Nothing => return Ok(()),
        };
        let mut changes = position.progress.changes(&self.store);
        progress.settle(&mut changes, at.queue, at.offset);
        changes.commit()?;
        let unblocked = lease.fifo && progress.leases.is_empty();
        drop(slot);
        position.progress.wake(usize::from(unblocked));
        Ok(())
    }

    async fn read_message(
        &self,
        position: &Position,
        at: Coordinates,
    ) -> Result<Option<Stored>, ServiceError> {
        let queue = position.queues[position.queue_index(at)].clone();
        let chunk = match queue.recent(at.offset) {
            Some(chunk) => Some(chunk),
            None => {
                let store = self.store.clone();
                blocking(move || Ok(queue.read(&store, at.offset, 1)?.into_iter().next())).await?
            }
        };
        let Some(chunk) = chunk.filter(|chunk| chunk.first() <= at.offset) else { return Ok(None) };
        let bytes = chunk.message(at.offset).map_err(|_| corrupt("message"))?;
        codec::decode(&bytes).map(Some).map_err(|_| corrupt("message"))
    }

    /// Where the group stands; `None` if there is no such group. A settlement makes neither topic nor group.
    async fn position(&self, topic: &str, group: &str) -> Result<Option<Position>, ServiceError> {
        let topic = self.catalog.topic(topic).ok_or_else(|| not_found(topic))?;
        let Some(group) = self.catalog.group(group) else { return Ok(None) };
        let progress = topic.consumer(group.id);
        let queues = self.loaded(&topic, &progress).await?;
        Ok(Some(Position { progress, queues }))
    }
}

impl Position {
    /// The queue that coordinates name; those of another topic may name one that is not there.
    fn queue_index(&self, at: Coordinates) -> usize {
        (at.queue as usize).min(self.queues.len().saturating_sub(1))
    }

    fn lease(&self, at: Coordinates) -> Named {
        let mut slot = self.progress.lock();
        let state = slot.get_or_insert_default();
        named(state.queue(self.queue_index(at)).leases.get(at.offset), at, clock::now())
    }
}

fn named(lease: Option<&Lease>, at: Coordinates, now: u64) -> Named {
    match lease {
        Some(lease) if lease.token != at.token => Named::Nothing,
        Some(lease) if lease.is_over(now) => Named::Over(lease.clone()),
        Some(lease) => Named::Running(lease.clone()),
        None => Named::Nothing,
    }
}

/// The answer to an acknowledgement that settles nothing.
fn unknown(entry: &Settle, now: u64) -> AckOutcome {
    match parse(entry) {
        Err(error) => AckOutcome::Invalid(error.message),
        Ok(_) if is_past(entry, now) => AckOutcome::Expired,
        Ok(_) => AckOutcome::Done,
    }
}

/// Whether the lease that the caller speaks of would be over by its own account.
fn is_past(entry: &Settle, now: u64) -> bool {
    let until = entry.received_at.checked_add(entry.invisible);
    until.is_some_and(|until| millis(until) <= now as i64)
}

fn parse(entry: &Settle) -> Result<Coordinates, ServiceError> {
    entry.coordinates.parse().map_err(|_| {
        let text = format!("not a receipt of this broker: {}", entry.coordinates);
        ServiceError::new(ServiceErrorKind::InvalidHandle, text)
    })
}
