//! How far a group has come in a topic: cursors and leases, and the receives that wait for more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::changes::Changes;
use super::chunk::Chunk;
use super::keys;
use super::lease::{Lease, Leases};
use super::queue::Queue;
use super::store::{Store, corrupt, unavailable};
use crate::service::{ServiceError, ServiceErrorKind};

/// A group's progress in a topic.
pub(super) struct Progress {
    group: u32,
    topic: u32,
    // Read from the disk by the group's first request, in a blocking thread.
    state: Mutex<Option<State>>,
    loaded: AtomicBool,
    more: Notify,
    waiting: AtomicUsize,
    deleted: AtomicBool,
    // Since the last look at what is idle.
    used: AtomicBool,
}

/// What the lock protects. It is held while a change is written, so that memory and disk change in one order.
#[derive(Default)]
pub(super) struct State {
    /// By queue id.
    pub(super) queues: Vec<QueueProgress>,
    /// Which queue the next receive looks at first.
    pub(super) turn: usize,
    /// The earliest wake-up that [`super::expiry`] knows of.
    pub(super) scheduled: Option<u64>,
}

/// A group's progress in one queue.
#[derive(Default)]
pub(super) struct QueueProgress {
    /// The next offset that the group has not had.
    pub(super) cursor: u64,
    /// The cursor on the disk, which may lag behind leases: it is raised when one above it ends.
    written: u64,
    /// What is out.
    pub(super) leases: Leases,
    /// Chunks read from the disk for this group, when it is too far behind for the queue's recent ones.
    pub(super) window: Vec<Chunk>,
}

impl Progress {
    /// Progress that is not loaded yet.
    pub(super) fn new(group: u32, topic: u32) -> Self {
        Self {
            group,
            topic,
            state: Mutex::new(None),
            loaded: AtomicBool::new(false),
            more: Notify::new(),
            waiting: AtomicUsize::new(0),
            deleted: AtomicBool::new(false),
            used: AtomicBool::new(true),
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

    /// The state, if it is loaded.
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock()
    }

    /// Whether the state is loaded. Never waits for one that is just being loaded.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Loads the state. Reads the disk, and writes where a new group starts.
    pub(super) fn load(&self, store: &Store, queues: &[Arc<Queue>]) -> Result<(), ServiceError> {
        let mut slot = self.state.lock();
        if slot.is_some() {
            return Ok(());
        }
        let mut state = State::default();
        let mut known = Vec::new();
        for entry in store.state()?.prefix(keys::group_topic(self.group, self.topic)) {
            let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
            let (queue, offset) = keys::progress_parts(&key).ok_or_else(|| corrupt("progress key"))?;
            let progress = state.queue(queue as usize);
            if let Some(offset) = offset {
                let lease = Lease::decode(&value).map_err(|_| corrupt("lease"))?;
                progress.leases.set(offset, lease);
                progress.cursor = progress.cursor.max(offset + 1);
            } else {
                let cursor = value.as_ref().try_into().map_err(|_| corrupt("cursor"))?;
                progress.written = u64::from_be_bytes(cursor);
                progress.cursor = progress.cursor.max(progress.written);
                known.push(queue);
            }
        }
        let mut changes = self.changes(store);
        for queue in queues {
            let progress = state.queue(queue.id() as usize);
            if !known.contains(&queue.id()) {
                progress.move_to(&mut changes, queue.id(), where_a_new_group_starts(queue));
            }
            // Sends that were not flushed may be lost with the machine's power while progress survived it.
            while let Some(offset) = progress.leases.last_offset().filter(|offset| *offset >= queue.end()) {
                progress.leases.remove(offset);
                changes.no_lease(queue.id(), offset);
            }
            if progress.cursor > queue.end() {
                progress.move_to(&mut changes, queue.id(), queue.end());
            }
        }
        changes.commit()?;
        *slot = Some(state);
        self.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes what is in memory to the disk, which may differ after failed writes.
    pub(super) fn rewrite(&self, store: &Store) -> Result<(), ServiceError> {
        let mut slot = self.state.lock();
        let Some(state) = slot.as_mut() else { return Ok(()) };
        let mut changes = self.changes(store);
        for entry in store.state()?.prefix(keys::group_topic(self.group, self.topic)) {
            let key = entry.key().map_err(|e| unavailable(&e))?;
            let (queue, offset) = keys::progress_parts(&key).ok_or_else(|| corrupt("progress key"))?;
            if let Some(offset) = offset
                && state.queue(queue as usize).leases.get(offset).is_none()
            {
                changes.no_lease(queue, offset);
            }
        }
        for (id, queue) in (0..).zip(&mut state.queues) {
            queue.move_to(&mut changes, id, queue.cursor);
            for (offset, lease) in queue.leases.iter() {
                changes.lease(id, offset, lease);
            }
        }
        changes.commit()
    }

    /// A change of this progress.
    pub(super) fn changes<'a>(&self, store: &'a Store) -> Changes<'a> {
        Changes::new(store, self.group, self.topic)
    }

    /// Takes a place among the waiting receives; it is given back when the place is dropped.
    ///
    /// # Errors
    /// `Busy` if too many wait already, here or altogether.
    pub(super) fn wait_in_line<'a>(
        &'a self,
        everyone: &'a AtomicUsize,
        most: WaitingLimits,
    ) -> Result<Place<'a>, ServiceError> {
        let place = Place { counts: [&self.waiting, everyone] };
        let here = self.waiting.fetch_add(1, Ordering::SeqCst);
        let altogether = everyone.fetch_add(1, Ordering::SeqCst);
        if here >= most.per_group || altogether >= most.altogether {
            return Err(ServiceError::new(ServiceErrorKind::Busy, "polling full"));
        }
        Ok(place)
    }

    /// What a waiting receive waits for. Enabled before the receive looks for messages, it can't miss any; if
    /// it is dropped after it was woken, the next one in line is woken instead.
    pub(super) fn more(&self) -> tokio::sync::futures::Notified<'_> {
        self.more.notified()
    }

    /// Wakes as many waiting receives, the longest waiting first.
    pub(super) fn wake(&self, count: usize) {
        for _ in 0..count.min(self.waiting.load(Ordering::SeqCst)) {
            self.more.notify_one();
        }
    }

    /// Says that its group is gone, and ends all waiting.
    pub(super) fn delete(&self) {
        self.deleted.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Whether its group is gone.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::SeqCst)
    }

    /// Wakes every waiting receive.
    pub(super) fn wake_all(&self) {
        self.wake(usize::MAX);
    }
}

/// How many receives may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingLimits {
    pub(super) per_group: usize,
    pub(super) altogether: usize,
}

/// A place among the waiting receives.
pub(super) struct Place<'a> {
    counts: [&'a AtomicUsize; 2],
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        for count in self.counts {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl State {
    /// The progress in a queue; a queue that is new begins at its start.
    pub(super) fn queue(&mut self, id: usize) -> &mut QueueProgress {
        if self.queues.len() <= id {
            self.queues.resize_with(id + 1, QueueProgress::default);
        }
        &mut self.queues[id]
    }
}

impl QueueProgress {
    /// Sets the cursor, in memory and on the disk.
    pub(super) fn move_to(&mut self, changes: &mut Changes<'_>, queue: u32, cursor: u64) {
        self.cursor = cursor;
        self.written = cursor;
        changes.cursor(queue, cursor);
    }

    /// Ends a lease for good: the message is consumed.
    pub(super) fn settle(&mut self, changes: &mut Changes<'_>, queue: u32, offset: u64) {
        self.leases.remove(offset);
        changes.no_lease(queue, offset);
        // Without the lease only the cursor tells the next start that the group had this message.
        if offset >= self.written {
            self.move_to(changes, queue, self.cursor);
        }
    }

    /// The chunk of the window that holds this offset.
    pub(super) fn windowed(&self, offset: u64) -> Option<Chunk> {
        self.window.iter().find(|chunk| chunk.first() <= offset && offset < chunk.end()).cloned()
    }
}

/// Like RocketMQ: at the beginning if the queue still has everything, else at its newest message.
fn where_a_new_group_starts(queue: &Queue) -> u64 {
    match queue.range() {
        (0, _) => 0,
        (start, end) => start.max(end.saturating_sub(1)),
    }
}
