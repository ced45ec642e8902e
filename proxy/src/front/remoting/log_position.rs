//! Encodes the position of a message as one number, which takes the place of the commit log offset of Apache's brokers.
//! The number contains the queue, the offset in the queue, and whether the queue belongs to a retry topic: clients that
//! send back a message from a retry topic name its original topic instead.

use crate::processor::SendReceipt;
use crate::service::Delivery;
use crate::service::names::RETRY_PREFIX;

const OFFSET_BITS: u32 = 43;
const QUEUE_BITS: u32 = 19;

/// A decoded position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub(super) in_retry_topic: bool,
    /// -1 if the number is not a position.
    pub(super) queue_id: i32,
    pub(super) offset: i64,
}

/// The position of a delivery's message.
pub(super) fn of(delivery: &Delivery) -> i64 {
    encode(&delivery.topic, delivery.queue_id, delivery.queue_offset)
}

/// The position of a message that was stored in this topic.
pub(super) fn of_stored(topic: &str, stored: &SendReceipt) -> i64 {
    encode(topic, stored.queue_id, stored.queue_offset)
}

/// Encodes a position. The number is never negative.
fn encode(topic: &str, queue_id: i32, offset: i64) -> i64 {
    let retry = i64::from(topic.starts_with(RETRY_PREFIX));
    let queue = i64::from(queue_id.clamp(0, (1 << QUEUE_BITS) - 1));
    (retry << QUEUE_BITS | queue) << OFFSET_BITS | offset.clamp(0, (1 << OFFSET_BITS) - 1)
}

/// Decodes a position.
pub(super) fn decode(position: i64) -> LogPosition {
    let queue = u64::try_from(position).map_or(u64::MAX, |position| position >> OFFSET_BITS);
    LogPosition {
        in_retry_topic: queue >> QUEUE_BITS == 1,
        queue_id: if queue == u64::MAX { -1 } else { (queue & ((1 << QUEUE_BITS) - 1)) as i32 },
        offset: position & ((1 << OFFSET_BITS) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_contains_the_queue_and_the_offset() {
        let last = ((1 << QUEUE_BITS) - 1, (1 << OFFSET_BITS) - 1);
        for (queue_id, offset) in [(0, 0), (7, 1_000_000_000_000), last] {
            for (topic, in_retry_topic) in [("t", false), ("%RETRY%g", true)] {
                let position = encode(topic, queue_id, offset);
                assert!(position >= 0);
                assert_eq!(decode(position), LogPosition { in_retry_topic, queue_id, offset });
            }
        }
        assert_eq!(decode(-1).queue_id, -1);
    }
}
