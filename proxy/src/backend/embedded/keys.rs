//! The keys of the storage layout. Numbers have a fixed width and are big-endian.

/// Length of a key that ends in an offset.
const WITH_OFFSET: usize = 20;

/// The prefix of the chunks of a queue.
pub(super) fn queue(topic: u32, queue: u32) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..].copy_from_slice(&queue.to_be_bytes());
    key
}

/// The chunk that begins with this offset.
pub(super) fn chunk(topic: u32, queue: u32, first: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&self::queue(topic, queue));
    key[8..].copy_from_slice(&first.to_be_bytes());
    key
}

/// Returns the first offset from the key of a chunk. `None` if it is not such a key.
pub(super) fn chunk_first(key: &[u8]) -> Option<u64> {
    (key.len() == 16).then(|| key[8..].try_into().ok().map(u64::from_be_bytes)).flatten()
}

/// An id that no topic and no group has. It is the prefix of timers in one database, and of the catalog in the other.
pub(super) const RESERVED_ID: [u8; 4] = [0; 4];

/// The retention clock, stored beside the catalog.
pub(super) const RETENTION_CLOCK: [u8; 5] = [0, 0, 0, 0, b'r'];

/// Take the place of the queue in the keys of half messages and of their checks. No queue has these numbers.
const HALF_MESSAGES: u32 = u32::MAX;
const CHECKS: u32 = u32::MAX - 1;

/// Takes the place of the topic id in the keys of decisions. No topic has this id.
pub(super) const DECISIONS: [u8; 4] = [u8::MAX; 4];

/// A half message of a topic.
pub(super) fn half_message(topic: u32, sequence: u64) -> [u8; 16] {
    chunk(topic, HALF_MESSAGES, sequence)
}

/// The prefix of a topic's half messages.
pub(super) fn half_messages(topic: u32) -> [u8; 8] {
    queue(topic, HALF_MESSAGES)
}

/// A check of a half message at this time.
pub(super) fn check(topic: u32, at: u64, sequence: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&chunk(topic, CHECKS, at));
    key[16..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// The time and the sequence in the key of a check.
pub(super) fn check_parts(key: &[u8]) -> Option<(u64, u64)> {
    pair(key.get(8..)?)
}

/// A decision that was taken at this time about the half message with this sequence.
pub(super) fn decision(at: u64, sequence: u64) -> [u8; 20] {
    let mut key = timer(at, sequence);
    key[..4].copy_from_slice(&DECISIONS);
    key
}

/// The time and the sequence in the key of a decision.
pub(super) fn decision_parts(key: &[u8]) -> Option<(u64, u64)> {
    pair(key.strip_prefix(&DECISIONS)?)
}

fn pair(bytes: &[u8]) -> Option<(u64, u64)> {
    let (first, second) = bytes.split_at_checked(8)?;
    Some((u64::from_be_bytes(first.try_into().ok()?), u64::from_be_bytes(second.try_into().ok()?)))
}

/// A timer that is due at this time. `sequence` distinguishes timers of the same millisecond.
pub(super) fn timer(due: u64, sequence: u64) -> [u8; 20] {
    let mut key = [0; 20];
    key[4..12].copy_from_slice(&due.to_be_bytes());
    key[12..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// The due time and the sequence of a timer's key.
pub(super) fn timer_parts(key: &[u8]) -> Option<(u64, u64)> {
    pair(key.strip_prefix(&RESERVED_ID)?)
}

/// The prefix of a group's cursors and leases in a topic.
pub(super) fn group_topic(group: u32, topic: u32) -> [u8; 8] {
    queue(group, topic)
}

/// A group's cursor in a queue.
pub(super) fn cursor(group: u32, topic: u32, queue: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&group_topic(group, topic));
    key[8..].copy_from_slice(&queue.to_be_bytes());
    key
}

/// A group's lease on a message.
pub(super) fn lease(group: u32, topic: u32, queue: u32, offset: u64) -> [u8; WITH_OFFSET] {
    let mut key = [0; WITH_OFFSET];
    key[..12].copy_from_slice(&cursor(group, topic, queue));
    key[12..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// Returns the queue from the key of a cursor or a lease, and the offset if it is a lease.
pub(super) fn progress_parts(key: &[u8]) -> Option<(u32, Option<u64>)> {
    let queue = u32::from_be_bytes(key.get(8..12)?.try_into().ok()?);
    match key.len() {
        12 => Some((queue, None)),
        WITH_OFFSET => Some((queue, Some(u64::from_be_bytes(key[12..].try_into().ok()?)))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_of_a_queue_are_ordered_by_offset(t in 0u32.., q in 0u32.., a in 0u64.., b in 0u64..) {
            prop_assert_eq!(chunk(t, q, a).cmp(&chunk(t, q, b)), a.cmp(&b));
            prop_assert_eq!(chunk_first(&chunk(t, q, a)), Some(a));
            prop_assert!(chunk(t, q, a).starts_with(&queue(t, q)));
        }

        #[test]
        fn timers_are_ordered_by_time(due in any::<(u64, u64)>(), sequence in any::<(u64, u64)>()) {
            let (a, b) = ((due.0, sequence.0), (due.1, sequence.1));
            prop_assert_eq!(timer(a.0, a.1).cmp(&timer(b.0, b.1)), a.cmp(&b));
            prop_assert_eq!(timer_parts(&timer(a.0, a.1)), Some(a));
        }

        #[test]
        fn checks_of_a_topic_are_ordered_by_time(t in 0u32.., a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
            let (first, second) = (check(t, a.0, a.1), check(t, b.0, b.1));
            prop_assert_eq!(first.cmp(&second), a.cmp(&b));
            prop_assert_eq!(check_parts(&first), Some(a));
            prop_assert_eq!(decision_parts(&decision(a.0, a.1)), Some(a));
            let half = half_message(t, a.0);
            prop_assert!(half.starts_with(&half_messages(t)) && !first.starts_with(&half_messages(t)));
        }

        #[test]
        fn cursors_and_leases_are_distinguished(g in 0u32.., t in 0u32.., q in 0u32.., o in 0u64..) {
            prop_assert_eq!(progress_parts(&cursor(g, t, q)), Some((q, None)));
            prop_assert_eq!(progress_parts(&lease(g, t, q, o)), Some((q, Some(o))));
            prop_assert!(lease(g, t, q, o).starts_with(&group_topic(g, t)));
        }
    }
}
