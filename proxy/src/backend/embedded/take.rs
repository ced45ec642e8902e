//! Decides which messages a receive gets, by the rules of leases and cursors. It neither waits nor reads the disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;

use super::binary::Malformed;
use super::chunk::Chunk;
use super::codec;
use super::filter::Matcher;
use super::lease::{Lease, LeaseEnd};
use super::message_groups::GroupHash;
use super::progress::ProgressState;
use super::queue::Queue;
use super::queue_progress::QueueProgress;
use super::read_cache::ReadCache;

/// The parameters of a receive, and the sources of messages.
pub(super) struct TakeRequest<'a> {
    /// The maximum number of messages to take.
    pub(super) max: usize,
    /// The current time, in ms of [`super::clock::monotonic`].
    pub(super) now: u64,
    /// When the new leases expire, by the same clock.
    pub(super) visible_at: u64,
    /// The token of the new leases.
    pub(super) token: u64,
    /// Whether the group consumes in order.
    pub(super) fifo: bool,
    /// Whether all messages of a queue are treated as one message group.
    pub(super) whole_queues: bool,
    /// The attempt id of the receive.
    pub(super) attempt_id: Option<&'a str>,
    /// Selects the messages that are delivered.
    pub(super) filter: &'a Matcher,
    /// How many messages of a queue may be delivered and not settled.
    pub(super) max_leases: usize,
    /// The order in which queues are scanned.
    pub(super) order: QueueOrder,
    /// Chunks that other receives have read from the disk.
    pub(super) cache: &'a ReadCache,
    /// Chunks that this receive has read from the disk.
    pub(super) read: Option<&'a ReadChunks>,
}

/// The order in which a receive scans the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueOrder {
    /// Begins at this queue and wraps around. Each receive begins with another queue.
    From(usize),
    /// Begins at the highest queue. The queues of a PRIORITY topic are its priorities.
    HighestFirst,
}

/// A message in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueuePosition {
    pub(super) queue: u32,
    pub(super) offset: u64,
}

/// Chunks of a queue that were read for one receive.
pub(super) struct ReadChunks {
    pub(super) queue: u32,
    pub(super) chunks: Vec<Chunk>,
}

/// A message that was taken.
pub(super) struct TakenMessage {
    pub(super) queue: u32,
    pub(super) offset: u64,
    pub(super) attempt: u32,
    pub(super) stored_at: u64,
    pub(super) message: Bytes,
}

/// The messages that one scan took.
#[derive(Default)]
pub(super) struct TakenBatch {
    /// The messages, under new leases.
    pub(super) taken: Vec<TakenMessage>,
    /// The next message to deliver, if it is not in memory. It must be read before later ones are taken.
    pub(super) missing: Option<QueuePosition>,
    /// Whether there may be more messages, because the scan stopped at a limit.
    pub(super) more: bool,
    bytes: usize,
    scanned: usize,
}

/// A receive takes no more messages once it has this many bytes. 32 messages may have 4 MiB each.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// The maximum number of messages that a receive scans while it holds the group's lock. Complex filters reduce it.
pub(super) const MAX_SCANNED: usize = 4096;

impl TakeRequest<'_> {
    /// Takes messages: first those with expired leases, then new ones.
    pub(super) fn take(
        &self,
        state: &mut ProgressState,
        queues: &[Arc<Queue>],
    ) -> Result<TakenBatch, Malformed> {
        let mut batch = TakenBatch::default();
        match self.order {
            QueueOrder::From(first) => {
                match self.fifo {
                    true => self.take_same_attempt(state, queues, &mut batch)?,
                    false => self.take_expired(state, queues, &mut batch)?,
                }
                for step in 0..queues.len() {
                    if batch.must_stop(self) {
                        break;
                    }
                    let queue = &queues[first.wrapping_add(step) % queues.len()];
                    let mut scan = self.scan(state, queue, &mut batch);
                    if self.fifo { scan.take_in_order()? } else { scan.take_new()? }
                }
            }
            QueueOrder::HighestFirst => {
                for queue in queues.iter().rev() {
                    self.take_expired(state, std::slice::from_ref(queue), &mut batch)?;
                    if batch.must_stop(self) {
                        break;
                    }
                    self.scan(state, queue, &mut batch).take_new()?;
                    if batch.must_stop(self) {
                        break;
                    }
                }
            }
        }
        batch.more = batch.is_enough(self) || batch.missing.is_some();
        Ok(batch)
    }

    /// Takes the messages of an earlier receive with the same attempt id again, from all queues: their message groups are
    /// blocked until then, and other messages can wait. Stops at a message that is not in memory.
    fn take_same_attempt(
        &self,
        state: &mut ProgressState,
        queues: &[Arc<Queue>],
        batch: &mut TakenBatch,
    ) -> Result<(), Malformed> {
        let Some(attempt_id) = self.attempt_id else { return Ok(()) };
        for queue in queues {
            let progress = state.queues().get(queue.id() as usize);
            let is_repeated =
                progress.is_some_and(|progress| progress.leases().of_attempt(attempt_id).next().is_some());
            if is_repeated && !self.scan(state, queue, batch).take_same_attempt(attempt_id)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes messages with expired leases, in the order of their expiry. Stops at a message that is not in memory.
    fn take_expired(
        &self,
        state: &mut ProgressState,
        queues: &[Arc<Queue>],
        batch: &mut TakenBatch,
    ) -> Result<(), Malformed> {
        let mut ends = BinaryHeap::new();
        for (index, queue) in queues.iter().enumerate() {
            ends.extend(self.next_expired(state, queue).map(|end| Reverse((end, index))));
        }
        while let Some(Reverse((end, index))) = ends.pop() {
            let queue = &queues[index];
            if batch.is_enough(self) || !self.scan(state, queue, batch).take_again(end.offset)? {
                break;
            }
            ends.extend(self.next_expired(state, queue).map(|end| Reverse((end, index))));
        }
        Ok(())
    }

    fn next_expired(&self, state: &mut ProgressState, queue: &Queue) -> Option<LeaseEnd> {
        let first = state.queue(queue.id() as usize).leases().first_to_expire();
        first.filter(|end| end.at <= self.now)
    }

    fn scan<'a>(
        &'a self,
        state: &'a mut ProgressState,
        queue: &'a Queue,
        batch: &'a mut TakenBatch,
    ) -> QueueScan<'a> {
        let progress = state.queue(queue.id() as usize);
        QueueScan { request: self, queue, progress, batch, open: Vec::new() }
    }
}

impl TakenBatch {
    fn is_enough(&self, request: &TakeRequest<'_>) -> bool {
        self.taken.len() >= request.max || self.bytes >= MAX_BYTES || self.scanned >= MAX_SCANNED
    }

    /// Whether to stop the scan. A message that is not in memory is read before later ones are taken. Otherwise
    /// messages of other queues would be taken first again and again.
    fn must_stop(&self, request: &TakeRequest<'_>) -> bool {
        self.is_enough(request) || (self.missing.is_some() && self.taken.is_empty())
    }
}

/// A scan of one queue.
struct QueueScan<'a> {
    request: &'a TakeRequest<'a>,
    queue: &'a Queue,
    progress: &'a mut QueueProgress,
    batch: &'a mut TakenBatch,
    // Message groups whose first unsettled messages are all in the batch, so that later ones may follow.
    open: Vec<GroupHash>,
}

impl QueueScan<'_> {
    /// Takes messages from a queue that is consumed in order. A message group is blocked while any of its messages has
    /// a running lease. Once all of these leases have expired or ended, its unsettled messages are delivered again, in
    /// order.
    fn take_in_order(&mut self) -> Result<(), Malformed> {
        if self.is_one_group() {
            return self.take_from_whole_queue();
        }
        while !self.batch.is_enough(self.request)
            && let Some(group) = self.progress.leases().groups().first_unblocked(self.request.now)
        {
            if !self.take_group(group)? {
                return Ok(());
            }
        }
        self.take_new()
    }

    /// Whether the queue is treated as one message group: in a lite topic, or if the message group of a lease is not known.
    fn is_one_group(&self) -> bool {
        self.request.whole_queues || self.progress.leases().has_unknown_group()
    }

    /// Takes messages from a queue that is treated as one message group: unsettled messages if no lease is running, and new
    /// messages if everything is settled.
    fn take_from_whole_queue(&mut self) -> Result<(), Malformed> {
        let (now, attempt_id, leases) = (self.request.now, self.request.attempt_id, self.progress.leases());
        let all_expired = leases.all_expired(now);
        let is_own = |lease: &Lease| attempt_id.is_some() && lease.attempt_id.as_deref() == attempt_id;
        // If another receive has got messages since, they come first.
        let is_lost =
            attempt_id.is_some() && leases.iter().all(|(_, lease)| lease.has_expired(now) || is_own(lease));
        let start = self.queue.range().0;
        let kept = leases.iter().filter(|(offset, lease)| *offset >= start || all_expired || is_own(lease));
        // As in `take_same_attempt`: unsettled messages of another attempt may come first.
        let deliverable = kept.take_while(|(_, lease)| all_expired || (is_lost && is_own(lease)));
        let deliverable = deliverable.map(|(offset, _)| offset);
        for offset in deliverable.take(MAX_SCANNED).collect::<Vec<_>>() {
            if self.batch.is_enough(self.request) || !self.take_again(offset)? {
                break;
            }
        }
        // The filter may have dropped all unsettled messages.
        if self.progress.leases().is_empty() { self.take_new() } else { Ok(()) }
    }

    /// Takes the messages of an earlier receive with the same attempt id again, because its response was lost. Skips
    /// message groups of which another receive has got messages since. Returns false if a message is not in memory.
    fn take_same_attempt(&mut self, attempt_id: &str) -> Result<bool, Malformed> {
        if self.is_one_group() {
            return Ok(true);
        }
        let (now, leases) = (self.request.now, self.progress.leases());
        let is_own =
            |offset| leases.get(offset).is_some_and(|lease| lease.attempt_id.as_deref() == Some(attempt_id));
        let mut groups: Vec<_> = leases
            .of_attempt(attempt_id)
            .filter(|(_, lease)| !lease.has_expired(now))
            .filter_map(|(_, lease)| lease.group)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups.retain(|group| leases.groups().running(*group, now).all(is_own));
        // Stops at the first unsettled message of another attempt: later ones would be out of order.
        let start = self.queue.range().0;
        let lost_of = |group: &GroupHash| {
            let kept =
                leases.groups().offsets(*group).filter(move |offset| *offset >= start || is_own(*offset));
            kept.take_while(move |offset| is_own(*offset))
        };
        let mut lost: Vec<_> = groups.iter().flat_map(lost_of).collect();
        lost.sort_unstable();
        for offset in lost {
            if self.batch.is_enough(self.request) {
                break;
            }
            if !self.take_again(offset)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes messages of a message group without a running lease: those that were delivered before, or else those that
    /// were passed over. Returns false if a message is not in memory.
    fn take_group(&mut self, group: GroupHash) -> Result<bool, Malformed> {
        let leases = self.progress.leases();
        let mut offsets: Vec<_> = leases.groups().offsets(group).take(self.request.max).collect();
        let was_passed_over = |offset: &u64| leases.get(*offset).is_some_and(Lease::is_passed_over);
        let delivered = offsets.iter().take_while(|offset| !was_passed_over(offset)).count();
        if delivered > 0 {
            offsets.truncate(delivered);
        }
        for offset in offsets {
            if self.batch.is_enough(self.request) {
                return Ok(true);
            }
            if !self.take_again(offset)? {
                return Ok(false);
            }
        }
        let mut left = self.progress.leases().groups().offsets(group);
        let is_taken =
            |offset| self.progress.leases().get(offset).is_some_and(|lease| !lease.is_passed_over());
        if delivered == 0 && left.next_back().is_some_and(is_taken) {
            self.open.push(group);
        }
        Ok(true)
    }

    /// Takes a message that has a lease. Returns false if it is not in memory.
    fn take_again(&mut self, offset: u64) -> Result<bool, Malformed> {
        let Some(lease) = self.progress.leases().get(offset) else { return Ok(true) };
        let (start, end) = self.queue.range();
        if offset < start || offset >= end {
            // Retention has removed the message.
            self.progress.end_lease(offset);
            self.batch.scanned += 1;
            return Ok(true);
        }
        let Some(chunk) = self.find(offset) else {
            if self.queue.after_lost(offset).is_some() {
                self.progress.end_lease(offset);
                self.batch.scanned += 1;
                return Ok(true);
            }
            self.batch.missing = Some(QueuePosition { queue: self.queue.id(), offset });
            return Ok(false);
        };
        let message = chunk.message(offset)?;
        // If the lease has not expired, the response was lost and this repeats the same delivery.
        let is_same_attempt = !lease.has_expired(self.request.now) || lease.uncounted;
        let attempt = if is_same_attempt { lease.attempt } else { lease.attempt.saturating_add(1) };
        let known_group = lease.group;
        self.batch.scanned += self.request.filter.cost();
        if self.request.filter.passes(&message)? {
            let group = if known_group.is_some() { known_group } else { self.group_of(&message)? };
            let (queue, stored_at) = (self.queue.id(), chunk.stored_at());
            self.lease(TakenMessage { queue, offset, attempt, stored_at, message }, group);
        } else {
            self.progress.end_lease(offset);
        }
        Ok(true)
    }

    /// Takes messages that the group has not received yet. In a FIFO group, passes over messages of blocked message
    /// groups, and remembers their offsets so that they need not be searched again.
    fn take_new(&mut self) -> Result<(), Malformed> {
        let (start, end) = self.queue.range();
        if self.progress.cursor() < start {
            self.progress.advance(start);
        }
        let mut current: Option<Chunk> = None;
        while self.progress.cursor() < end
            && !self.progress.is_full(self.request.max_leases)
            && !self.batch.is_enough(self.request)
        {
            let offset = self.progress.cursor();
            let Some(chunk) = current.take().filter(|c| offset < c.end()).or_else(|| self.find(offset))
            else {
                if let Some(next) = self.queue.after_lost(offset) {
                    self.progress.advance(next);
                    continue;
                }
                self.batch.missing = Some(QueuePosition { queue: self.queue.id(), offset });
                break;
            };
            let message = chunk.message(offset)?;
            self.progress.advance(offset + 1);
            self.batch.scanned += self.request.filter.cost();
            if self.request.filter.passes(&message)? {
                self.take_or_pass_over(TakenMessage {
                    queue: self.queue.id(),
                    offset,
                    attempt: 1,
                    stored_at: chunk.stored_at(),
                    message,
                })?;
            }
            current = Some(chunk);
        }
        Ok(())
    }

    fn take_or_pass_over(&mut self, new: TakenMessage) -> Result<(), Malformed> {
        let group = self.group_of(&new.message)?;
        if let Some(group) = group
            && !self.open.contains(&group)
        {
            if self.progress.leases().groups().contains(group) {
                self.progress.lease(new.offset, Lease::passed_over(group, self.request.now));
                return Ok(());
            }
            self.open.push(group);
        }
        self.lease(new, group);
        Ok(())
    }

    /// Returns the message group if the group consumes in order. A lease without a message group blocks the whole queue.
    fn group_of(&self, message: &[u8]) -> Result<Option<GroupHash>, Malformed> {
        let group = || codec::message_group(message).map(GroupHash::of);
        (self.request.fifo && !self.request.whole_queues).then(group).transpose()
    }

    fn lease(&mut self, taken: TakenMessage, group: Option<GroupHash>) {
        let attempt_id = self.request.attempt_id.filter(|_| self.request.fifo);
        let lease = Lease {
            visible_at: self.request.visible_at,
            attempt: taken.attempt,
            token: self.request.token,
            uncounted: false,
            fifo: self.request.fifo,
            group: group.filter(|_| self.request.fifo),
            attempt_id: attempt_id.map(Into::into),
        };
        self.progress.lease(taken.offset, lease);
        self.batch.bytes += taken.message.len();
        self.batch.taken.push(taken);
    }

    fn find(&self, offset: u64) -> Option<Chunk> {
        self.queue
            .recent(offset)
            .or_else(|| self.request.read.and_then(|read| read.find(self.queue.id(), offset)))
            .or_else(|| self.request.cache.find(self.queue.topic(), self.queue.id(), offset))
    }
}

impl ReadChunks {
    fn find(&self, queue: u32, offset: u64) -> Option<Chunk> {
        let mut chunks = self.chunks.iter().filter(|_| self.queue == queue);
        chunks.find(|chunk| chunk.first() <= offset && offset < chunk.end()).cloned()
    }
}
