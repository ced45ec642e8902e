//! A group's progress in one queue: its cursor and its leases. A change can be undone until it is committed.

use super::lease::{Lease, Leases};
use super::message_groups::GroupHash;
use super::progress_write_batch::ProgressWriteBatch;
use super::queue::Queue;
use super::store::Store;
use crate::service::{GroupStart, ServiceError, millis};

/// A group's progress in one queue. Modified within a [`super::progress_transaction::ProgressTransaction`].
#[derive(Default)]
pub(super) struct QueueProgress {
    cursor: u64,
    leases: Leases,
    // The cursor on the disk, or about to be written. It may be lower than `cursor` if there are leases above it.
    // `None` if the group has not begun.
    recorded: Option<u64>,
    // The values that the current change has replaced, in order.
    replaced: Replaced,
    /// Whether it may have changed since the last commit.
    pub(super) is_touched: bool,
}

#[derive(Default)]
struct Replaced {
    cursor: Option<u64>,
    leases: Vec<(u64, Option<Lease>)>,
}

impl QueueProgress {
    /// Adds a lease that was read from the disk.
    pub(super) fn load_lease(&mut self, offset: u64, lease: Lease) {
        self.leases.replace(offset, Some(lease));
    }

    /// Sets the cursor that was read from the disk.
    pub(super) fn load_cursor(&mut self, cursor: u64) {
        self.recorded = Some(cursor);
    }

    /// Completes the loading. A new group begins at `start`, which may read the disk.
    pub(super) fn finish_loading_in(
        &mut self,
        queue: &Queue,
        start: GroupStart,
        store: &Store,
    ) -> Result<(), ServiceError> {
        let start = match self.is_recorded() {
            true => 0,
            false => start_of_new_group(queue, start, store)?,
        };
        self.finish_loading(start, queue.end());
        Ok(())
    }

    /// Completes the loading for a queue that ends at `end`. A new group begins at the offset `start`.
    pub(super) fn finish_loading(&mut self, start: u64, end: u64) {
        self.cursor = if self.is_recorded() { self.derived_cursor() } else { start };
        // A power failure may have lost unsynced messages, but not the progress beyond them.
        while let Some(offset) = self.leases.last_offset().filter(|offset| *offset >= end) {
            self.end_lease(offset);
        }
        self.advance(self.cursor.min(end));
    }

    /// Whether the group's cursor is on the disk.
    pub(super) fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// The first offset that was not delivered to the group.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The first unsettled offset. Everything before it is consumed.
    pub(super) fn first_unsettled(&self) -> u64 {
        self.leases.iter().next().map_or(self.cursor, |(offset, _)| offset.min(self.cursor))
    }

    /// Sets the position to this offset. Messages before it count as consumed, later ones are delivered, even if they
    /// were delivered before.
    pub(super) fn reset_to(&mut self, offset: u64) {
        while let Some(last) = self.leases.last_offset() {
            self.end_lease(last);
        }
        self.advance(offset);
    }

    /// The leases on delivered messages.
    pub(super) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Moves the cursor.
    pub(super) fn advance(&mut self, cursor: u64) {
        self.replaced.cursor.get_or_insert(self.cursor);
        self.cursor = cursor;
    }

    /// Sets the lease on a message. Replaces its previous lease.
    pub(super) fn lease(&mut self, offset: u64, lease: Lease) {
        let old = self.leases.replace(offset, Some(lease));
        self.replaced.leases.push((offset, old));
    }

    /// Removes a lease because the message is consumed.
    pub(super) fn end_lease(&mut self, offset: u64) {
        let old = self.leases.replace(offset, None);
        self.replaced.leases.push((offset, old));
    }

    /// Whether a receive in order may get messages of this message group. Any lease without a known message group
    /// blocks the whole queue.
    pub(super) fn is_unblocked(&self, group: Option<GroupHash>, now: u64) -> bool {
        if self.leases.has_unknown_group() {
            return self.leases.all_expired(now);
        }
        group.is_none_or(|group| self.leases.groups().is_unblocked(group, now))
    }

    /// If any lease of a message group, or of a queue that is treated as one message group, is of a last attempt: when the
    /// last lease expires, in ms of [`super::clock::monotonic`].
    pub(super) fn end_with_last_attempt(&self, group: Option<GroupHash>, max_attempts: u32) -> Option<u64> {
        let leases = &self.leases;
        let Some(group) = group.filter(|_| !leases.has_unknown_group()) else {
            let is_last_attempt = leases.iter().any(|(_, lease)| lease.is_last_attempt(max_attempts));
            return leases.last_end().filter(|_| is_last_attempt);
        };
        // Those that were passed over come last.
        let of_group = leases.groups().offsets(group).filter_map(|offset| leases.get(offset));
        let mut delivered = of_group.take_while(|lease| !lease.is_passed_over());
        let is_last_attempt = delivered.any(|lease| lease.is_last_attempt(max_attempts));
        leases.groups().last_end(group).filter(|_| is_last_attempt)
    }

    /// How many receives in order may get messages because leases have expired, up to `max`.
    pub(super) fn count_unblocked(&self, now: u64, max: usize) -> usize {
        if self.leases.has_unknown_group() {
            return usize::from(self.leases.all_expired(now));
        }
        self.leases.groups().count_unblocked(now, max)
    }

    /// Whether the group gets no new messages before it settles some. The same limit applies separately to delivered
    /// messages and to those that wait behind others of their message group.
    pub(super) fn is_full(&self, max_leases: usize) -> bool {
        self.leases.delivered() >= max_leases || self.leases.passed_over() >= max_leases
    }

    /// Adds the changed records to `batch`.
    pub(super) fn write(&self, id: u32, batch: &mut ProgressWriteBatch) {
        for (offset, _) in &self.replaced.leases {
            match self.leases.get(*offset) {
                Some(lease) => batch.set_lease(id, *offset, lease),
                None => batch.remove_lease(id, *offset),
            }
        }
        if self.must_record_cursor() {
            batch.set_cursor(id, self.cursor);
        }
    }

    fn must_record_cursor(&self) -> bool {
        self.recorded.is_none() || self.derived_cursor() != self.cursor
    }

    /// The cursor as derived from the disk: the higher of the recorded cursor and the offset after the last lease.
    fn derived_cursor(&self) -> u64 {
        let after_leases = self.leases.last_offset().map_or(0, |last| last.saturating_add(1));
        self.recorded.unwrap_or(0).max(after_leases)
    }

    /// Commits the change, whose records are about to be written.
    pub(super) fn keep(&mut self) {
        if self.must_record_cursor() {
            self.recorded = Some(self.cursor);
        }
        self.replaced.cursor = None;
        self.replaced.leases.clear();
    }

    /// Undoes the change.
    pub(super) fn undo(&mut self) {
        let replaced = std::mem::take(&mut self.replaced);
        for (offset, lease) in replaced.leases.into_iter().rev() {
            self.leases.replace(offset, lease);
        }
        self.cursor = replaced.cursor.unwrap_or(self.cursor);
    }
}

fn start_of_new_group(queue: &Queue, start: GroupStart, store: &Store) -> Result<u64, ServiceError> {
    Ok(match (start, queue.range()) {
        (GroupStart::Default, (0, _)) => 0,
        (GroupStart::Default, (first, end)) => first.max(end.saturating_sub(1)),
        (GroupStart::Earliest, (first, _)) => first,
        (GroupStart::Latest, (_, end)) => end,
        (GroupStart::Time(at), _) => {
            queue.first_stored_at(store, u64::try_from(millis(at)).unwrap_or_default())?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_is_not_committed_is_undone() {
        let mut queue = QueueProgress::default();
        queue.advance(5);
        queue.lease(3, Lease::until(10));
        queue.lease(4, Lease::until(20));
        queue.keep();
        queue.end_lease(3);
        queue.lease(4, Lease::until(30));
        queue.lease(4, Lease::until(40));
        queue.lease(5, Lease::until(50));
        queue.advance(6);
        queue.advance(7);
        queue.undo();
        let leases: Vec<_> = queue.leases.iter().map(|(offset, lease)| (offset, lease.visible_at)).collect();
        assert_eq!((queue.cursor, leases), (5, vec![(3, 10), (4, 20)]));
    }

    #[test]
    fn the_cursor_is_recorded_only_if_it_can_not_be_derived_from_leases() {
        let mut queue = QueueProgress::default();
        assert!(queue.must_record_cursor(), "a new queue");
        queue.keep();
        queue.advance(2);
        queue.lease(0, Lease::until(10));
        queue.lease(1, Lease::until(10));
        assert!(!queue.must_record_cursor());
        queue.keep();
        queue.end_lease(0);
        assert!(!queue.must_record_cursor());
        queue.end_lease(1);
        assert!(queue.must_record_cursor());
        queue.keep();
        assert_eq!(queue.recorded, Some(2));
        queue.advance(4);
        assert!(queue.must_record_cursor(), "messages that did not pass the filter");
    }
}
