//! Chooses the queue of a message by its message group or priority.

/// The queue of a message group: Java's `String.hashCode` and Guava's `consistentHash`, so that our proxies and
/// Apache's choose the same queue.
pub(super) fn of_group(group: &str, queues: usize) -> usize {
    jump_hash(java_hash(group), queues)
}

/// The queue of a priority. Each priority has its own queue; priorities beyond the last queue share it.
pub(super) fn of_priority(priority: i32, queues: usize) -> usize {
    usize::try_from(priority).unwrap_or(0).min(queues.saturating_sub(1))
}

/// `String.hashCode`: over UTF-16 units, in 32-bit arithmetic.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// Jump consistent hash (Lamping and Veach 2014) with Guava's generator; the hash is sign-extended.
fn jump_hash(hash: i32, buckets: usize) -> usize {
    let mut state = i64::from(hash) as u64;
    let mut bucket = 0;
    loop {
        state = state.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let draw = ((state >> 33) as f64 + 1.0) / (1u64 << 31) as f64;
        let next = ((bucket as f64 + 1.0) / draw) as usize;
        if next >= buckets {
            return bucket;
        }
        bucket = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_in_the_queue_that_apaches_proxy_chooses() {
        let sixty_three = "x".repeat(63);
        let observed = [
            ("order-1", 3),
            ("zz", 3),
            ("c", 2),
            ("order-2", 2),
            ("0", 2),
            (sixty_three.as_str(), 2),
            ("a", 0),
            ("ü", 0),
            ("order-3", 7),
            ("b", 5),
            ("user:4711", 4),
            ("x y", 4),
        ];
        for (group, queue) in observed {
            assert_eq!(of_group(group, 8), queue, "{group}");
        }
    }

    #[test]
    fn every_group_has_a_queue() {
        for queues in 1..20 {
            assert!((0..500).all(|n| of_group(&format!("group {n}"), queues) < queues));
        }
    }

    #[test]
    fn higher_priorities_share_the_last_queue() {
        assert_eq!([0, 2, 7, 8, 99].map(|p| of_priority(p, 8)), [0, 2, 7, 7, 7]);
    }
}
