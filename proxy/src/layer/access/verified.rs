//! Signatures that were right.
//!
//! gRPC clients sign a time of whole seconds, so that many requests carry the same signature. Each is verified once, as long
//! as it stays in a table of fixed size.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::SystemTime;

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use crate::context::{Credentials, Signed};

/// How many signatures are kept. A new one takes the place of another one.
const SLOTS: usize = 1024;
/// Longer texts are not kept. Those of official clients have some 150 bytes.
const LONGEST: usize = 512;

/// Signatures that were verified with the rules in force. They end with these rules.
pub(super) struct Verified {
    slots: Box<[Mutex<Option<Right>>]>,
    /// Nobody outside can choose the slot.
    hasher: RandomState,
}

/// A signature that was right.
struct Right {
    authorization: Box<str>,
    time: Box<str>,
    /// Where the user's name is in `authorization`.
    user: Range<usize>,
    signed: SystemTime,
}

impl Verified {
    /// Who has made a signature, and when, if it is known to be right.
    pub(super) fn get<'c>(&self, credentials: &'c Credentials) -> Option<(&'c str, SystemTime)> {
        let (authorization, time) = texts(credentials)?;
        let slot = self.slot(authorization, time).lock();
        let right = slot.as_ref()?;
        // As long for one that begins alike as for any other.
        let same = |one: &str, other: &str| bool::from(one.as_bytes().ct_eq(other.as_bytes()));
        let known = same(&right.authorization, authorization) && same(&right.time, time);
        known.then(|| Some((authorization.get(right.user.clone())?, right.signed))).flatten()
    }

    /// Keeps a signature of this user, whose name is a part of it.
    pub(super) fn add(&self, credentials: &Credentials, user: &str, signed: SystemTime) {
        let Some((authorization, time)) = texts(credentials) else { return };
        let Some(start) = authorization.find(user) else { return };
        let user = start..start + user.len();
        let right = Right { authorization: authorization.into(), time: time.into(), user, signed };
        *self.slot(authorization, time).lock() = Some(right);
    }

    fn slot(&self, authorization: &str, time: &str) -> &Mutex<Option<Right>> {
        let hash = self.hasher.hash_one((authorization, time));
        &self.slots[hash as usize % SLOTS]
    }
}

/// The texts that make up a signature of a time, if they are not too long.
fn texts(credentials: &Credentials) -> Option<(&str, &str)> {
    let Signed::Time(time) = &credentials.signed else { return None };
    let authorization = credentials.authorization.as_str();
    (authorization.len() <= LONGEST && time.len() <= LONGEST).then_some((authorization, time))
}

impl Default for Verified {
    fn default() -> Self {
        let slots = std::iter::repeat_with(|| Mutex::new(None)).take(SLOTS).collect();
        Self { slots, hasher: RandomState::new() }
    }
}

/// Shows no signature.
impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").finish_non_exhaustive()
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
        let verified = Verified::default();
        let right = credentials("MQv2-HMAC-SHA1 Credential=alice, Signature=00ff", "20260131T235959Z");
        assert_eq!(verified.get(&right), None);
        verified.add(&right, "alice", SystemTime::UNIX_EPOCH);
        assert_eq!(verified.get(&right), Some(("alice", SystemTime::UNIX_EPOCH)));
        for (authorization, time) in [
            ("MQv2-HMAC-SHA1 Credential=alice, Signature=00fe", "20260131T235959Z"),
            ("MQv2-HMAC-SHA1 Credential=bobby, Signature=00ff", "20260131T235959Z"),
            ("MQv2-HMAC-SHA1 Credential=alice, Signature=00ff", "20260131T235958Z"),
            ("MQv2-HMAC-SHA1 Credential=alice, Signature=00ff2", "0260131T235959Z"),
        ] {
            assert_eq!(verified.get(&credentials(authorization, time)), None, "{authorization} {time}");
        }
        let long = credentials(&"x".repeat(LONGEST + 1), "20260131T235959Z");
        verified.add(&long, "x", SystemTime::UNIX_EPOCH);
        assert_eq!(verified.get(&long), None);
    }
}
