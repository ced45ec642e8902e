//! The statistics of a queue: a group's progress in it, and when its messages were stored.

use std::time::SystemTime;

use super::chunk::Chunk;
use super::queue::Queue;
use super::queue_progress::QueueProgress;
use super::store::Store;
use crate::service::{GroupQueueStats, ServiceError, time};

/// The statistics of a group's progress in a queue with this range.
pub(super) fn stats_of_queue(
    progress: &QueueProgress,
    (start, end): (u64, u64),
    now: u64,
) -> GroupQueueStats {
    // Messages that retention has removed are not delivered any more.
    let next = progress.cursor().clamp(start, end);
    let (mut in_flight, mut retry, mut blocked) = (0, 0, 0);
    for (_, lease) in progress.leases().iter().filter(|(offset, _)| *offset >= start) {
        if lease.is_passed_over() {
            blocked += 1;
        } else if lease.has_expired(now) {
            retry += 1;
        } else {
            in_flight += 1;
        }
    }
    GroupQueueStats {
        settled: progress.first_unsettled().clamp(start, end) as i64,
        next: next as i64,
        end: end as i64,
        lag: (end - next) as i64 + in_flight + retry + blocked,
        in_flight: Some(in_flight),
        retry: Some(retry),
        blocked: Some(blocked),
        ..GroupQueueStats::default()
    }
}

/// Returns when the first and the last message of a queue were stored. Reads the disk.
pub(super) fn ends(
    queue: &Queue,
    store: &Store,
) -> Result<(Option<SystemTime>, Option<SystemTime>), ServiceError> {
    let (first, next) = queue.range();
    let at = |offset| -> Result<Option<SystemTime>, ServiceError> {
        Ok(stored_at(queue, store, offset)?.map(|at| time(at as i64)))
    };
    Ok((at(first)?, next.checked_sub(1).map_or(Ok(None), at)?))
}

/// Returns when the message at this offset, or else the next stored message, was stored, in ms. `None` if there is
/// none. Reads the disk.
pub(super) fn stored_at(queue: &Queue, store: &Store, offset: u64) -> Result<Option<u64>, ServiceError> {
    if offset >= queue.end() {
        return Ok(None);
    }
    if let Some(chunk) = queue.recent(offset) {
        return Ok(Some(chunk.stored_at()));
    }
    Ok(queue.read(store, offset, 1)?.first().map(Chunk::stored_at))
}
