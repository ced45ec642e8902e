//! Half messages: stored apart from the queues until their transactions are committed or rolled back.
//!
//! A half message has two records: the message itself, and the time of its next check. The value of that one is the number
//! of checks so far (4 bytes) and how far ahead the time was when it was set, in ms (8 bytes), big-endian. The message's
//! record is its queue (4 bytes), the time of its storage and the time when it is due
//! if it is delayed, or 0 (8 bytes each, ms since 1970), big-endian, and the message ([`super::codec`]).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::binary::Malformed;
use super::clock;
use super::codec::Encoded;
use super::commit::Commit;
use super::keys;
use super::store::corrupt;
use crate::service::ServiceError;

/// Where a half message is stored: the coordinates of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HalfMessage {
    /// The topic's id.
    pub(super) topic: u32,
    pub(super) sequence: u64,
    /// The next check when the coordinates were made, in ms of [`clock::monotonic`]. A later check leaves its record
    /// behind when the transaction ends, and the check removes it.
    pub(super) check_at: u64,
}

/// A stored half message.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The queue that a commit moves it to.
    pub(super) queue: u32,
    /// When it was stored, in ms since 1970.
    pub(super) stored_at: u64,
    /// When it may be delivered at the earliest, in ms since 1970.
    pub(super) due: Option<u64>,
    pub(super) message: Encoded,
}

const HEADER: usize = 20;

impl HalfMessage {
    /// The key of the message.
    pub(super) fn key(&self) -> [u8; 16] {
        keys::half_message(self.topic, self.sequence)
    }

    /// The key of its next check.
    pub(super) fn check_key(&self) -> [u8; 24] {
        keys::check(self.topic, self.check_at, self.sequence)
    }

    /// The place of a new half message, whose producer is asked after `immunity`.
    pub(super) fn new(topic: u32, sequence: u64, immunity: Duration) -> Self {
        let immunity = u64::try_from(immunity.as_millis()).unwrap_or(u64::MAX);
        Self { topic, sequence, check_at: clock::monotonic().saturating_add(immunity) }
    }

    /// Adds it to a commit.
    pub(super) fn add(&self, record: &Record, commit: &mut Commit) {
        commit.put(&self.key(), record.encode());
        self.add_check(0, commit);
    }

    /// Adds its next check to a commit, after this many checks.
    pub(super) fn add_check(&self, checks: u32, commit: &mut Commit) {
        let ahead = self.check_at.saturating_sub(clock::monotonic());
        commit.put(&self.check_key(), [&checks.to_be_bytes()[..], &ahead.to_be_bytes()].concat());
        commit.check_added(self.topic, self.check_at);
    }

    /// Removes it, and its check.
    pub(super) fn remove(&self, commit: &mut Commit) {
        commit.remove(&self.key());
        commit.remove(&self.check_key());
    }
}

impl fmt::Display for HalfMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}.{:x}", self.topic, self.sequence, self.check_at)
    }
}

impl FromStr for HalfMessage {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.split('.');
        let mut next = || u64::from_str_radix(parts.next()?, 16).ok();
        let half = (next(), next(), next());
        match (half, parts.next()) {
            ((Some(topic), Some(sequence), Some(check_at)), None) => {
                Ok(Self { topic: u32::try_from(topic).map_err(|_| Malformed)?, sequence, check_at })
            }
            _ => Err(Malformed),
        }
    }
}

impl Record {
    fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(HEADER + self.message.len());
        value.extend_from_slice(&self.queue.to_be_bytes());
        value.extend_from_slice(&self.stored_at.to_be_bytes());
        value.extend_from_slice(&self.due.unwrap_or(0).to_be_bytes());
        value.extend_from_slice(&self.message.head);
        value.extend_from_slice(&self.message.body);
        value
    }

    /// Decodes a record.
    pub(super) fn decode(mut value: Bytes) -> Result<Self, ServiceError> {
        if value.len() < HEADER {
            return Err(corrupt("half message"));
        }
        let (queue, stored_at, due) = (value.get_u32(), value.get_u64(), value.get_u64());
        let message = Encoded { head: Vec::new(), body: value };
        Ok(Self { queue, stored_at, due: (due > 0).then_some(due), message })
    }
}

/// The number of checks in the record of a check, and how far ahead its time was when it was set, in ms. Older versions did
/// not tell that.
pub(super) fn decode_check(value: &[u8]) -> Result<(u32, Option<u64>), ServiceError> {
    let malformed = || corrupt("check");
    let (checks, ahead) = value.split_first_chunk().ok_or_else(malformed)?;
    let ahead = match ahead {
        [] => None,
        ahead => Some(u64::from_be_bytes(ahead.try_into().map_err(|_| malformed())?)),
    };
    Ok((u32::from_be_bytes(*checks), ahead))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn coordinates_are_read_as_they_are_written(topic: u32, sequence: u64, check_at: u64) {
            let half = HalfMessage { topic, sequence, check_at };
            prop_assert_eq!(half.to_string().parse(), Ok(half));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-f.x-]{0,60}") {
            let _ = text.parse::<HalfMessage>();
        }
    }

    #[test]
    fn other_texts_are_no_coordinates() {
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.", "1.x.3", "100000000.2.3", " 1.2.3"] {
            assert_eq!(text.parse::<HalfMessage>(), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn a_record_is_decoded_as_it_was_encoded() {
        for due in [None, Some(9)] {
            let message = Encoded { head: vec![1, 2], body: Bytes::from_static(b"body") };
            let value = Record { queue: 3, stored_at: 7, due, message }.encode();
            let record = Record::decode(value.into()).expect("a record");
            assert_eq!((record.queue, record.stored_at, record.due), (3, 7, due));
            assert_eq!(record.message.body.as_ref(), b"\x01\x02body");
        }
        assert!(Record::decode(Bytes::from_static(&[0; HEADER - 1])).is_err());
    }

    #[test]
    fn checks_of_older_versions_are_read() {
        assert_eq!(decode_check(&[0, 0, 0, 3]), Ok((3, None)));
        assert_eq!(decode_check(&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9]), Ok((3, Some(9))));
        for malformed in [&[][..], &[1, 2, 3], &[0, 0, 0, 3, 9]] {
            assert!(decode_check(malformed).is_err(), "{malformed:?}");
        }
    }
}
