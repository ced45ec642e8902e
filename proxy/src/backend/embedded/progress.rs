//! A group's progress in a topic: cursors and leases, and the receives that wait for messages.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::changes::{self, Changes};
use super::keys;
use super::lease::Lease;
use super::lite_topics::LiteTopics;
use super::meter::Meter;
use super::progress_writer::{ProgressWriter, Written, earlier_write_failed};
use super::queue::Queue;
use super::queue_progress::QueueProgress;
use super::store::{Store, corrupt, unavailable};
use super::topic::{LiteMembership, Topic};
use super::waiting_limits::{Place, Waiting, WaitingLimits};
use crate::service::{GroupStart, ServiceError};

/// No more waiting receives are woken at once. One that takes messages and leaves others wakes the next.
const MAX_WOKEN: usize = 8;

/// A group's progress in a topic.
pub(super) struct Progress {
    group: u32,
    topic: u32,
    // Read from the disk by the group's first request, on a blocking thread.
    state: Mutex<Option<State>>,
    // Held while the disk is read. Async threads take the other lock.
    loading: Mutex<()>,
    loaded: AtomicBool,
    // How often the state was dropped because a write had failed.
    generation: AtomicU64,
    /// How many changes are not written yet.
    pub(super) unwritten: AtomicUsize,
    turn: AtomicUsize,
    /// Held while the disk is read for this group: concurrent receives need the same messages.
    pub(super) reading: tokio::sync::Mutex<()>,
    /// Messages that are being moved to the dead-letter topic, by queue and offset.
    pub(super) forwards: Mutex<BTreeMap<(usize, u64), ForwardState>>,
    /// Notified when a move to the dead-letter topic ends.
    pub(super) forward_ended: Notify,
    /// Messages that were delivered, those of the lite topics of a LITE topic included.
    pub(super) delivered: Meter,
    /// Deliveries that were settled, likewise.
    pub(super) settled: Meter,
    more: Notify,
    waiting: Waiting,
    deleted: AtomicBool,
    // Since the last check for what is idle.
    used: AtomicBool,
    // In a lite topic nobody waits here.
    lite: Option<Arc<LiteMembership>>,
    // As the group's configuration was when it was used last.
    max_attempts: AtomicU32,
}

/// How far a move to the dead-letter topic has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForwardState {
    /// The dead letter is being stored.
    Storing,
    /// The dead letter is stored, and the message is not settled yet.
    Stored,
}

/// What the lock protects. Changes are written in the order in which they are made.
#[derive(Default)]
pub(super) struct State {
    /// By queue id.
    queues: Vec<QueueProgress>,
    // The queues that may have changed since the last commit: a topic may have thousands.
    touched: Vec<usize>,
    /// Whether the latest receive asked for messages in order.
    pub(super) in_order: bool,
    /// The wake-up that is scheduled with [`super::lease_expiry`].
    pub(super) scheduled: Option<u64>,
    /// The last time up to which [`super::last_attempts`] has looked at leases that are over.
    pub(super) looked_until: u64,
}

/// A change of a group's progress. It is visible to others only when this is dropped, and undone unless it was
/// committed.
pub(super) struct Change<'a> {
    progress: &'a Arc<Progress>,
    state: MappedMutexGuard<'a, State>,
}

impl Progress {
    /// Progress that is not loaded yet.
    pub(super) fn new(group: u32, topic: u32) -> Self {
        Self {
            group,
            topic,
            state: Mutex::new(None),
            loading: Mutex::new(()),
            loaded: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            unwritten: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            reading: tokio::sync::Mutex::new(()),
            forwards: Mutex::default(),
            forward_ended: Notify::new(),
            delivered: Meter::default(),
            settled: Meter::default(),
            more: Notify::new(),
            waiting: Waiting::default(),
            deleted: AtomicBool::new(false),
            used: AtomicBool::new(true),
            lite: None,
            max_attempts: AtomicU32::new(u32::MAX),
        }
    }

    /// The same, in a lite topic. Receives wait for many lite topics at once, and are woken there.
    pub(super) fn in_lite_topic(self, lite: Option<Arc<LiteMembership>>) -> Self {
        Self { lite, ..self }
    }

    /// The lite topic that it is in, as long as that is in memory.
    pub(super) fn lite_topic(&self, lite_topics: &LiteTopics) -> Option<Arc<Topic>> {
        let lite = self.lite.as_ref()?;
        lite_topics.loaded(lite.parent.id(), &lite.name)
    }

    /// Whether it must stay in memory, so that receives which wait elsewhere are woken when leases end.
    pub(super) fn must_wake_others(&self) -> bool {
        let has_leases = |state: &State| state.queues.iter().any(|queue| !queue.leases().is_empty());
        self.lite.is_some() && self.lock().is_some_and(|state| has_leases(&state))
    }

    /// Notes how many deliveries the group allows a message.
    pub(super) fn set_max_attempts(&self, max: u32) {
        self.max_attempts.store(max, Ordering::Relaxed);
    }

    /// How many deliveries the group allows a message.
    pub(super) fn max_attempts(&self) -> u32 {
        self.max_attempts.load(Ordering::Relaxed)
    }

    /// Whether it must stay in memory, so that messages become dead letters when leases end.
    pub(super) fn has_last_attempts(&self) -> bool {
        let max = self.max_attempts();
        let is_last = |state: &State| {
            state.queues.iter().any(|queue| queue.leases().iter().any(|(_, lease)| lease.is_last(max)))
        };
        self.lock().is_some_and(|state| is_last(&state))
    }

    /// Counts messages that were delivered.
    pub(super) fn count_delivered(&self, count: usize) {
        self.count(|progress| progress.delivered.add(count));
    }

    /// Counts deliveries that were settled.
    pub(super) fn count_settled(&self, count: usize) {
        self.count(|progress| progress.settled.add(count));
    }

    /// What happens in a lite topic counts for its LITE topic.
    fn count(&self, add: impl FnOnce(&Self)) {
        match &self.lite {
            None => add(self),
            Some(lite) => {
                if let Some(progress) = lite.parent.peek_consumer(self.group) {
                    add(&progress);
                }
            }
        }
    }

    /// Notes that a request uses it.
    pub(super) fn set_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether a request has used it since the last call.
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
    pub(super) fn lock(&self) -> Option<MappedMutexGuard<'_, State>> {
        MutexGuard::try_map(self.state.lock(), Option::as_mut).ok()
    }

    /// Begins a change, after the state was loaded.
    ///
    /// # Errors
    /// `Unavailable` if a write has failed since.
    pub(super) fn change(self: &Arc<Self>) -> Result<Change<'_>, ServiceError> {
        Ok(Change { progress: self, state: self.lock().ok_or_else(earlier_write_failed)? })
    }

    /// Drops the state, as a write has failed and the state is not what the disk holds. The next request loads it again.
    pub(super) fn drop_state(&self) {
        {
            let mut state = self.state.lock();
            *state = None;
            self.loaded.store(false, Ordering::Release);
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        // They load it, which schedules the wake-ups for the ends of leases.
        match &self.lite {
            Some(lite) => lite.deliverable(Some(self.group)),
            None => self.wake_all(),
        }
    }

    /// How often the state was dropped. Changes of a state that was dropped must not be written.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Whether the state is loaded. Never waits for one that is just being loaded.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Loads the state. Reads the disk, and records where a new group starts. Blocks.
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
        changes::commit(store, state.changes(self.group, self.topic).into_records())?;
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

    /// The state that [`Progress::load`] would load, for a look at it. Blocks.
    pub(super) fn read(
        &self,
        store: &Store,
        queues: &[Arc<Queue>],
        start: GroupStart,
    ) -> Result<State, ServiceError> {
        store.check_state()?;
        let mut state = State::default();
        for entry in store.state()?.prefix(keys::group_topic(self.group, self.topic)) {
            let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
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
        for queue in queues {
            state.queue(queue.id() as usize).begin(queue, start, store)?;
        }
        Ok(state)
    }

    /// The number of the queue, modulo their count, that a receive looks at first.
    pub(super) fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a place among the waiting receives, here and in `all`. It is given back when the place is dropped.
    ///
    /// # Errors
    /// `Busy` if too many receives wait.
    pub(super) fn wait_in_line<'a>(
        &'a self,
        all: &'a Waiting,
        bytes: usize,
        limits: WaitingLimits,
    ) -> Result<[Place<'a>; 2], ServiceError> {
        Ok([self.waiting.enter(limits.per_group, bytes)?, all.enter(limits.altogether, bytes)?])
    }

    /// Resolves when there may be more messages. Nothing is missed after it was enabled. If it is dropped after it was
    /// woken, the next waiting receive is woken instead.
    pub(super) fn more(&self) -> Notified<'_> {
        self.more.notified()
    }

    /// Wakes up to `count` waiting receives, the longest waiting first. Those that find more than they may take wake
    /// others.
    pub(super) fn wake(&self, count: usize) {
        if let Some(lite) = self.lite.as_ref().filter(|_| count > 0) {
            return lite.deliverable(Some(self.group));
        }
        for _ in 0..count.min(MAX_WOKEN).min(self.waiting.count()) {
            self.more.notify_one();
        }
    }

    /// Marks its group as deleted, and ends all waiting.
    pub(super) fn delete(&self) {
        self.deleted.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Whether its group was deleted.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::SeqCst)
    }

    /// Wakes every waiting receive.
    pub(super) fn wake_all(&self) {
        self.more.notify_waiters();
    }
}

impl Change<'_> {
    /// Keeps the change, and has it written after those that were committed before. What follows belongs to another
    /// change.
    pub(super) fn commit(&mut self, writer: &ProgressWriter) -> Written {
        let changes = self.state.changes(self.progress.group, self.progress.topic);
        self.state.end_change(QueueProgress::keep);
        writer.submit(self.progress, changes.into_records())
    }
}

impl Deref for Change<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.state.end_change(QueueProgress::undo);
    }
}

impl State {
    /// The progress in all queues.
    pub(super) fn queues(&self) -> &[QueueProgress] {
        &self.queues
    }

    /// The progress in a queue. In a queue that is new the group begins at its start.
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

    /// What has changed, to be written to the disk.
    fn changes(&self, group: u32, topic: u32) -> Changes {
        let mut changes = Changes::new(group, topic);
        for id in &self.touched {
            self.queues[*id].write(*id as u32, &mut changes);
        }
        changes
    }

    /// Keeps or undoes what was changed.
    fn end_change(&mut self, end: fn(&mut QueueProgress)) {
        let Self { queues, touched, .. } = self;
        touched.retain(|id| {
            let queue = &mut queues[*id];
            end(queue);
            // The next change records where the group begins in a new queue.
            queue.is_touched = !queue.is_recorded();
            queue.is_touched
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::message_groups::GroupHash;
    use super::*;

    #[test]
    fn a_change_looks_only_at_queues_that_were_touched() {
        let mut state = State::default();
        state.queue(2).advance(5);
        assert_eq!(state.touched, [0, 1, 2], "new queues are recorded");
        state.end_change(QueueProgress::undo);
        assert_eq!((state.queues[2].cursor(), state.touched.len()), (0, 3), "they still are to be recorded");
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
