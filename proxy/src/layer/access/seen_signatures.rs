//! Signatures that were right.
//!
//! gRPC clients sign a time of whole seconds, so that many requests carry the same signature. Each is verified once, as long
//! as it stays in a table of fixed size.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::context::{Credentials, Signed};

/// How many signatures are kept. A new one takes the place of another one.
const SLOTS: usize = 1024;
/// Longer texts are not kept. Those of official clients have some 150 bytes.
const LONGEST: usize = 512;

/// Signatures that were verified with the rules in force. They end with these rules.
pub(super) struct SeenSignatures {
    slots: Box<[Mutex<Option<Seen>>]>,
    /// Nobody outside can choose the slot.
    hasher: RandomState,
}

/// A signature that was right.
struct Seen {
    hash: u64,
    authorization: Box<str>,
    time: Box<str>,
    /// Where the user's name is in `authorization`.
    user: Range<usize>,
    signed: SystemTime,
}

impl SeenSignatures {
    /// Who has made a signature, and when, if it is known to be right.
    pub(super) fn get<'c>(&self, credentials: &'c Credentials) -> Option<(&'c str, SystemTime)> {
        let (authorization, time) = texts(credentials)?;
        let hash = self.hasher.hash_one((authorization, time));
        let slot = self.slot(hash).lock();
        // The hash first: it has a secret key, so that the time of a comparison tells nothing of a signature that begins alike.
        let seen = slot.as_ref().filter(|seen| seen.hash == hash)?;
        let is_same = *seen.authorization == *authorization && *seen.time == *time;
        is_same.then(|| Some((authorization.get(seen.user.clone())?, seen.signed))).flatten()
    }

    /// Keeps a signature of this user, whose name is a part of it.
    pub(super) fn add(&self, credentials: &Credentials, user: &str, signed: SystemTime) {
        let Some((authorization, time)) = texts(credentials) else { return };
        let Some(start) = authorization.find(user) else { return };
        let user = start..start + user.len();
        let hash = self.hasher.hash_one((authorization, time));
        let seen = Seen { hash, authorization: authorization.into(), time: time.into(), user, signed };
        *self.slot(hash).lock() = Some(seen);
    }

    fn slot(&self, hash: u64) -> &Mutex<Option<Seen>> {
        &self.slots[hash as usize % SLOTS]
    }
}

/// The texts that make up a signature of a time, if they are not too long.
fn texts(credentials: &Credentials) -> Option<(&str, &str)> {
    let Signed::Time(time) = &credentials.signed else { return None };
    let authorization = credentials.authorization.as_str();
    (authorization.len() <= LONGEST && time.len() <= LONGEST).then_some((authorization, time))
}

impl Default for SeenSignatures {
    fn default() -> Self {
        let slots = std::iter::repeat_with(|| Mutex::new(None)).take(SLOTS).collect();
        Self { slots, hasher: RandomState::new() }
    }
}

/// Shows no signature.
impl fmt::Debug for SeenSignatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeenSignatures").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(authorization: &str, time: &str) -> Credentials {
        Credentials {
            authorization: authorization.to_owned(),
            signed: Signed::Time(time.to_owned()),
            session_token: String::new(),
        }
    }

    #[test]
    fn a_signature_is_known_by_all_of_its_text() {
        let seen = SeenSignatures::default();
        let right = credentials("MQv2-HMAC-SHA1 Credential=alice, Signature=00ff", "20260131T235959Z");
        assert_eq!(seen.get(&right), None);
        seen.add(&right, "alice", SystemTime::UNIX_EPOCH);
        assert_eq!(seen.get(&right), Some(("alice", SystemTime::UNIX_EPOCH)));
        for (authorization, time) in [
            ("MQv2-HMAC-SHA1 Credential=alice, Signature=00fe", "20260131T235959Z"),
            ("MQv2-HMAC-SHA1 Credential=bobby, Signature=00ff", "20260131T235959Z"),
            ("MQv2-HMAC-SHA1 Credential=alice, Signature=00ff", "20260131T235958Z"),
            ("MQv2-HMAC-SHA1 Credential=alice, Signature=00ff2", "0260131T235959Z"),
        ] {
            assert_eq!(seen.get(&credentials(authorization, time)), None, "{authorization} {time}");
        }
        let long = credentials(&"x".repeat(LONGEST + 1), "20260131T235959Z");
        seen.add(&long, "x", SystemTime::UNIX_EPOCH);
        assert_eq!(seen.get(&long), None);
    }
}
