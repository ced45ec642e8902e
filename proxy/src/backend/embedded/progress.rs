//! A group's progress in a topic: cursors and leases, and the receives that wait for messages.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::changes::Changes;
use super::keys;
use super::lease::Lease;
use super::meter::Meter;
use super::queue::Queue;
use super::queue_progress::QueueProgress;
use super::store::{Store, corrupt, unavailable};
use super::topic::LiteMembership;
use super::waiting::{Place, Waiting, WaitingLimits};
use crate::service::ServiceError;

/// No more waiting receives are woken at once. One that takes messages and leaves others wakes the next.
const MAX_WOKEN: usize = 8;

/// A group's progress in a topic.
pub(super) struct Progress {
    group: u32,
    topic: u32,
    // Read from the disk by the group's first request, on a blocking thread.
    state: Mutex<Option<State>>,
    loaded: AtomicBool,
    turn: AtomicUsize,
    /// Held while the disk is read for this group: concurrent receives need the same messages.
    pub(super) reading: tokio::sync::Mutex<()>,
    /// Notified when a move to the dead-letter topic ends.
    pub(super) forward_ended: Notify,
    /// Messages that were delivered.
    pub(super) delivered: Meter,
    /// Deliveries that were settled.
    pub(super) settled: Meter,
    more: Notify,
    waiting: Waiting,
    deleted: AtomicBool,
    // Since the last check for what is idle.
    used: AtomicBool,
    // In a lite topic nobody waits here.
    lite: Option<Arc<LiteMembership>>,
}

/// What the lock protects. It is held while a change is written, so that memory and disk change in the same order.
#[derive(Default)]
pub(super) struct State {
    /// By queue id.
    queues: Vec<QueueProgress>,
    // The queues that may have changed since the last commit: a topic may have thousands.
    touched: Vec<usize>,
    /// Whether the latest receive asked for messages in order.
    pub(super) in_order: bool,
    /// The wake-up that is scheduled with [`super::expiry`].
    pub(super) scheduled: Option<u64>,
}

/// A change of a group's progress. It is visible to others only when this is dropped, and undone unless it was
/// committed.
pub(super) struct Change<'a> {
    progress: &'a Progress,
    state: MappedMutexGuard<'a, State>,
}

impl Progress {
    /// Progress that is not loaded yet.
    pub(super) fn new(group: u32, topic: u32) -> Self {
        Self {
            group,
            topic,
            state: Mutex::new(None),
            loaded: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            reading: tokio::sync::Mutex::new(()),
            forward_ended: Notify::new(),
            delivered: Meter::default(),
            settled: Meter::default(),
            more: Notify::new(),
            waiting: Waiting::default(),
            deleted: AtomicBool::new(false),
            used: AtomicBool::new(true),
            lite: None,
        }
    }

    /// The same, in a lite topic. Receives wait for many lite topics at once, and are woken there.
    pub(super) fn in_lite_topic(self, lite: Option<Arc<LiteMembership>>) -> Self {
        Self { lite, ..self }
    }

    /// Whether it must stay in memory, so that receives which wait elsewhere are woken when leases end.
    pub(super) fn must_wake_others(&self) -> bool {
        let has_leases = |state: &State| state.queues.iter().any(|queue| !queue.leases().is_empty());
        self.lite.is_some() && self.lock().is_some_and(|state| has_leases(&state))
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

    /// Begins a change.
    pub(super) fn change(&self) -> Change<'_> {
        let state = self.lock().expect("requests load the progress before they change it");
        Change { progress: self, state }
    }

    /// Whether the state is loaded. Never waits for one that is just being loaded.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Loads the state. Reads the disk, and records where a new group starts.
    pub(super) fn load(&self, store: &Store, queues: &[Arc<Queue>]) -> Result<(), ServiceError> {
        let mut slot = self.state.lock();
        if slot.is_some() {
            return Ok(());
        }
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
            state.queue(queue.id() as usize).begin(queue);
        }
        self.commit(store, &mut state)?;
        *slot = Some(state);
        self.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes what is in memory to the disk, which may differ after failed writes.
    pub(super) fn rewrite(&self, store: &Store) -> Result<(), ServiceError> {
        let Some(mut state) = self.lock() else { return Ok(()) };
        let mut changes = Changes::new(store, self.group, self.topic);
        for entry in store.state()?.prefix(keys::group_topic(self.group, self.topic)) {
            let key = entry.key().map_err(|e| unavailable(&e))?;
            let (queue, offset) = keys::progress_parts(&key).ok_or_else(|| corrupt("progress key"))?;
            if let Some(offset) = offset
                && state.queue(queue as usize).leases().get(offset).is_none()
            {
                changes.no_lease(queue, offset);
            }
        }
        for (id, queue) in (0..).zip(&state.queues) {
            changes.cursor(id, queue.cursor());
            for (offset, lease) in queue.leases().iter() {
                changes.lease(id, offset, lease);
            }
        }
        changes.commit()?;
        for queue in &mut state.queues {
            queue.set_recorded();
        }
        Ok(())
    }

    /// Writes what was changed, or undoes it if that fails.
    fn commit(&self, store: &Store, state: &mut State) -> Result<(), ServiceError> {
        let mut changes = Changes::new(store, self.group, self.topic);
        for id in &state.touched {
            state.queues[*id].write(*id as u32, &mut changes);
        }
        let written = changes.commit();
        state.end_change(if written.is_ok() { QueueProgress::keep } else { QueueProgress::undo });
        written
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
    /// Writes the change. What follows belongs to another change.
    ///
    /// # Errors
    /// `Unavailable`; the change is undone in memory.
    pub(super) fn commit(&mut self, store: &Store) -> Result<(), ServiceError> {
        self.progress.commit(store, &mut self.state)
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
