//! Finds messages whose attempts are exhausted: the lease of their last attempt has expired.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::lease::{Coordinates, Lease};
use super::progress::{Progress, ProgressState};
use crate::service::DeadLetter;

/// Messages whose attempts are exhausted and that wait to be moved to their dead-letter topic.
#[derive(Default)]
pub(super) struct ExhaustedMessages {
    waiting: Mutex<VecDeque<Waiting>>,
    added: Notify,
    watcher: Mutex<Option<mpsc::Sender<DeadLetter>>>,
}

/// A message whose attempts are exhausted. The reference prevents the progress from being unloaded.
pub(super) struct ExhaustedMessage {
    pub(super) progress: Arc<Progress>,
    pub(super) at: Coordinates,
}

/// An item of the queue that [`super::last_attempts`] handles.
pub(super) enum Waiting {
    /// A message to move.
    Message(ExhaustedMessage),
    /// The progress may have more such messages than were found at once.
    More(Arc<Progress>),
}

/// The maximum number of messages of a group in a topic that are found at once. More are looked for once these are
/// moved.
pub(super) const MAX_FOUND: usize = 1024;
/// The capacity of the channel of dead letters.
const MAX_UNREAD: usize = 1024;

impl ExhaustedMessages {
    /// Queues the messages whose last lease has expired since the previous call for this progress.
    pub(super) fn queue_exhausted(&self, progress: &Arc<Progress>, state: &mut ProgressState, now: u64) {
        let max = progress.max_attempts();
        if max == u32::MAX || progress.is_deleted() || state.has_more_exhausted {
            return;
        }
        let from = state.examined_until;
        let (mut found, mut is_cut) = (Vec::new(), false);
        // The current millisecond is examined again next time, because more leases may still expire in it.
        let mut until = now.saturating_sub(1);
        for (queue, in_queue) in (0..).zip(state.queues()) {
            let leases = in_queue.leases();
            // In order, a message waits until its message group is unblocked.
            let expired = leases
                .expired_within(from, now)
                .filter(|(_, lease)| !lease.fifo || in_queue.is_unblocked(lease.group, now))
                .map(|(offset, lease)| (lease.visible_at, offset, lease));
            let unblocked = leases.unblocked_within(from, now).filter(|(.., lease)| lease.visible_at <= from);
            let both: [Box<dyn Iterator<Item = (u64, u64, &Lease)>>; 2] =
                [Box::new(expired), Box::new(unblocked)];
            for leases in both {
                for (since, offset, lease) in leases.filter(|(.., lease)| lease.is_last_attempt(max)) {
                    if found.len() >= MAX_FOUND {
                        until = until.min(since.saturating_sub(1));
                        is_cut = true;
                        break;
                    }
                    found.push(Coordinates {
                        queue,
                        offset,
                        token: lease.token,
                        topic: Some(progress.topic()),
                        group: Some(progress.group()),
                        until: Some(lease.visible_at),
                    });
                }
            }
        }
        state.examined_until = until.max(from);
        state.has_more_exhausted = is_cut;
        // The dead letters of a message group are in the order of its messages.
        found.sort_unstable_by_key(|at| (at.queue, at.offset));
        let message = |at| Waiting::Message(ExhaustedMessage { progress: progress.clone(), at });
        let more = is_cut.then(|| Waiting::More(progress.clone()));
        let found: Vec<_> = found.into_iter().map(message).chain(more).collect();
        if !found.is_empty() {
            self.waiting.lock().extend(found);
            self.added.notify_one();
        }
    }

    /// See [`crate::service::Messages::dead_letters`].
    pub(super) fn watch(&self) -> mpsc::Receiver<DeadLetter> {
        let (watcher, letters) = mpsc::channel(MAX_UNREAD);
        *self.watcher.lock() = Some(watcher);
        letters
    }

    /// Reports a dead letter to the receiver of [`ExhaustedMessages::watch`].
    pub(super) fn moved(&self, letter: DeadLetter) {
        if let Some(watcher) = &*self.watcher.lock() {
            // A receiver that reads too slowly misses dead letters.
            let _ = watcher.try_send(letter);
        }
    }

    /// Puts a message that could not be moved behind the others.
    pub(super) fn put_back(&self, message: ExhaustedMessage) {
        self.waiting.lock().push_back(Waiting::Message(message));
    }

    /// Waits for the next message.
    pub(super) async fn next(&self) -> Waiting {
        loop {
            let added = self.added.notified();
            if let Some(next) = self.waiting.lock().pop_front() {
                return next;
            }
            added.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::catalog::IfExists;
    use crate::backend::embedded::clock;
    use crate::backend::embedded::testing::{deliver, open, request, uncached};
    use crate::service::{
        Acknowledge, ChangeInvisible, Delivery, Message, NextAttempt, Receive, Settle, TopicConfig, TopicKind,
    };

    const LEASE_MS: u64 = 10_000;

    /// Offsets of the messages that wait to be moved.
    fn found(broker: &Broker) -> Vec<u64> {
        broker.expiry.wake_due();
        let waiting = std::mem::take(&mut *broker.expiry.exhausted.waiting.lock());
        let offset = |waiting| match waiting {
            Waiting::Message(message) => message.at.offset,
            Waiting::More(_) => panic!("there are few"),
        };
        waiting.into_iter().map(offset).collect()
    }

    /// Creates a group with one attempt, which receives three messages of a message group. Extends the lease of the first.
    async fn with_a_long_lease(directory: &tempfile::TempDir) -> (Broker, Delivery) {
        let broker = open(uncached(directory)).await;
        broker
            .catalog
            .put_topic(TopicConfig::new("topic", TopicKind::Fifo, 1), IfExists::Refuse)
            .expect("new");
        let mut config = broker.group("group").await.expect("a group").config.as_ref().clone();
        config.max_retries = 0;
        broker.catalog.put_group(config, IfExists::Replace).expect("changed");
        let message = |id: u8| Message {
            id: id.to_string(),
            group: Some("message-group".to_owned()),
            ..Message::default()
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        broker.store_messages("topic", (0..3).map(message).collect(), deadline).await.expect("a send");
        let invisible = Duration::from_millis(LEASE_MS);
        let first = deliver(&broker, Receive { fifo: true, invisible, ..request(3) }).await.remove(0);
        let topic = broker.topic("topic").await.expect("a topic");
        let change = ChangeInvisible {
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            entry: Settle::from(&first),
            invisible: 3 * invisible,
            next_attempt: NextAttempt::Counts,
            deadline,
        };
        let crate::service::InvisibleOutcome::Changed { coordinates, .. } =
            broker.change_lease(&topic, change).await.expect("a change")
        else {
            panic!("the lease was running");
        };
        (broker, Delivery { coordinates, ..first })
    }

    #[tokio::test]
    async fn dead_letters_of_a_message_group_are_in_order() {
        let clock = clock::controlled::begin(1_700_000_000_000);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (broker, _) = with_a_long_lease(&directory).await;
        clock.advance(LEASE_MS + 1);
        assert!(found(&broker).is_empty(), "the lease of the first message is running");
        clock.advance(2 * LEASE_MS);
        assert_eq!(found(&broker), [0, 1, 2]);
    }

    #[tokio::test]
    async fn later_messages_become_dead_letters_once_the_first_is_settled() {
        let clock = clock::controlled::begin(1_700_000_000_000);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (broker, first) = with_a_long_lease(&directory).await;
        clock.advance(LEASE_MS + 1);
        assert!(found(&broker).is_empty());
        let acknowledge = Acknowledge {
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            entries: vec![Settle::from(&first)],
            deadline: Instant::now() + Duration::from_secs(30),
        };
        let topic = broker.topic("topic").await.expect("a topic");
        broker.acknowledge_entries(&topic, acknowledge).await.expect("an answer");
        assert_eq!(found(&broker), [1, 2]);
    }
}
