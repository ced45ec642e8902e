//! Moves a message to its group's dead-letter topic. Concurrent requests for the same message create one dead letter.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::blocking::blocking;
use super::broker::Broker;
use super::clock;
use super::codec::{self, DecodedMessage};
use super::lease::Coordinates;
use super::lease_expiry::LeaseExpiry;
use super::new_message::NewMessage;
use super::progress::{ForwardState, Progress};
use super::progress_writer::{ProgressWriter, Written};
use super::settle::{EndedLeases, GroupProgress, LeaseStatus, lease_status, parse};
use super::store::corrupt;
use super::topic::Topic;
use super::writer::StoreRequest;
use crate::service::{DeadLetterOrigin, Delay, Forward, Message, ServiceError, ServiceErrorKind, names};

/// The number of queues of a dead-letter topic or a retry topic.
pub(super) const QUEUES: i32 = 1;

/// A move in progress. Other moves of the same message wait until it is dropped.
struct Move {
    progress_writer: Arc<ProgressWriter>,
    expiry: Arc<LeaseExpiry>,
    topic: Arc<Topic>,
    progress: Arc<Progress>,
    queue: usize,
    at: Coordinates,
    max_leases: usize,
    attempt: u32,
    is_stored: bool,
}

/// The result of an attempt to begin a move.
enum MoveStart {
    Started(Move),
    /// Another move of the same message is in progress.
    InProgress,
    /// The message is settled. The change that settled it may not be written yet.
    Settled(Written),
}

impl Broker {
    /// See [`crate::service::Messages::forward_to_dead_letter`], and [`Broker::acknowledge_entries`] for the topic.
    /// Returns the dead letter, or `None` if the message was settled or moved before.
    pub(super) async fn move_to_dead_letters(
        &self,
        topic: &Arc<Topic>,
        request: Forward,
    ) -> Result<Option<Message>, ServiceError> {
        let at = parse(&request.entry)?;
        let group = self.group_progress(topic, &request.group).await?;
        group.check_ids(at)?;
        let Some(mut moved) = self.begin_move(&group, at, request.deadline).await? else { return Ok(None) };
        if moved.is_stored {
            return moved.settle().await.map(|()| None);
        }
        let Some(stored) = self.read_message(&group, at).await? else {
            // Retention has removed the message, or it is damaged.
            return moved.settle().await.map(|()| None);
        };
        let attempts = stored.earlier_attempts.saturating_add(moved.attempt);
        let letter = as_dead_letter(stored.message, request.topic);
        let topic = self.ensure_topic(&names::dead_letter_topic(&request.group), QUEUES).await?;
        let entry = NewMessage {
            message: codec::encode(&letter, attempts),
            queue: 0,
            due: None,
            first_check_after: None,
        };
        let (reply, answer) = oneshot::channel();
        drop(self.writer.submit(StoreRequest { topic, entries: vec![entry], reply })?);
        // A task of its own, which continues if the caller gives up: the dead letter may be stored nevertheless, and
        // must not be stored twice.
        let finished = tokio::spawn(async move {
            let placed = answer.await.unwrap_or_else(|_| {
                Err(ServiceError::new(ServiceErrorKind::Unavailable, "the broker has stopped"))
            });
            placed?;
            moved.set_stored();
            moved.settle().await
        });
        match timeout_at(request.deadline.into(), finished).await {
            Ok(Ok(finished)) => finished.map(|()| Some(letter)),
            Ok(Err(error)) => Err(ServiceError::new(
                ServiceErrorKind::Internal,
                format!("a task of the broker failed: {error}"),
            )),
            Err(_) => Err(ServiceError::new(ServiceErrorKind::Timeout, "the disk did not respond in time")),
        }
    }

    /// Begins a move, after other moves of the same message have ended. Returns `None` if the message is settled, or if
    /// another consumer has received it, which then settles it.
    async fn begin_move(
        &self,
        group: &GroupProgress,
        at: Coordinates,
        deadline: Instant,
    ) -> Result<Option<Move>, ServiceError> {
        let queue = group.queue_index(at);
        loop {
            let ended = group.progress.forward_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            match self.try_begin_move(group, queue, at)? {
                MoveStart::Started(moved) => return Ok(Some(moved)),
                MoveStart::Settled(written) => return written.done().await.map(|()| None),
                MoveStart::InProgress => {}
            }
            if timeout_at(deadline.into(), ended).await.is_err() {
                return Err(ServiceError::new(ServiceErrorKind::Timeout, "the disk did not respond in time"));
            }
        }
    }

    fn try_begin_move(
        &self,
        group: &GroupProgress,
        queue: usize,
        at: Coordinates,
    ) -> Result<MoveStart, ServiceError> {
        let mut transaction = group.progress.begin()?;
        let lease = match lease_status(&mut transaction, queue, at, clock::monotonic()) {
            LeaseStatus::Running(lease) | LeaseStatus::Expired(lease) => lease,
            LeaseStatus::Gone => return Ok(MoveStart::Settled(transaction.commit(&self.progress_writer))),
        };
        let mut forwards = group.progress.forwards.lock();
        let state = forwards.get(&(queue, at.offset)).copied();
        if state == Some(ForwardState::Storing) {
            return Ok(MoveStart::InProgress);
        }
        forwards.entry((queue, at.offset)).or_insert(ForwardState::Storing);
        Ok(MoveStart::Started(Move {
            progress_writer: self.progress_writer.clone(),
            expiry: self.expiry.clone(),
            topic: group.topic.clone(),
            progress: group.progress.clone(),
            queue,
            at,
            max_leases: self.config.max_unsettled_per_queue,
            attempt: lease.attempt,
            is_stored: state == Some(ForwardState::Stored),
        }))
    }

    async fn read_message(
        &self,
        group: &GroupProgress,
        at: Coordinates,
    ) -> Result<Option<DecodedMessage>, ServiceError> {
        let queue = group.queues[group.queue_index(at)].clone();
        let chunk = match queue.recent(at.offset) {
            Some(chunk) => Some(chunk),
            None => {
                let _permit = self.read_cache.permit().await;
                let store = self.store.clone();
                blocking(move || Ok(queue.read(&store, at.offset, 1)?.into_iter().next())).await?
            }
        };
        let Some(chunk) = chunk.filter(|chunk| chunk.first() <= at.offset) else { return Ok(None) };
        let bytes = chunk.message(at.offset).map_err(|_| corrupt("message"))?;
        codec::decode(&bytes).map(Some).map_err(|_| corrupt("message"))
    }
}

/// Converts a message of this topic to a dead letter.
pub(super) fn as_dead_letter(message: Message, topic: String) -> Message {
    let mut letter = message;
    // As with Apache's brokers.
    letter.delay = Some(Delay::Unknown);
    // A dead letter that becomes a dead letter again keeps its first origin.
    let origin = DeadLetterOrigin { topic, message_id: letter.id.clone() };
    letter.dead_letter_origin.get_or_insert(origin);
    letter
}

impl Move {
    /// Notes that the dead letter is stored. If ending the lease fails, a later move only ends the lease.
    fn set_stored(&mut self) {
        self.is_stored = true;
        self.progress.forwards.lock().insert((self.queue, self.at.offset), ForwardState::Stored);
    }

    /// Ends the lease, unless it has been replaced.
    async fn settle(self) -> Result<(), ServiceError> {
        let (has_lease, written) = self.end_lease()?;
        written.done().await?;
        if !has_lease {
            // The message can't be moved again.
            self.progress.forwards.lock().remove(&(self.queue, self.at.offset));
        }
        Ok(())
    }

    /// Ends the lease, unless it has been replaced. Returns whether the message has another lease.
    fn end_lease(&self) -> Result<(bool, Written), ServiceError> {
        let now = clock::monotonic();
        let mut transaction = self.progress.begin()?;
        if matches!(lease_status(&mut transaction, self.queue, self.at, now), LeaseStatus::Gone) {
            let has_lease = transaction.queue(self.queue).leases().get(self.at.offset).is_some();
            return Ok((has_lease, transaction.commit(&self.progress_writer)));
        }
        let mut ended = EndedLeases::new(self.max_leases);
        ended.end_lease(&mut transaction, self.queue, self.at.offset);
        let written = transaction.commit(&self.progress_writer);
        let deliverable = ended.deliverable(&mut transaction, now);
        if ended.unblock_exhausted(self.progress.max_attempts(), &mut transaction, now) {
            self.expiry.schedule(&self.progress, &mut transaction, now);
        }
        drop(transaction);
        self.topic.count_settled(&self.progress, ended.count);
        self.progress.wake(deliverable);
        Ok((false, written))
    }
}

impl Drop for Move {
    fn drop(&mut self) {
        if !self.is_stored {
            self.progress.forwards.lock().remove(&(self.queue, self.at.offset));
        }
        self.progress.forward_ended.notify_waiters();
    }
}
