//! A cache of verified signatures.
//!
//! gRPC clients sign a time in whole seconds, so that many requests carry the same signature. Each is verified once, while it
//! stays in the cache, whose size is fixed.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::context::{Credentials, Signed};

/// The number of cached signatures. A new one replaces the one in its slot.
const SLOTS: usize = 1024;
/// The longest text that is cached, in bytes. The texts of official clients have about 150.
const MAX_LENGTH: usize = 512;

/// Signatures that were verified with the index that owns this cache.
pub(super) struct VerifiedSignatures {
    slots: Box<[Mutex<Option<VerifiedSignature>>]>,
    /// Has a secret key, so that clients can't choose the slot.
    hasher: RandomState,
}

/// A verified signature.
struct VerifiedSignature {
    hash: u64,
    authorization: Box<str>,
    time: Box<str>,
    /// The range of the user's name in `authorization`.
    user: Range<usize>,
    signed: SystemTime,
}

impl VerifiedSignatures {
    /// The user and the time of a signature, if it is cached.
    pub(super) fn get<'c>(&self, credentials: &'c Credentials) -> Option<(&'c str, SystemTime)> {
        let (authorization, time) = texts(credentials)?;
        let hash = self.hasher.hash_one((authorization, time));
        let slot = self.slot(hash).lock();
        // The keyed hash is compared first, so that the time of the comparison reveals nothing about a signature with the
        // same prefix.
        let seen = slot.as_ref().filter(|seen| seen.hash == hash)?;
        let is_same = *seen.authorization == *authorization && *seen.time == *time;
        is_same.then(|| Some((authorization.get(seen.user.clone())?, seen.signed))).flatten()
    }

    /// Caches a verified signature. `user` is a part of its authorization text.
    pub(super) fn add(&self, credentials: &Credentials, user: &str, signed: SystemTime) {
        let Some((authorization, time)) = texts(credentials) else { return };
        let Some(start) = authorization.find(user) else { return };
        let user = start..start + user.len();
        let hash = self.hasher.hash_one((authorization, time));
        let (authorization, time) = (authorization.into(), time.into());
        *self.slot(hash).lock() = Some(VerifiedSignature { hash, authorization, time, user, signed });
    }

    fn slot(&self, hash: u64) -> &Mutex<Option<VerifiedSignature>> {
        &self.slots[hash as usize % SLOTS]
    }
}

/// The texts of a signature over a time. `None` for other signatures, and for texts that are too long.
fn texts(credentials: &Credentials) -> Option<(&str, &str)> {
    let Signed::Time(time) = &credentials.signed else { return None };
    let authorization = credentials.authorization.as_str();
    (authorization.len() <= MAX_LENGTH && time.len() <= MAX_LENGTH).then_some((authorization, time))
}

impl Default for VerifiedSignatures {
    fn default() -> Self {
        let slots = std::iter::repeat_with(|| Mutex::new(None)).take(SLOTS).collect();
        Self { slots, hasher: RandomState::new() }
    }
}

/// Redacts the signatures.
impl fmt::Debug for VerifiedSignatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedSignatures").finish_non_exhaustive()
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
    fn a_signature_is_cached_by_all_of_its_text() {
        let seen = VerifiedSignatures::default();
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
        let long = credentials(&"x".repeat(MAX_LENGTH + 1), "20260131T235959Z");
        seen.add(&long, "x", SystemTime::UNIX_EPOCH);
        assert_eq!(seen.get(&long), None);
    }
}
