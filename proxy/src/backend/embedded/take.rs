//! Which messages a receive gets: the rules of leases and cursors, without waiting and without the disk.

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
use super::progress::State;
use super::queue::Queue;
use super::queue_progress::QueueProgress;
use super::read_cache::ReadCache;

/// What a receive asks for, and where it finds messages.
pub(super) struct Wanted<'a> {
    /// How many messages at most.
    pub(super) max: usize,
    /// The current time, in ms of [`super::clock::monotonic`].
    pub(super) now: u64,
    /// When the new leases end, by the same clock.
    pub(super) visible_at: u64,
    /// The token of the new leases.
    pub(super) token: u64,
    /// Whether the group consumes in order.
    pub(super) fifo: bool,
    /// Whether a queue is consumed as if all its messages were of one message group.
    pub(super) whole_queues: bool,
    /// The attempt id of the receive.
    pub(super) attempt_id: Option<&'a str>,
    /// Which messages are delivered.
    pub(super) filter: &'a Matcher,
    /// How many messages of a queue may be delivered and not settled.
    pub(super) max_leases: usize,
    /// The order of the queues.
    pub(super) order: Order,
    /// What other receives have read from the disk.
    pub(super) cache: &'a ReadCache,
    /// What this receive has read from the disk.
    pub(super) read: Option<&'a ReadChunks>,
}

/// In which order a receive looks at the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// From this one on, round the others: each receive begins with another queue.
    From(usize),
    /// The highest first: the queues of a PRIORITY topic are priorities.
    HighestFirst,
}

/// A message in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) queue: u32,
    pub(super) offset: u64,
}

/// Chunks of a queue that were read for one receive.
pub(super) struct ReadChunks {
    pub(super) queue: u32,
    pub(super) chunks: Vec<Chunk>,
}

/// A message that was taken.
pub(super) struct Taken {
    pub(super) queue: u32,
    pub(super) offset: u64,
    pub(super) attempt: u32,
    pub(super) stored_at: u64,
    pub(super) message: Bytes,
}

/// What a receive took.
#[derive(Default)]
pub(super) struct Batch {
    /// What was taken, under new leases.
    pub(super) taken: Vec<Taken>,
    /// A message that is not in memory. It comes before others: if nothing was taken, it must be read.
    pub(super) missing: Option<Position>,
    /// There may be more: it stopped because it had enough.
    pub(super) more: bool,
    bytes: usize,
    looked_at: usize,
}

/// A receive takes no more messages once it has this many bytes, as 32 messages may have 4 MiB each.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// The most messages that a receive looks at while it holds the group's lock. Fewer if the filter is complex.
pub(super) const MAX_LOOKED_AT: usize = 4096;

impl Wanted<'_> {
    /// Takes messages: first those whose leases are over, then new ones.
    pub(super) fn take(&self, state: &mut State, queues: &[Arc<Queue>]) -> Result<Batch, Malformed> {
        let mut batch = Batch::default();
        match self.order {
            Order::From(first) => {
                if !self.fifo {
                    self.take_expired(state, queues, &mut batch)?;
                }
                for step in 0..queues.len() {
                    if batch.must_stop(self) {
                        break;
                    }
                    let queue = &queues[first.wrapping_add(step) % queues.len()];
                    let mut look = self.look(state, queue, &mut batch);
                    if self.fifo { look.take_in_order()? } else { look.take_new()? }
                }
            }
            Order::HighestFirst => {
                for queue in queues.iter().rev() {
                    self.take_expired(state, std::slice::from_ref(queue), &mut batch)?;
                    if batch.must_stop(self) {
                        break;
                    }
                    self.look(state, queue, &mut batch).take_new()?;
                    if batch.must_stop(self) {
                        break;
                    }
                }
            }
        }
        batch.more = batch.is_enough(self) || batch.missing.is_some();
        Ok(batch)
    }

    /// Takes messages whose leases are over, in the order in which they ended. Stops at one that is not in memory.
    fn take_expired(
        &self,
        state: &mut State,
        queues: &[Arc<Queue>],
        batch: &mut Batch,
    ) -> Result<(), Malformed> {
        let mut ends = BinaryHeap::new();
        for (index, queue) in queues.iter().enumerate() {
            ends.extend(self.next_expired(state, queue).map(|end| Reverse((end, index))));
        }
        while let Some(Reverse((end, index))) = ends.pop() {
            let queue = &queues[index];
            if batch.is_enough(self) || !self.look(state, queue, batch).take_again(end.offset)? {
                break;
            }
            ends.extend(self.next_expired(state, queue).map(|end| Reverse((end, index))));
        }
        Ok(())
    }

    fn next_expired(&self, state: &mut State, queue: &Queue) -> Option<LeaseEnd> {
        let first = state.queue(queue.id() as usize).leases().first_to_end();
        first.filter(|end| end.at <= self.now)
    }

    fn look<'a>(&'a self, state: &'a mut State, queue: &'a Queue, batch: &'a mut Batch) -> Look<'a> {
        let progress = state.queue(queue.id() as usize);
        Look { wanted: self, queue, progress, batch, open: Vec::new() }
    }
}

impl Batch {
    fn is_enough(&self, wanted: &Wanted<'_>) -> bool {
        self.taken.len() >= wanted.max || self.bytes >= MAX_BYTES || self.looked_at >= MAX_LOOKED_AT
    }

    /// What is not in memory is read before later messages are taken: else other queues' messages would come first
    /// again and again.
    fn must_stop(&self, wanted: &Wanted<'_>) -> bool {
        self.is_enough(wanted) || (self.missing.is_some() && self.taken.is_empty())
    }
}

/// A look at one queue.
struct Look<'a> {
    wanted: &'a Wanted<'a>,
    queue: &'a Queue,
    progress: &'a mut QueueProgress,
    batch: &'a mut Batch,
    // The message groups of which the batch has the first unsettled messages, so that later ones may follow.
    open: Vec<GroupHash>,
}

impl Look<'_> {
    /// Takes from a queue that is consumed in order. A message group is blocked while one of its messages is under a lease,
    /// whoever has it. Once all of these leases are over or ended, what is not settled is delivered again, in order.
    fn take_in_order(&mut self) -> Result<(), Malformed> {
        if self.wanted.whole_queues || self.progress.leases().has_unknown_group() {
            return self.take_from_whole_queue();
        }
        if !self.take_same_attempt()? {
            return Ok(());
        }
        while !self.batch.is_enough(self.wanted)
            && let Some(group) = self.progress.leases().groups().first_free(self.wanted.now)
        {
            if !self.take_group(group)? {
                return Ok(());
            }
        }
        self.take_new()
    }

    /// Takes what is not settled if no lease is running, or new messages if everything is settled: in a lite topic, or where
    /// the message groups of leases are not known, the whole queue is one.
    fn take_from_whole_queue(&mut self) -> Result<(), Malformed> {
        let (now, asked, leases) = (self.wanted.now, self.wanted.attempt_id, self.progress.leases());
        let all_over = leases.all_over(now);
        let is_own = |lease: &Lease| asked.is_some() && lease.attempt_id.as_deref() == asked;
        // Somebody else may have got messages since, which come before.
        let is_lost = asked.is_some() && leases.iter().all(|(_, lease)| lease.is_over(now) || is_own(lease));
        let start = self.queue.range().0;
        let kept = leases.iter().filter(|(offset, lease)| *offset >= start || all_over || is_own(lease));
        // As where message groups are known: what another attempt had got may come before.
        let deliverable = kept.take_while(|(_, lease)| all_over || (is_lost && is_own(lease)));
        let deliverable = deliverable.map(|(offset, _)| offset);
        for offset in deliverable.take(MAX_LOOKED_AT).collect::<Vec<_>>() {
            if self.batch.is_enough(self.wanted) || !self.take_again(offset)? {
                break;
            }
        }
        // The filter may have passed over all of it.
        if self.progress.leases().is_empty() { self.take_new() } else { Ok(()) }
    }

    /// Takes again what a receive with the same attempt id has got: its answer was lost. Groups of which somebody else has
    /// got messages since are left out. Returns false if a message is not in memory.
    fn take_same_attempt(&mut self) -> Result<bool, Malformed> {
        let Some(asked) = self.wanted.attempt_id else { return Ok(true) };
        let (now, leases) = (self.wanted.now, self.progress.leases());
        let is_own =
            |offset| leases.get(offset).is_some_and(|lease| lease.attempt_id.as_deref() == Some(asked));
        let mut groups: Vec<_> = leases
            .of_attempt(asked)
            .filter(|(_, lease)| !lease.is_over(now))
            .filter_map(|(_, lease)| lease.group)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups.retain(|group| leases.groups().running(*group, now).all(is_own));
        // Where something comes before that another attempt had got, the order would be broken.
        let start = self.queue.range().0;
        let lost_of = |group: &GroupHash| {
            let kept =
                leases.groups().offsets(*group).filter(move |offset| *offset >= start || is_own(*offset));
            kept.take_while(move |offset| is_own(*offset))
        };
        let mut lost: Vec<_> = groups.iter().flat_map(lost_of).collect();
        lost.sort_unstable();
        for offset in lost {
            if self.batch.is_enough(self.wanted) {
                break;
            }
            if !self.take_again(offset)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes from a message group without a running lease: what was delivered before, or else what was passed over.
    /// Returns false if a message is not in memory.
    fn take_group(&mut self, group: GroupHash) -> Result<bool, Malformed> {
        let leases = self.progress.leases();
        let mut offsets: Vec<_> = leases.groups().offsets(group).take(self.wanted.max).collect();
        let was_passed_over = |offset: &u64| leases.get(*offset).is_some_and(Lease::is_passed_over);
        let delivered = offsets.iter().take_while(|offset| !was_passed_over(offset)).count();
        if delivered > 0 {
            offsets.truncate(delivered);
        }
        for offset in offsets {
            if self.batch.is_enough(self.wanted) {
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

    /// Takes a message that was delivered before. Returns false if it is not in memory.
    fn take_again(&mut self, offset: u64) -> Result<bool, Malformed> {
        let Some(lease) = self.progress.leases().get(offset) else { return Ok(true) };
        let (start, end) = self.queue.range();
        if offset < start || offset >= end {
            // Retention has removed it.
            self.progress.end_lease(offset);
            self.batch.looked_at += 1;
            return Ok(true);
        }
        let Some(chunk) = self.find(offset) else {
            if self.queue.after_lost(offset).is_some() {
                self.progress.end_lease(offset);
                self.batch.looked_at += 1;
                return Ok(true);
            }
            self.batch.missing = Some(Position { queue: self.queue.id(), offset });
            return Ok(false);
        };
        let message = chunk.message(offset)?;
        // If the lease is not over, the answer was lost and this is the same delivery again.
        let same = !lease.is_over(self.wanted.now) || lease.uncounted;
        let attempt = if same { lease.attempt } else { lease.attempt.saturating_add(1) };
        let known_group = lease.group;
        self.batch.looked_at += self.wanted.filter.cost();
        if self.wanted.filter.passes(&message)? {
            let group = if known_group.is_some() { known_group } else { self.group_of(&message)? };
            let (queue, stored_at) = (self.queue.id(), chunk.stored_at());
            self.lease(Taken { queue, offset, attempt, stored_at, message }, group);
        } else {
            self.progress.end_lease(offset);
        }
        Ok(true)
    }

    /// Takes messages that the group has not got yet. In order, those of blocked message groups are passed over: what is
    /// kept of them is their offsets, so that nothing is read twice to find them.
    fn take_new(&mut self) -> Result<(), Malformed> {
        let (start, end) = self.queue.range();
        if self.progress.cursor() < start {
            self.progress.advance(start);
        }
        let mut current: Option<Chunk> = None;
        while self.progress.cursor() < end
            && !self.progress.is_full(self.wanted.max_leases)
            && !self.batch.is_enough(self.wanted)
        {
            let offset = self.progress.cursor();
            let Some(chunk) = current.take().filter(|c| offset < c.end()).or_else(|| self.find(offset))
            else {
                if let Some(next) = self.queue.after_lost(offset) {
                    self.progress.advance(next);
                    continue;
                }
                self.batch.missing = Some(Position { queue: self.queue.id(), offset });
                break;
            };
            let message = chunk.message(offset)?;
            self.progress.advance(offset + 1);
            self.batch.looked_at += self.wanted.filter.cost();
            if self.wanted.filter.passes(&message)? {
                self.take_or_pass_over(Taken {
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

    fn take_or_pass_over(&mut self, new: Taken) -> Result<(), Malformed> {
        let group = self.group_of(&new.message)?;
        if let Some(group) = group
            && !self.open.contains(&group)
        {
            if self.progress.leases().groups().contains(group) {
                self.progress.lease(new.offset, Lease::passed_over(group, self.wanted.now));
                return Ok(());
            }
            self.open.push(group);
        }
        self.lease(new, group);
        Ok(())
    }

    /// The message group, which matters in order only. Leases without one block the whole queue.
    fn group_of(&self, message: &[u8]) -> Result<Option<GroupHash>, Malformed> {
        let group = || codec::message_group(message).map(GroupHash::of);
        (self.wanted.fifo && !self.wanted.whole_queues).then(group).transpose()
    }

    fn lease(&mut self, taken: Taken, group: Option<GroupHash>) {
        let attempt_id = self.wanted.attempt_id.filter(|_| self.wanted.fifo);
        let lease = Lease {
            visible_at: self.wanted.visible_at,
            attempt: taken.attempt,
            token: self.wanted.token,
            uncounted: false,
            fifo: self.wanted.fifo,
            group: group.filter(|_| self.wanted.fifo),
            attempt_id: attempt_id.map(Into::into),
        };
        self.progress.lease(taken.offset, lease);
        self.batch.bytes += taken.message.len();
        self.batch.taken.push(taken);
    }

    fn find(&self, offset: u64) -> Option<Chunk> {
        self.queue
            .recent(offset)
            .or_else(|| self.wanted.read.and_then(|read| read.find(self.queue.id(), offset)))
            .or_else(|| self.wanted.cache.find(self.queue.topic(), self.queue.id(), offset))
    }
}

impl ReadChunks {
    fn find(&self, queue: u32, offset: u64) -> Option<Chunk> {
        let mut chunks = self.chunks.iter().filter(|_| self.queue == queue);
        chunks.find(|chunk| chunk.first() <= offset && offset < chunk.end()).cloned()
    }
}
