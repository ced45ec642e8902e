//! A group's progress in one queue: its cursor and its leases, with what a change has replaced.

use super::changes::Changes;
use super::lease::{Lease, Leases};
use super::message_groups::GroupHash;
use super::queue::Queue;
use super::store::Store;
use crate::service::{GroupStart, ServiceError, millis};

/// A group's progress in one queue. It is changed within a [`super::progress::Change`].
#[derive(Default)]
pub(super) struct QueueProgress {
    cursor: u64,
    leases: Leases,
    // The cursor on the disk, or about to be written. It may be lower than the cursor: leases above it tell the difference.
    recorded: Option<u64>,
    // What the change under way has replaced, in order.
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
    /// Adds a lease that is on the disk.
    pub(super) fn load_lease(&mut self, offset: u64, lease: Lease) {
        self.leases.replace(offset, Some(lease));
    }

    /// Sets the cursor that is on the disk.
    pub(super) fn load_cursor(&mut self, cursor: u64) {
        self.recorded = Some(cursor);
    }

    /// Ends the loading. A new group begins where its configuration says, which may read the disk.
    pub(super) fn begin(
        &mut self,
        queue: &Queue,
        start: GroupStart,
        store: &Store,
    ) -> Result<(), ServiceError> {
        let start = match self.is_recorded() {
            true => 0,
            false => start_of_new_group(queue, start, store)?,
        };
        self.go_on(start, queue.end());
        Ok(())
    }

    /// Ends the loading, in a queue with this end. A group that has not begun begins at `start`.
    pub(super) fn go_on(&mut self, start: u64, end: u64) {
        self.cursor = if self.is_recorded() { self.derived_cursor() } else { start };
        // A power failure may have lost messages that were not flushed, but not the progress in them.
        while let Some(offset) = self.leases.last_offset().filter(|offset| *offset >= end) {
            self.end_lease(offset);
        }
        self.advance(self.cursor.min(end));
    }

    /// Whether the disk holds the group's cursor.
    pub(super) fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// The next offset that the group has not got.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The first offset that is not settled: everything before it is consumed.
    pub(super) fn first_unsettled(&self) -> u64 {
        self.leases.iter().next().map_or(self.cursor, |(offset, _)| offset.min(self.cursor))
    }

    /// Goes on from this offset: what is before it is consumed, and what is not comes again.
    pub(super) fn go_to(&mut self, offset: u64) {
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

    /// Sets the lease on a message, in place of one that it had.
    pub(super) fn lease(&mut self, offset: u64, lease: Lease) {
        let old = self.leases.replace(offset, Some(lease));
        self.replaced.leases.push((offset, old));
    }

    /// Ends a lease for good: the message is consumed.
    pub(super) fn end_lease(&mut self, offset: u64) {
        let old = self.leases.replace(offset, None);
        self.replaced.leases.push((offset, old));
    }

    /// Whether a receive in order may find something once the lease on a message of this group has ended. Where a group
    /// is not known, each lease blocks the whole queue.
    pub(super) fn is_free(&self, group: Option<GroupHash>, now: u64) -> bool {
        if self.leases.has_unknown_group() {
            return self.leases.all_over(now);
        }
        group.is_none_or(|group| self.leases.groups().is_free(group, now))
    }

    /// How many receives in order find something because leases are over, up to `max`.
    pub(super) fn count_free(&self, now: u64, max: usize) -> usize {
        if self.leases.has_unknown_group() {
            return usize::from(self.leases.all_over(now));
        }
        self.leases.groups().count_free(now, max)
    }

    /// Whether the group gets nothing new before something is settled. Messages that wait behind others of their
    /// message group have a limit of their own, which is the same.
    pub(super) fn is_full(&self, max_leases: usize) -> bool {
        self.leases.delivered() >= max_leases || self.leases.passed_over() >= max_leases
    }

    /// Adds what has changed to a change of the disk.
    pub(super) fn write(&self, id: u32, changes: &mut Changes) {
        for (offset, _) in &self.replaced.leases {
            match self.leases.get(*offset) {
                Some(lease) => changes.lease(id, *offset, lease),
                None => changes.no_lease(id, *offset),
            }
        }
        if self.must_record_cursor() {
            changes.cursor(id, self.cursor);
        }
    }

    fn must_record_cursor(&self) -> bool {
        self.recorded.is_none() || self.derived_cursor() != self.cursor
    }

    /// The cursor that the next start finds on the disk: the recorded one, or the offset after the last lease.
    fn derived_cursor(&self) -> u64 {
        let after_leases = self.leases.last_offset().map_or(0, |last| last.saturating_add(1));
        self.recorded.unwrap_or(0).max(after_leases)
    }

    /// Keeps what was changed, which is about to be written.
    pub(super) fn keep(&mut self) {
        if self.must_record_cursor() {
            self.recorded = Some(self.cursor);
        }
        self.replaced.cursor = None;
        self.replaced.leases.clear();
    }

    /// Undoes what was changed.
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
    fn a_change_that_is_not_kept_is_undone() {
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
    fn the_cursor_is_recorded_only_when_no_lease_tells_it() {
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
