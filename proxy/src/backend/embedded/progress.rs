//! A group's progress in a topic: its cursors and leases, and its waiting receives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::keys;
use super::lease::Lease;
use super::lite_notifier::LiteNotifier;
use super::meter::Meter;
use super::progress_write_batch::{self, ProgressWriteBatch};
use super::queue::Queue;
use super::queue_progress::QueueProgress;
use super::store::{Store, corrupt, unreadable};
use super::waiting_limits::{WaitingGuard, WaitingLimits, WaitingReceives};
use crate::service::{GroupStart, ServiceError, ServiceErrorKind};

/// The maximum number of waiting receives that are woken at once. A receive that leaves messages behind wakes the next
/// one.
const MAX_WOKEN: usize = 8;

/// A group's progress in a topic.
pub(super) struct Progress {
    group: u32,
    topic: u32,
    // Read from the disk by the group's first request, on a blocking thread.
    state: Mutex<Option<ProgressState>>,
    // Held while the disk is read. Async threads take the other lock.
    loading: Mutex<()>,
    loaded: AtomicBool,
    // How many times the state was dropped because a write had failed.
    generation: AtomicU64,
    /// The number of changes that are not written yet.
    pub(super) unwritten: AtomicUsize,
    round_robin: AtomicUsize,
    /// Held while messages are read from the disk for this group, as concurrent receives need the same messages.
    pub(super) reading: tokio::sync::Mutex<()>,
    /// Messages that are being moved to the dead-letter topic, by queue and offset.
    pub(super) forwards: Mutex<BTreeMap<(usize, u64), ForwardState>>,
    /// Notified when a move to the dead-letter topic ends.
    pub(super) forward_ended: Notify,
    /// The rate of delivered messages. For a LITE topic it includes its lite topics.
    pub(super) delivered: Meter,
    /// The rate of settled deliveries. For a LITE topic it includes its lite topics.
    pub(super) settled: Meter,
    available: Notify,
    waiting: WaitingReceives,
    deleted: AtomicBool,
    // Whether a request has used it since the last call of `take_used`.
    used: AtomicBool,
    // `None` unless it is in a lite topic. Receives from lite topics wait in its subscriptions and not here.
    lite: Option<Arc<LiteNotifier>>,
    // From the group's configuration at the last request.
    max_attempts: AtomicU32,
}

/// What can't be read if the progress of a group is damaged.
const PROGRESS: &str = "record of the group's progress, which is lost. Delete the group and create it again, or restore a backup";

/// The state of a move to the dead-letter topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForwardState {
    /// The dead letter is being stored.
    Storing,
    /// The dead letter is stored, and the message is not settled yet.
    Stored,
}

/// Cursors and leases in all queues. Changes are written in the order in which they are committed.
#[derive(Default)]
pub(super) struct ProgressState {
    /// By queue id.
    queues: Vec<QueueProgress>,
    // The queues that may have changed since the last commit, so that a commit need not visit all queues.
    touched: Vec<usize>,
    /// Whether the latest receive was in order.
    pub(super) in_order: bool,
    /// When [`super::lease_expiry`] is scheduled to handle expired leases, in ms of `clock::monotonic`.
    pub(super) scheduled: Option<u64>,
    /// The time up to which [`super::exhausted_messages`] has examined expired leases, in ms of `clock::monotonic`.
    pub(super) examined_until: u64,
    /// Whether the latest such examination was cut short. It is continued once the messages that it found were handled.
    pub(super) has_more_exhausted: bool,
}

impl Progress {
    /// Creates progress that is not loaded yet.
    pub(super) fn new(group: u32, topic: u32) -> Self {
        Self {
            group,
            topic,
            state: Mutex::new(None),
            loading: Mutex::new(()),
            loaded: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            unwritten: AtomicUsize::new(0),
            round_robin: AtomicUsize::new(0),
            reading: tokio::sync::Mutex::new(()),
            forwards: Mutex::default(),
            forward_ended: Notify::new(),
            delivered: Meter::default(),
            settled: Meter::default(),
            available: Notify::new(),
            waiting: WaitingReceives::default(),
            deleted: AtomicBool::new(false),
            used: AtomicBool::new(true),
            lite: None,
            max_attempts: AtomicU32::new(u32::MAX),
        }
    }

    /// Sets the lite topic that the progress is in. Receives wait for many lite topics at once, in their subscriptions.
    pub(super) fn in_lite_topic(self, lite: Option<Arc<LiteNotifier>>) -> Self {
        Self { lite, ..self }
    }

    /// The lite topic that the progress is in.
    pub(super) fn lite(&self) -> Option<&LiteNotifier> {
        self.lite.as_deref()
    }

    /// Whether it is in a lite topic and has leases. It must stay in memory then, so that waiting receives are woken
    /// when the leases expire.
    pub(super) fn has_lite_leases(&self) -> bool {
        let has_leases = |state: &ProgressState| state.queues.iter().any(|queue| !queue.leases().is_empty());
        self.lite.is_some() && self.lock().is_some_and(|state| has_leases(&state))
    }

    /// Sets the maximum number of deliveries of a message to the group.
    pub(super) fn set_max_attempts(&self, max: u32) {
        self.max_attempts.store(max, Ordering::Relaxed);
    }

    /// The maximum number of deliveries of a message to the group.
    pub(super) fn max_attempts(&self) -> u32 {
        self.max_attempts.load(Ordering::Relaxed)
    }

    /// Whether any lease is of a last attempt. The progress must stay in memory then, so that messages become dead
    /// letters when the leases expire.
    pub(super) fn has_last_attempts(&self) -> bool {
        let max = self.max_attempts();
        let is_last_attempt = |state: &ProgressState| {
            state
                .queues
                .iter()
                .any(|queue| queue.leases().iter().any(|(_, lease)| lease.is_last_attempt(max)))
        };
        self.lock().is_some_and(|state| is_last_attempt(&state))
    }

    /// Notes that a request uses the progress.
    pub(super) fn set_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether a request has used the progress since the last call.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// The group's id.
    pub(super) fn group(&self) -> u32 {
        self.group
    }

    /// The topic's id.
    pub(super) fn topic(&self) -> u32 {
        self.topic
    }

    /// The state, if it is loaded.
    pub(super) fn lock(&self) -> Option<MappedMutexGuard<'_, ProgressState>> {
        MutexGuard::try_map(self.state.lock(), Option::as_mut).ok()
    }

    /// Drops the state, because a write has failed and the disk may differ. The next request loads the state again.
    pub(super) fn drop_state(&self) {
        {
            let mut state = self.state.lock();
            *state = None;
            self.loaded.store(false, Ordering::Release);
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        // The woken receives load the state, which schedules the wake-ups for the expiry of leases.
        match &self.lite {
            Some(lite) => lite.notify(Some(self.group)),
            None => self.wake_all(),
        }
    }

    /// How many times the state was dropped. Changes of a dropped state must not be written.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Whether the state is loaded. Does not wait while it is being loaded.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Loads the state from the disk, and writes where a new group starts. Blocks.
    pub(super) fn load(
        &self,
        store: &Store,
        queues: &[Arc<Queue>],
        start: GroupStart,
    ) -> Result<(), ServiceError> {
        let _loading = self.loading.lock();
        if self.is_loaded() {
            return Ok(());
        }
        let mut state = self.read(store, queues, start)?;
        progress_write_batch::commit(store, state.write_batch(self.group, self.topic).into_records())?;
        state.end_change(QueueProgress::keep);
        let has_lease = |queue: usize, offset| {
            state.queues.get(queue).is_some_and(|queue| queue.leases().get(offset).is_some())
        };
        self.forwards.lock().retain(|(queue, offset), forward| {
            *forward == ForwardState::Storing || has_lease(*queue, *offset)
        });
        *self.state.lock() = Some(state);
        self.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// Returns the state that [`Progress::load`] would load, without keeping it. `start` is where the group starts if it is
    /// new in the topic. In queues that were added later, it starts at the first message. Blocks.
    pub(super) fn read(
        &self,
        store: &Store,
        queues: &[Arc<Queue>],
        start: GroupStart,
    ) -> Result<ProgressState, ServiceError> {
        store.check_state()?;
        let mut state = ProgressState::default();
        for entry in store.state()?.prefix(keys::group_topic(self.group, self.topic)) {
            let (key, value) = entry.into_inner().map_err(|e| unreadable(&e, PROGRESS))?;
            let (queue, offset) = keys::progress_parts(&key).ok_or_else(|| corrupt("progress key"))?;
            let progress = state.queue(queue as usize);
            if let Some(offset) = offset {
                let lease = Lease::decode(&value).map_err(|_| corrupt("lease"))?;
                progress.load_lease(offset, lease);
            } else {
                let cursor = value.as_ref().try_into().map_err(|_| corrupt("cursor"))?;
                progress.load_cursor(u64::from_be_bytes(cursor));
            }
        }
        let is_new = state.queues.iter().all(|queue| !queue.is_recorded());
        let start = if is_new { start } else { GroupStart::Earliest };
        for queue in queues {
            state.queue(queue.id() as usize).finish_loading_in(queue, start, store)?;
        }
        Ok(state)
    }

    /// Returns the queue, modulo the number of queues, at which the next receive begins (round robin).
    pub(super) fn next_round_robin(&self) -> usize {
        self.round_robin.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a waiting receive, here and in `all`. It is unregistered when the returned values are dropped.
    ///
    /// # Errors
    /// `Busy` if too many receives wait.
    pub(super) fn register_waiting<'a>(
        &'a self,
        all: &'a WaitingReceives,
        bytes: usize,
        limits: WaitingLimits,
    ) -> Result<[WaitingGuard<'a>; 2], ServiceError> {
        Ok([self.waiting.register(limits.per_group, bytes)?, all.register(limits.total, bytes)?])
    }

    /// Resolves when there may be more messages. Misses no message that arrives after it was enabled. If it is dropped
    /// after it was woken, the next waiting receive is woken instead.
    pub(super) fn available(&self) -> Notified<'_> {
        self.available.notified()
    }

    /// Wakes up to `count` waiting receives, in the order in which they began to wait. A receive that finds more
    /// messages than it may take wakes another one.
    pub(super) fn wake(&self, count: usize) {
        if let Some(lite) = self.lite.as_ref().filter(|_| count > 0) {
            return lite.notify(Some(self.group));
        }
        for _ in 0..count.min(MAX_WOKEN).min(self.waiting.count()) {
            self.available.notify_one();
        }
    }

    /// Marks the group as deleted, and ends all waiting receives.
    pub(super) fn delete(&self) {
        self.deleted.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Whether the group was deleted.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::SeqCst)
    }

    /// Wakes every waiting receive.
    pub(super) fn wake_all(&self) {
        self.available.notify_waiters();
    }
}

impl ProgressState {
    /// The progress in all queues.
    pub(super) fn queues(&self) -> &[QueueProgress] {
        &self.queues
    }

    /// Returns the progress in a queue. In a new queue the group begins at its start.
    pub(super) fn queue(&mut self, id: usize) -> &mut QueueProgress {
        for new in self.queues.len()..=id {
            let mut queue = QueueProgress::default();
            queue.is_touched = true;
            self.queues.push(queue);
            self.touched.push(new);
        }
        let queue = &mut self.queues[id];
        if !std::mem::replace(&mut queue.is_touched, true) {
            self.touched.push(id);
        }
        queue
    }

    /// Collects the changed records.
    pub(super) fn write_batch(&self, group: u32, topic: u32) -> ProgressWriteBatch {
        let mut batch = ProgressWriteBatch::new(group, topic);
        for id in &self.touched {
            self.queues[*id].write(*id as u32, &mut batch);
        }
        batch
    }

    /// Keeps or undoes the changes, as `end` does.
    pub(super) fn end_change(&mut self, end: fn(&mut QueueProgress)) {
        let Self { queues, touched, .. } = self;
        touched.retain(|id| {
            let queue = &mut queues[*id];
            end(queue);
            // Still touched if the next change has to record where the group begins in a new queue.
            queue.is_touched = !queue.is_recorded();
            queue.is_touched
        });
    }
}

/// The error for a change that depends on one that was not written.
pub(super) fn earlier_write_failed() -> ServiceError {
    ServiceError::new(ServiceErrorKind::Unavailable, "an earlier write failed")
}

#[cfg(test)]
mod tests {
    use super::super::message_groups::GroupHash;
    use super::*;

    #[test]
    fn a_change_visits_only_touched_queues() {
        let mut state = ProgressState::default();
        state.queue(2).advance(5);
        assert_eq!(state.touched, [0, 1, 2], "new queues are recorded");
        state.end_change(QueueProgress::undo);
        assert_eq!((state.queues[2].cursor(), state.touched.len()), (0, 3), "they are not recorded yet");
        state.end_change(QueueProgress::keep);
        assert!(state.touched.is_empty());
        state.queue(1).advance(7);
        state.queue(1).lease(6, Lease::passed_over(GroupHash(1), 10));
        assert_eq!(state.touched, [1]);
        state.end_change(QueueProgress::undo);
        assert!(state.touched.is_empty());
        assert_eq!((state.queues[1].cursor(), state.queues[1].leases().passed_over()), (0, 0));
    }
}
