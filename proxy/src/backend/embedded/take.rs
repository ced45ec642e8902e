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
    /// Messages that are consumed without a delivery, as queue and offset: they are gone, or did not pass.
    pub(super) settled: Vec<(u32, u64)>,
    /// Queues whose cursor moved.
    pub(super) moved: Vec<u32>,
    /// A message that is not in memory: read it and try again, if nothing was taken.
    pub(super) missing: Option<(u32, u64)>,
    /// There is more to look at: try again, if nothing was taken.
    pub(super) unfinished: bool,
    bytes: usize,
    looked_at: usize,
}

/// A receive stops taking after so many bytes, so that 32 messages of 4 MiB don't meet in memory.
const ENOUGH_BYTES: usize = 8 << 20;
/// A try stops looking after so many messages that do not pass, so that others get the lock.
const ENOUGH_LOOKS: usize = 4096;

impl Wanted<'_> {
    /// Takes what there is, beginning with another queue each time.
    pub(super) fn take(&self, state: &mut State, queues: &[Arc<Queue>]) -> Result<Catch, Malformed> {
        let mut catch = Catch::default();
        state.turn = state.turn.wrapping_add(1);
        for step in 0..queues.len() {
            if self.is_enough(&catch) {
                break;
            }
            let queue = &queues[(state.turn + step) % queues.len()];
            let progress = state.queue(queue.id() as usize);
            if self.fifo {
                self.take_in_order(queue, progress, &mut catch)?;
            } else {
                self.take_over(queue, progress, &mut catch)?;
                self.take_new(queue, progress, &mut catch)?;
            }
        }
        Ok(catch)
    }

    fn is_enough(&self, catch: &Catch) -> bool {
        catch.taken.len() >= self.max || catch.bytes >= ENOUGH_BYTES || catch.looked_at >= ENOUGH_LOOKS
    }

    /// Messages whose leases have run out, longest over first.
    fn take_over(
        &self,
        queue: &Queue,
        progress: &mut QueueProgress,
        catch: &mut Catch,
    ) -> Result<(), Malformed> {
        while let Some((visible_at, offset)) = progress.leases.next_over() {
            if visible_at > self.now || self.is_enough(catch) {
                break;
            }
            if !self.take_again(queue, progress, offset, catch)? {
                break;
            }
        }
        Ok(())
    }

    /// An ordered queue: its unsettled batch, if that may be delivered; else the next messages, if there is none.
    fn take_in_order(
        &self,
        queue: &Queue,
        progress: &mut QueueProgress,
        catch: &mut Catch,
    ) -> Result<(), Malformed> {
        let Some(last_over) = progress.leases.last_over() else {
            return self.take_new(queue, progress, catch);
        };
        let all_over = last_over <= self.now;
        let same_attempt =
            |lease: &Lease| self.attempt_id.is_some() && lease.attempt_id.as_deref() == self.attempt_id;
        let offsets: Vec<u64> = progress
            .leases
            .iter()
            .filter(|(_, lease)| all_over || same_attempt(lease))
            .map(|(offset, _)| offset)
            .collect();
        for offset in offsets {
            if self.is_enough(catch) || !self.take_again(queue, progress, offset, catch)? {
                break;
            }
        }
        Ok(())
    }

    /// Delivers a leased message again. False if it is not in memory.
    fn take_again(
        &self,
        queue: &Queue,
        progress: &mut QueueProgress,
        offset: u64,
        catch: &mut Catch,
    ) -> Result<bool, Malformed> {
        let Some(lease) = progress.leases.get(offset) else { return Ok(true) };
        let (start, end) = queue.range();
        if offset < start || offset >= end {
            progress.leases.remove(offset);
            catch.settled.push((queue.id(), offset));
            return Ok(true);
        }
        let Some(chunk) = find(queue, progress, offset) else {
            catch.missing = Some((queue.id(), offset));
            return Ok(false);
        };
        let message = chunk.message(offset)?;
        catch.looked_at += 1;
        if !self.filter.passes(&message)? {
            progress.leases.remove(offset);
            catch.settled.push((queue.id(), offset));
            return Ok(true);
        }
        // A lease that runs on is one whose answer was lost and asked for again: the same delivery.
        let again = !lease.is_over(self.now) || (lease.uncounted && !lease.fifo);
        let attempt = if again { lease.attempt } else { lease.attempt.saturating_add(1) };
        self.lease(queue, progress, (offset, attempt), catch, (chunk.stored_at(), message));
        Ok(true)
    }

    /// Messages that the group has not had.
    fn take_new(
        &self,
        queue: &Queue,
        progress: &mut QueueProgress,
        catch: &mut Catch,
    ) -> Result<(), Malformed> {
        let (start, end) = queue.range();
        let before = progress.cursor;
        progress.cursor = before.max(start);
        let mut current: Option<Chunk> = None;
        while progress.cursor < end && !self.is_enough(catch) {
            let offset = progress.cursor;
            let chunk = match current.take().filter(|chunk| offset < chunk.end()) {
                Some(chunk) => chunk,
                None => match find(queue, progress, offset) {
                    Some(chunk) => chunk,
                    None => {
                        catch.missing = Some((queue.id(), offset));
                        break;
                    }
                },
            };
            let message = chunk.message(offset)?;
            progress.cursor += 1;
            catch.looked_at += 1;
            if self.filter.passes(&message)? {
                self.lease(queue, progress, (offset, 1), catch, (chunk.stored_at(), message));
            }
            current = Some(chunk);
        }
        catch.unfinished |= progress.cursor < end;
        if progress.cursor != before {
            catch.moved.push(queue.id());
        }
        Ok(())
    }

    fn lease(
        &self,
        queue: &Queue,
        progress: &mut QueueProgress,
        (offset, attempt): (u64, u32),
        catch: &mut Catch,
        (stored_at, message): (u64, Bytes),
    ) {
        let lease = Lease {
            visible_at: self.visible_at,
            attempt,
            token: self.token,
            uncounted: false,
            fifo: self.fifo,
            attempt_id: if self.fifo { self.attempt_id.map(Into::into) } else { None },
        };
        progress.leases.set(offset, lease);
        catch.bytes += message.len();
        catch.taken.push(Taken { queue: queue.id(), offset, attempt, stored_at, message });
    }
}

fn find(queue: &Queue, progress: &QueueProgress, offset: u64) -> Option<Chunk> {
    queue.recent(offset).or_else(|| progress.windowed(offset))
}
