//! The position of a message as one number, in place of the offset in a commit log that Apache's brokers have. It contains
//! the queue and the offset there.

const OFFSET_BITS: u32 = 43;

/// The position of a message in a topic. It is never negative.
pub(super) fn of(queue_id: i32, queue_offset: i64) -> i64 {
    let queue = i64::from(queue_id.clamp(0, (1 << 20) - 1));
    queue << OFFSET_BITS | queue_offset.clamp(0, (1 << OFFSET_BITS) - 1)
}

/// The queue and the offset there.
pub(super) fn parts(position: i64) -> (i32, i64) {
    let queue = i32::try_from(position >> OFFSET_BITS).unwrap_or(-1);
    (queue, position & ((1 << OFFSET_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_tells_the_queue_and_the_offset() {
        for (queue, offset) in [(0, 0), (7, 1_000_000_000_000), ((1 << 20) - 1, (1 << OFFSET_BITS) - 1)] {
            assert!(of(queue, offset) >= 0);
            assert_eq!(parts(of(queue, offset)), (queue, offset));
        }
        assert_eq!(parts(-1).0, -1);
    }
}
