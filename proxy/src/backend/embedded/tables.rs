//! State that only the writer thread reads and changes: where a message is placed, and where it goes when it is released.

use std::sync::Arc;

use super::catalog::Catalog;
use super::clock;
use super::commit::Commit;
use super::decisions::Decisions;
use super::half_message::{HalfMessage, Record};
use super::orphan_checks::OrphanChecks;
use super::queue::Queue;
use super::store::Store;
use super::timer::{Timers, Waiting};
use super::topic::Topic;
use super::writer::{Entry, Placed};
use crate::service::ServiceError;

/// State that only the writer thread reads and changes.
pub(super) struct Tables {
    pub(super) store: Arc<Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) timers: Timers,
    pub(super) decisions: Decisions,
    pub(super) checks: Arc<OrphanChecks>,
    /// The last number that was given to a timer or a half message.
    pub(super) sequence: u64,
}

impl Tables {
    /// A unique number.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Gives messages their places.
    pub(super) fn place(
        &mut self,
        topic: &Arc<Topic>,
        entries: Vec<Entry>,
        commit: &mut Commit,
    ) -> Result<Vec<Placed>, ServiceError> {
        let queues = self.queues(topic)?;
        let topic_id = topic.id();
        let place = |Entry { message, queue, due, immunity }| match (immunity, due) {
            (Some(immunity), due) => {
                let place = HalfMessage::new(topic_id, self.next_sequence(), immunity);
                place.add(&Record { queue, due, message, stored_at: clock::now() }, commit);
                Placed::Half { queue, place }
            }
            (None, Some(due)) => {
                let sequence = self.next_sequence();
                let waiting = Waiting { due, sequence, topic: topic_id, queue, message: &message };
                Placed::Waiting { queue, timer: self.timers.add(&waiting, commit) }
            }
            (None, None) => {
                Placed::Queued { queue, offset: commit.append(topic, nth(&queues, queue), message) }
            }
        };
        Ok(entries.into_iter().map(place).collect())
    }

    /// Adds a message that was kept back to its queue, or to the timers if it is due later.
    pub(super) fn release(
        &mut self,
        topic: &Arc<Topic>,
        half: Record,
        commit: &mut Commit,
    ) -> Result<(), ServiceError> {
        let Record { queue, due, message, .. } = half;
        match due.filter(|due| *due > clock::now()) {
            Some(due) => {
                let sequence = self.next_sequence();
                self.timers
                    .add(&Waiting { due, sequence, topic: topic.id(), queue, message: &message }, commit);
            }
            None => {
                let queues = self.queues(topic)?;
                commit.append(topic, nth(&queues, queue), message);
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

/// The queue with this number, or another one if the topic has fewer.
pub(super) fn nth(queues: &[Arc<Queue>], number: u32) -> &Arc<Queue> {
    &queues[number as usize % queues.len()]
}
