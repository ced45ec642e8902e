//! Schedules the reads of orphan checks, for each topic with a connected producer. Holds the checks that were read
//! but not yet returned. An orphan check asks a producer about an undecided transaction.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::clock;
use super::half_message::{HalfMessage, HalfMessageId};
use super::topic::Topic;
use crate::service::{Delivery, ServiceError, ServiceErrorKind};

/// The checks of the topics that have a connected producer.
#[derive(Default)]
pub(super) struct CheckSchedule {
    watched: Mutex<Watched>,
    /// Notified when the next step may have changed.
    pub(super) changed: Notify,
    pub(super) pending: tokio::sync::Mutex<PendingChecks>,
    /// The number of half messages that were discarded since the start.
    pub(super) discarded: AtomicU64,
}

#[derive(Default)]
struct Watched {
    // By topic id.
    topics: BTreeMap<u32, WatchedTopic>,
    // The id of the topic whose checks were read last. The next read starts after it, so that topics take turns.
    last: u32,
}

struct WatchedTopic {
    topic: Arc<Topic>,
    state: CheckState,
}

/// The position up to which the checks of a topic were read.
#[derive(Clone, Copy)]
pub(super) struct CheckState {
    /// The position of the next read. Earlier checks are removed; skipping their records would be slow.
    pub(super) from: u64,
    pub(super) next: NextRead,
    /// Checks scheduled after this time may be too late, because the clock was set back before the start. They are
    /// rescheduled. `None` when there are none left.
    pub(super) review_after: Option<u64>,
}

/// When to read the checks of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextRead {
    /// At this time, in ms of [`clock::monotonic`].
    At(u64),
    /// The topic has no checks.
    Never,
}

/// The next step of the task that reads checks.
pub(super) enum NextStep {
    /// Read the checks of this topic.
    Due(Arc<Topic>),
    /// Wait for the next check.
    Wait(Duration),
    /// No topic has a scheduled check.
    Nothing,
}

/// Checks that were read from the disk and not returned yet.
#[derive(Default)]
pub(super) struct PendingChecks {
    pub(super) ready: VecDeque<Delivery>,
    /// The read in progress. It is kept if the call that started it is cancelled.
    pub(super) in_progress: Option<(Arc<Topic>, DueChecksReceiver)>,
}

type DueChecksReceiver = oneshot::Receiver<Result<DueChecks, ServiceError>>;

/// Due checks that were read from the disk.
pub(super) struct DueChecks {
    pub(super) checks: Vec<(HalfMessageId, HalfMessage)>,
    /// Half messages that were still undecided after their last check.
    pub(super) discarded: Vec<HalfMessage>,
}

/// The delay after a failed read or an unreachable producer, in ms.
const RETRY_DELAY_MS: u64 = 1_000;

impl CheckState {
    /// Nothing was read.
    const UNREAD: Self = Self { from: 0, next: NextRead::At(0), review_after: Some(0) };
}

impl CheckSchedule {
    /// Sets the topics that have a connected producer.
    pub(super) fn watch(&self, topics: Vec<Arc<Topic>>) {
        let mut watched = self.watched.lock();
        let mut before = std::mem::take(&mut watched.topics);
        for topic in topics {
            let id = topic.id();
            let unknown = || WatchedTopic { topic, state: CheckState::UNREAD };
            let entry = before.remove(&id).unwrap_or_else(unknown);
            watched.topics.insert(id, entry);
        }
        drop(watched);
        self.changed.notify_one();
    }

    /// Records that checks were stored. `checks` has the time of the earliest new check in ms, by topic id.
    pub(super) fn added(&self, checks: &HashMap<u32, u64>) {
        for (topic, at) in checks {
            self.update(*topic, |watched| {
                let is_first = match watched.next {
                    NextRead::At(next) => *at < next,
                    NextRead::Never => true,
                };
                if is_first {
                    watched.next = NextRead::At(*at);
                    self.changed.notify_one();
                }
            });
        }
    }

    /// Schedules a new read of all topics, after the log was reopened.
    pub(super) fn reload(&self) {
        for watched in self.watched.lock().topics.values_mut() {
            (watched.state.from, watched.state.next) = (0, NextRead::At(0));
        }
        self.changed.notify_one();
    }

    /// Returns the next step. The next read goes to another topic than the previous one if possible.
    pub(super) fn next_step(&self, now: u64) -> NextStep {
        let mut watched = self.watched.lock();
        let Watched { topics, last } = &mut *watched;
        let mut in_turn = topics.range((Excluded(*last), Unbounded)).chain(topics.range(..=*last));
        let due = in_turn.find(|(_, topic)| matches!(topic.state.next, NextRead::At(at) if at <= now));
        if let Some((id, found)) = due {
            let topic = found.topic.clone();
            *last = *id;
            return NextStep::Due(topic);
        }
        let times = topics.values().filter_map(|topic| match topic.state.next {
            NextRead::At(at) => Some(at),
            NextRead::Never => None,
        });
        times.min().map_or(NextStep::Nothing, |at| NextStep::Wait(Duration::from_millis(at - now)))
    }

    /// Pauses the checks of a topic.
    pub(super) fn pause(&self, topic: u32) {
        let until = clock::monotonic() + RETRY_DELAY_MS;
        self.update(topic, |watched| {
            watched.next = match watched.next {
                NextRead::At(at) => NextRead::At(at.max(until)),
                NextRead::Never => NextRead::Never,
            };
        });
    }

    /// Schedules another read after a failed one. If the topic is missing, it is forgotten.
    pub(super) fn failed(&self, topic: u32, error: &ServiceError) {
        if error.kind == ServiceErrorKind::TopicNotFound {
            self.watched.lock().topics.remove(&topic);
            return;
        }
        let again = NextRead::At(clock::monotonic() + RETRY_DELAY_MS);
        self.update(topic, |watched| {
            *watched = CheckState { next: again, ..CheckState::UNREAD };
        });
    }

    /// How far the checks of a topic were read. `None` if it has no connected producer.
    pub(super) fn state(&self, topic: u32) -> Option<CheckState> {
        self.watched.lock().topics.get(&topic).map(|watched| watched.state)
    }

    /// Sets how far the checks of a topic were read.
    pub(super) fn set_state(&self, topic: u32, state: CheckState) {
        self.update(topic, |watched| *watched = state);
    }

    fn update(&self, topic: u32, update: impl FnOnce(&mut CheckState)) {
        if let Some(watched) = self.watched.lock().topics.get_mut(&topic) {
            update(&mut watched.state);
        }
    }
}
