//! The state of the writer thread. Decides whether a message goes to its queue, the timers or the half messages.

use std::sync::Arc;

use super::catalog::Catalog;
use super::clock;
use super::commit::Commit;
use super::decisions::Decisions;
use super::half_message::{HalfMessage, HalfMessageId};
use super::new_message::{NewMessage, StoredAt};
use super::orphan_check_reads::CheckSchedule;
use super::queue::Queue;
use super::store::Store;
use super::timer::{DelayedMessage, TimerKey, Timers};
use super::topic::Topic;
use crate::service::ServiceError;

/// State that only the writer thread reads and changes.
pub(super) struct WriterState {
    pub(super) store: Arc<Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) timers: Timers,
    pub(super) decisions: Decisions,
    pub(super) checks: Arc<CheckSchedule>,
    /// The last number that was given to a timer or a half message.
    pub(super) sequence: u64,
}

impl WriterState {
    /// Returns a unique number for a timer or a half message.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Adds messages to the commit: to their queues, to the timers, or to the half messages. Returns where each will be.
    pub(super) fn place(
        &mut self,
        topic: &Arc<Topic>,
        entries: Vec<NewMessage>,
        commit: &mut Commit,
    ) -> Result<Vec<StoredAt>, ServiceError> {
        let queues = self.queues(topic)?;
        let topic_id = topic.id();
        let place = |NewMessage { message, queue, due, first_check_after }| match (first_check_after, due) {
            (Some(first_check_after), due) => {
                let id = HalfMessageId::new(topic_id, self.next_sequence(), first_check_after);
                id.add(&HalfMessage { queue, due, message, stored_at: clock::now() }, commit);
                StoredAt::Half { queue, id }
            }
            (None, Some(due)) => {
                let timer = TimerKey { due, sequence: self.next_sequence() };
                let waiting = DelayedMessage { timer, topic: topic_id, queue, message: &message };
                self.timers.add(&waiting, commit);
                StoredAt::Delayed { queue, timer }
            }
            (None, None) => {
                let chosen = &queues[queue as usize % queues.len()];
                StoredAt::Queued { queue, offset: commit.append(topic, chosen, message) }
            }
        };
        Ok(entries.into_iter().map(place).collect())
    }

    /// Adds a half message that was committed to its queue, or to the timers if it is due later.
    pub(super) fn release_half_message(
        &mut self,
        topic: &Arc<Topic>,
        half: HalfMessage,
        commit: &mut Commit,
    ) -> Result<(), ServiceError> {
        let HalfMessage { queue, due, message, .. } = half;
        match due.filter(|due| *due > clock::now()) {
            Some(due) => {
                let timer = TimerKey { due, sequence: self.next_sequence() };
                let waiting = DelayedMessage { timer, topic: topic.id(), queue, message: &message };
                self.timers.add(&waiting, commit);
            }
            None => {
                let queues = self.queues(topic)?;
                commit.append(topic, topic.writable_queue(&queues, queue), message);
            }
        }
        Ok(())
    }

    /// The queues of a topic.
    ///
    /// # Errors
    /// `TopicNotFound` if it was deleted.
    fn queues(&self, topic: &Topic) -> Result<Arc<[Arc<Queue>]>, ServiceError> {
        topic.check_alive()?;
        match topic.loaded() {
            Some(queues) => Ok(queues),
            None => topic.load(&self.store),
        }
    }
}
