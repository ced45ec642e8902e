//! Generates message ids.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const LENGTH: usize = 34;
const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// 2021-01-01T00:00:00Z, from which ids count seconds, as the duration since 1970.
const EPOCH: Duration = Duration::from_secs(1_609_459_200);

/// Generates ids of version 1: 34 upper-case hex digits that encode the byte 1, six bytes for the sender, two for the
/// process id, four for the seconds since 2021, and four for a counter.
///
/// In other clients the six bytes are a MAC address. Here they are random, because containers share addresses and
/// an id only has to be unique.
#[derive(Debug)]
pub(crate) struct MessageIds {
    prefix: String,
    next: AtomicU32,
}

impl MessageIds {
    pub(crate) fn new() -> Self {
        let sender: [u8; 6] = rand::random();
        let process = (process::id() & 0xffff) as u16;
        Self { prefix: format!("01{}{process:04X}", hex::encode_upper(sender)), next: AtomicU32::new(0) }
    }

    pub(crate) fn next(&self, now: SystemTime) -> String {
        let seconds = now.duration_since(UNIX_EPOCH + EPOCH).map_or(0, |since| since.as_secs());
        // The format has four bytes for the seconds, which wrap around in 2157.
        let number = seconds << 32 | u64::from(self.next.fetch_add(1, Ordering::Relaxed));
        let mut id = String::with_capacity(LENGTH);
        id.push_str(&self.prefix);
        // Not with `format!`, which takes several times as long, because every message needs an id.
        id.extend((0..16).rev().map(|at| char::from(DIGITS[(number >> (4 * at)) as usize & 15])));
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_documented_form() {
        let ids = MessageIds::new();
        let now = UNIX_EPOCH + EPOCH + Duration::from_secs(0x0102_0304);
        let (first, second) = (ids.next(now), ids.next(now));
        assert_eq!(first.len(), LENGTH);
        assert!(first.starts_with("01") && first.chars().all(|c| matches!(c, '0'..='9' | 'A'..='F')));
        assert_eq!(&first[18..], "0102030400000000");
        assert_eq!(&second[18..], "0102030400000001");
        assert_ne!(MessageIds::new().next(now), first);
    }
}
