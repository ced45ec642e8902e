//! Half messages, which are stored apart from the queues until their transactions are committed or rolled back.
//!
//! A half message has two records, whose numbers are big-endian:
//!
//! - The message: its queue (4 bytes), when it was stored and when it is due, or 0 if it is not delayed (8 bytes each,
//!   ms since 1970), and the encoded message ([`super::codec`]).
//! - Its next orphan check, with the time in the key. The value is the number of checks so far (4 bytes), and the time
//!   from the write of the record to the check, in ms (8 bytes).

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

/// Identifies a half message: the coordinates of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HalfMessageId {
    /// The topic's id.
    pub(super) topic: u32,
    pub(super) sequence: u64,
    /// When the next check was due when the coordinates were created, in ms of [`clock::monotonic`]. The record of a
    /// later check remains when the transaction ends, and that check removes it.
    pub(super) check_at: u64,
}

/// A stored half message.
#[derive(Clone, Debug)]
pub(super) struct HalfMessage {
    /// The queue that a commit moves it to.
    pub(super) queue: u32,
    /// When it was stored, in ms.
    pub(super) stored_at: u64,
    /// When it may be delivered at the earliest, in ms. `None` if it is not delayed.
    pub(super) due: Option<u64>,
    pub(super) message: Encoded,
}

const HEADER: usize = 20;

impl HalfMessageId {
    /// The key of the message.
    pub(super) fn key(&self) -> [u8; 16] {
        keys::half_message(self.topic, self.sequence)
    }

    /// The key of its next check.
    pub(super) fn check_key(&self) -> [u8; 24] {
        keys::check(self.topic, self.check_at, self.sequence)
    }

    /// The coordinates of a new half message, whose first check is due after this time.
    pub(super) fn new(topic: u32, sequence: u64, first_check_after: Duration) -> Self {
        let first_check_after = u64::try_from(first_check_after.as_millis()).unwrap_or(u64::MAX);
        Self { topic, sequence, check_at: clock::monotonic().saturating_add(first_check_after) }
    }

    /// Adds the half message and its first check to a commit.
    pub(super) fn add(&self, record: &HalfMessage, commit: &mut Commit) {
        commit.put(&self.key(), record.encode());
        self.add_check(0, commit);
    }

    /// Adds the next check to a commit. `checks` is the number of checks so far.
    pub(super) fn add_check(&self, checks: u32, commit: &mut Commit) {
        let ahead = self.check_at.saturating_sub(clock::monotonic());
        commit.put(&self.check_key(), [&checks.to_be_bytes()[..], &ahead.to_be_bytes()].concat());
        commit.check_added(self.topic, self.check_at);
    }

    /// Removes the half message and its check.
    pub(super) fn remove(&self, commit: &mut Commit) {
        commit.remove(&self.key());
        commit.remove(&self.check_key());
    }
}

impl fmt::Display for HalfMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}.{:x}", self.topic, self.sequence, self.check_at)
    }
}

impl FromStr for HalfMessageId {
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

impl HalfMessage {
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

/// The record of a half message's next check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CheckRecord {
    /// The number of checks so far.
    pub(super) checks: u32,
    /// The time from the write of the record to the check, in ms. Records of older versions lack it.
    pub(super) ahead: Option<u64>,
}

impl CheckRecord {
    /// Decodes a record.
    pub(super) fn decode(value: &[u8]) -> Result<Self, ServiceError> {
        let malformed = || corrupt("check");
        let (checks, ahead) = value.split_first_chunk().ok_or_else(malformed)?;
        let ahead = match ahead {
            [] => None,
            ahead => Some(u64::from_be_bytes(ahead.try_into().map_err(|_| malformed())?)),
        };
        Ok(Self { checks: u32::from_be_bytes(*checks), ahead })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn coordinates_are_parsed_as_they_are_displayed(topic: u32, sequence: u64, check_at: u64) {
            let half = HalfMessageId { topic, sequence, check_at };
            prop_assert_eq!(half.to_string().parse(), Ok(half));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-f.x-]{0,60}") {
            let _ = text.parse::<HalfMessageId>();
        }
    }

    #[test]
    fn invalid_coordinates_are_refused() {
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.", "1.x.3", "100000000.2.3", " 1.2.3"] {
            assert_eq!(text.parse::<HalfMessageId>(), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn a_record_is_decoded_as_it_was_encoded() {
        for due in [None, Some(9)] {
            let message = Encoded { head: vec![1, 2], body: Bytes::from_static(b"body") };
            let value = HalfMessage { queue: 3, stored_at: 7, due, message }.encode();
            let record = HalfMessage::decode(value.into()).expect("a record");
            assert_eq!((record.queue, record.stored_at, record.due), (3, 7, due));
            assert_eq!(record.message.body.as_ref(), b"\x01\x02body");
        }
        assert!(HalfMessage::decode(Bytes::from_static(&[0; HEADER - 1])).is_err());
    }

    #[test]
    fn checks_of_older_versions_are_decoded() {
        let old = CheckRecord { checks: 3, ahead: None };
        assert_eq!(CheckRecord::decode(&[0, 0, 0, 3]), Ok(old));
        let new = CheckRecord { ahead: Some(9), ..old };
        assert_eq!(CheckRecord::decode(&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9]), Ok(new));
        for malformed in [&[][..], &[1, 2, 3], &[0, 0, 0, 3, 9]] {
            assert!(CheckRecord::decode(malformed).is_err(), "{malformed:?}");
        }
    }
}
