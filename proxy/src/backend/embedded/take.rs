//! Which messages a receive gets: the rules of leases and cursors, without waiting and without the disk.

use std::sync::Arc;

use bytes::Bytes;

use super::binary::Malformed;
use super::chunk::Chunk;
use super::filter::Matcher;
use super::lease::Lease;
use super::progress::{QueueProgress, State};
use super::queue::Queue;

/// What a receive asks for.
pub(super) struct Wanted<'a> {
    /// At most so many messages.
    pub(super) max: usize,
    /// Now, ms since 1970.
    pub(super) now: u64,
    /// When the leases run out.
    pub(super) visible_at: u64,
    /// The token of the new leases.
    pub(super) token: u64,
    /// Whether the group consumes in order.
    pub(super) fifo: bool,
    /// The name of the receive.
    pub(super) attempt_id: Option<&'a str>,
    /// Which messages pass.
    pub(super) filter: &'a Matcher,
    /// How many messages of a queue may be out.
    pub(super) most_leases: usize,
    /// Where it looks first.
    pub(super) order: Order,
}

/// In which order a receive looks at the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Each receive begins with another queue, so that none is left behind.
    InTurn,
    /// The highest first: queues of a PRIORITY topic are priorities.
    HighestFirst,
}

/// A message that was taken.
pub(super) struct Taken {
    pub(super) queue: u32,
    pub(super) offset: u64,
    pub(super) attempt: u32,
    pub(super) stored_at: u64,
    pub(super) message: Bytes,
}

/// What became of a try.
#[derive(Default)]
pub(super) struct Catch {
    /// What was taken, under new leases.
    pub(super) taken: Vec<Taken>,
    /// Leases to be ended without a delivery, as queue and offset: the message is gone, or did not pass.
    pub(super) settled: Vec<(u32, u64)>,
    /// Queues whose cursor moved, but not over a message that was taken: no lease tells of that.
    pub(super) passed: Vec<u32>,
    /// A message that is not in memory: read it and try again, if nothing was taken.
    pub(super) missing: Option<(u32, u64)>,
    /// There is more to look at: try again, if nothing was taken.
    pub(super) unfinished: bool,
    bytes: usize,
    looked_at: usize,
}

/// A receive stops taking after so many bytes, so that 32 messages of 4 MiB don't meet in memory.
const ENOUGH_BYTES: usize = 8 << 20;
/// A try stops looking after so many messages that do not pass (fewer if the filter is complex), so that others get
/// the lock.
const ENOUGH_LOOKS: usize = 4096;

impl Wanted<'_> {
    /// Takes what there is.
    pub(super) fn take(&self, state: &mut State, queues: &[Arc<Queue>]) -> Result<Catch, Malformed> {
        let mut catch = Catch::default();
        state.turn = state.turn.wrapping_add(1);
        for step in 0..queues.len() {
            if catch.is_enough(self) {
                break;
            }
            let queue = match self.order {
                Order::InTurn => queues[(state.turn.wrapping_add(step)) % queues.len()].as_ref(),
                Order::HighestFirst => queues[queues.len() - 1 - step].as_ref(),
            };
            let progress = state.queue(queue.id() as usize);
            let mut look = Look { wanted: self, queue, progress, catch: &mut catch };
            if self.fifo {
                look.take_in_order()?;
            } else {
                look.take_over()?;
                look.take_new()?;
            }
        }
        catch.unfinished = catch.looked_at >= ENOUGH_LOOKS;
        Ok(catch)
    }
}

impl Catch {
    fn is_enough(&self, wanted: &Wanted<'_>) -> bool {
        self.taken.len() >= wanted.max || self.bytes >= ENOUGH_BYTES || self.looked_at >= ENOUGH_LOOKS
    }
}

/// A look at one queue.
struct Look<'a> {
    wanted: &'a Wanted<'a>,
    queue: &'a Queue,
    progress: &'a mut QueueProgress,
    catch: &'a mut Catch,
}

impl Look<'_> {
    fn is_enough(&self) -> bool {
        self.catch.is_enough(self.wanted)
    }

    /// Messages whose leases have run out, longest over first.
    fn take_over(&mut self) -> Result<(), Malformed> {
        while let Some((visible_at, offset)) = self.progress.leases.next_over() {
            if visible_at > self.wanted.now || self.is_enough() || !self.take_again(offset)? {
                break;
            }
        }
        Ok(())
    }

    /// An ordered queue: its unsettled batch, if that may be delivered; the next messages, if there is none.
    fn take_in_order(&mut self) -> Result<(), Malformed> {
        let Some(last_over) = self.progress.leases.last_over() else { return self.take_new() };
        let all_over = last_over <= self.wanted.now;
        let asked = self.wanted.attempt_id;
        let same_attempt = |lease: &Lease| asked.is_some() && lease.attempt_id.as_deref() == asked;
        let leases = self.progress.leases.iter();
        let deliverable =
            leases.filter(|(_, lease)| all_over || same_attempt(lease)).map(|(offset, _)| offset);
        for offset in deliverable.collect::<Vec<_>>() {
            if self.is_enough() || !self.take_again(offset)? {
                break;
            }
        }
        // None of it may have passed the filter: then nothing blocks the queue any more.
        if self.progress.leases.is_empty() { self.take_new() } else { Ok(()) }
    }

    /// Delivers a leased message again. False if it is not in memory.
    fn take_again(&mut self, offset: u64) -> Result<bool, Malformed> {
        let Some(lease) = self.progress.leases.get(offset) else { return Ok(true) };
        let (start, end) = self.queue.range();
        if offset < start || offset >= end {
            self.settle(offset);
            return Ok(true);
        }
        let Some(chunk) = self.find(offset) else {
            self.catch.missing = Some((self.queue.id(), offset));
            return Ok(false);
        };
        let message = chunk.message(offset)?;
        // A lease that runs on is one whose answer was lost and asked for again: the same delivery.
        let same = !lease.is_over(self.wanted.now) || (lease.uncounted && !lease.fifo);
        let attempt = if same { lease.attempt } else { lease.attempt.saturating_add(1) };
        self.catch.looked_at += self.wanted.filter.cost();
        if self.wanted.filter.passes(&message)? {
            self.lease(Taken {
                queue: self.queue.id(),
                offset,
                attempt,
                stored_at: chunk.stored_at(),
                message,
            });
        } else {
            self.settle(offset);
        }
        Ok(true)
    }

    /// Messages that the group has not had.
    fn take_new(&mut self) -> Result<(), Malformed> {
        let (start, end) = self.queue.range();
        let before = self.progress.cursor;
        self.progress.cursor = before.max(start);
        let mut current: Option<Chunk> = None;
        while self.progress.cursor < end
            && self.progress.leases.len() < self.wanted.most_leases
            && !self.is_enough()
        {
            let offset = self.progress.cursor;
            let Some(chunk) = current.take().filter(|c| offset < c.end()).or_else(|| self.find(offset))
            else {
                self.catch.missing = Some((self.queue.id(), offset));
                break;
            };
            let message = chunk.message(offset)?;
            self.progress.cursor += 1;
            self.catch.looked_at += self.wanted.filter.cost();
            if self.wanted.filter.passes(&message)? {
                let (queue, stored_at) = (self.queue.id(), chunk.stored_at());
                self.lease(Taken { queue, offset, attempt: 1, stored_at, message });
            }
            current = Some(chunk);
        }
        let cursor = self.progress.cursor;
        self.progress.window.retain(|chunk| chunk.end() > cursor);
        let last_taken = self.catch.taken.last().map(|taken| (taken.queue, taken.offset + 1));
        if self.progress.cursor != before && last_taken != Some((self.queue.id(), self.progress.cursor)) {
            self.catch.passed.push(self.queue.id());
        }
        Ok(())
    }

    fn lease(&mut self, taken: Taken) {
        let attempt_id = self.wanted.attempt_id.filter(|_| self.wanted.fifo);
        let lease = Lease {
            visible_at: self.wanted.visible_at,
            attempt: taken.attempt,
            token: self.wanted.token,
            uncounted: false,
            fifo: self.wanted.fifo,
            attempt_id: attempt_id.map(Into::into),
        };
        self.progress.leases.set(taken.offset, lease);
        self.catch.bytes += taken.message.len();
        self.catch.taken.push(taken);
    }

    /// Ends a lease without a delivery. Removed at once, so that the next look does not find it again.
    fn settle(&mut self, offset: u64) {
        self.progress.leases.remove(offset);
        self.catch.settled.push((self.queue.id(), offset));
    }

    fn find(&self, offset: u64) -> Option<Chunk> {
        self.queue.recent(offset).or_else(|| self.progress.windowed(offset))
    }
}
