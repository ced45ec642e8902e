//! Indexes the unsettled messages of a queue by message group, for groups that consume in order.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64;

/// Identifies a message group, also on the disk. Message groups with the same hash wait for each other, which does no
/// harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupHash(pub(super) u64);

impl GroupHash {
    /// Hashes a message group. The messages of a queue without a message group are treated as one group.
    pub(super) fn of(group: Option<&str>) -> Self {
        Self(group.map_or(0, |group| xxh3_64(group.as_bytes())))
    }
}

/// The unsettled messages of a queue, by message group.
#[derive(Debug, Default)]
pub(super) struct MessageGroups {
    by_offset: BTreeSet<(GroupHash, u64)>,
    // By message group, and then by expiry of the lease, in ms, and offset.
    by_end: BTreeSet<(GroupHash, u64, u64)>,
    // The message groups, by the latest expiry of their leases.
    by_last_end: BTreeSet<(u64, GroupHash)>,
}

impl MessageGroups {
    /// Adds a message whose lease expires at `end`.
    pub(super) fn insert(&mut self, group: GroupHash, offset: u64, end: u64) {
        let before = self.last_end(group);
        self.by_offset.insert((group, offset));
        self.by_end.insert((group, end, offset));
        self.move_group(group, before);
    }

    /// Removes a message that was added.
    pub(super) fn remove(&mut self, group: GroupHash, offset: u64, end: u64) {
        let before = self.last_end(group);
        self.by_offset.remove(&(group, offset));
        self.by_end.remove(&(group, end, offset));
        self.move_group(group, before);
    }

    fn move_group(&mut self, group: GroupHash, before: Option<u64>) {
        let after = self.last_end(group);
        if before == after {
            return;
        }
        if let Some(end) = before {
            self.by_last_end.remove(&(end, group));
        }
        if let Some(end) = after {
            self.by_last_end.insert((end, group));
        }
    }

    /// Whether a message group has unsettled messages.
    pub(super) fn contains(&self, group: GroupHash) -> bool {
        self.last_end(group).is_some()
    }

    /// Whether a message group has unsettled messages, none of them with a running lease, so that they may be delivered.
    pub(super) fn is_unblocked(&self, group: GroupHash, now: u64) -> bool {
        self.last_end(group).is_some_and(|end| end <= now)
    }

    /// The message group that has been unblocked for the longest time.
    pub(super) fn first_unblocked(&self, now: u64) -> Option<GroupHash> {
        self.by_last_end.first().filter(|(end, _)| *end <= now).map(|(_, group)| *group)
    }

    /// Counts unblocked message groups, up to `max`.
    pub(super) fn count_unblocked(&self, now: u64, max: usize) -> usize {
        self.by_last_end.iter().take(max).take_while(|(end, _)| *end <= now).count()
    }

    /// The message groups that were unblocked after `from` and not after `to` because their last lease expired, and when.
    pub(super) fn unblocked_within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, GroupHash)> {
        let later = self.by_last_end.range((from.saturating_add(1), GroupHash(0))..);
        later.take_while(move |(end, _)| *end <= to).copied()
    }

    /// The offsets of the unsettled messages of a message group, in order.
    pub(super) fn offsets(&self, group: GroupHash) -> impl DoubleEndedIterator<Item = u64> {
        self.by_offset.range((group, 0)..=(group, u64::MAX)).map(|(_, offset)| *offset)
    }

    /// The offsets of the messages of a message group with running leases.
    pub(super) fn running(&self, group: GroupHash, now: u64) -> impl Iterator<Item = u64> {
        let after = (group, now.saturating_add(1), 0);
        self.by_end.range(after..=(group, u64::MAX, u64::MAX)).map(|(_, _, offset)| *offset)
    }

    /// When the last lease of a message group expires. `None` without unsettled messages.
    pub(super) fn last_end(&self, group: GroupHash) -> Option<u64> {
        self.by_end.range((group, 0, 0)..=(group, u64::MAX, u64::MAX)).next_back().map(|(_, end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupHash = GroupHash(1);
    const B: GroupHash = GroupHash(u64::MAX);

    #[test]
    fn a_message_group_is_unblocked_when_its_last_lease_expires() {
        let mut groups = MessageGroups::default();
        groups.insert(A, 3, 20);
        groups.insert(A, 1, 10);
        groups.insert(B, 2, 5);
        assert_eq!(groups.offsets(A).collect::<Vec<_>>(), [1, 3]);
        assert!(groups.is_unblocked(B, 5) && !groups.is_unblocked(A, 19) && groups.is_unblocked(A, 20));
        assert_eq!((groups.first_unblocked(4), groups.first_unblocked(30)), (None, Some(B)));
        assert_eq!(groups.running(A, 10).collect::<Vec<_>>(), [3]);
        groups.remove(A, 3, 20);
        assert_eq!((groups.is_unblocked(A, 10), groups.count_unblocked(10, 9)), (true, 2));
        groups.remove(A, 1, 10);
        groups.remove(B, 2, 5);
        assert!(!groups.contains(A) && groups.by_last_end.is_empty());
    }

    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        assert_eq!(GroupHash::of(Some("order-1")), GroupHash(6_900_751_593_513_035_894));
        assert_eq!(GroupHash::of(None), GroupHash(0));
    }
}
