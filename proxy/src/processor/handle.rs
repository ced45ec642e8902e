//! Receipt handles and transaction ids. A handle contains everything that is needed to settle a delivery, so that any proxy
//! of a fleet can settle it. It is sealed with a secret key, so that clients can't forge handles.
//!
//! The format is `1<mac>.<scope>.<received>.<invisible>.<cluster>.<coordinates>`: 16 characters of truncated HMAC-SHA256
//! over the rest, 8 characters that identify topic and group, the beginning and the length of the lease in hexadecimal
//! milliseconds, the cluster's name (empty for the default one), and the backend's coordinates. A handle is printable
//! ASCII of about 60 characters.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const VERSION: char = '1';
const TRANSACTION: char = 'T';
const MAC_BYTES: usize = 12;
const MAC_CHARS: usize = 16;
const SCOPE_BYTES: usize = 6;
const SCOPE_CHARS: usize = 8;

/// The secret that seals handles. Every proxy of a fleet needs the same one.
#[derive(Clone)]
pub struct HandleKey(Vec<u8>);

impl HandleKey {
    /// A key with these bytes, of any number. 32 random bytes are recommended.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// Seals and opens handles.
pub(super) struct HandleSealer {
    // Cloning the keyed MAC saves two hash blocks per handle.
    mac: Hmac<Sha256>,
}

/// The topic and group of a request. Only handles of the same topic and group are valid in it.
pub(super) struct Scope<'a> {
    sealer: &'a HandleSealer,
    pub(super) topic: &'a str,
    pub(super) group: &'a str,
    text: String,
}

/// The content of a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SealedLease {
    /// When the lease began.
    pub(super) received_at: SystemTime,
    /// The length of the lease.
    pub(super) invisible: Duration,
    /// The cluster that granted the lease.
    pub(super) cluster: String,
    /// The backend's coordinates of the delivery.
    pub(super) coordinates: String,
}

/// The result of opening a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// The handle is of the request's topic and group.
    Lease(SealedLease),
    /// The handle is of another topic or group.
    Foreign,
    /// The handle was not sealed with our key.
    Forged,
}

/// The content of a transaction id: the cluster and the coordinates of the half message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TransactionRef {
    pub(super) cluster: String,
    pub(super) coordinates: String,
}

impl HandleSealer {
    pub(super) fn new(key: &HandleKey) -> Self {
        Self { mac: Hmac::new_from_slice(&key.0).expect("HMAC takes keys of any length") }
    }

    /// A name that is the same for all proxies with this key.
    pub(super) fn fleet_name(&self) -> String {
        format!("rocketmq-thin-proxy-{}", URL_SAFE_NO_PAD.encode(self.sign("fleet")))
    }

    /// The scope of one request.
    pub(super) fn scope<'a>(&'a self, topic: &'a str, group: &'a str) -> Scope<'a> {
        let mut mac = self.mac.clone();
        mac.update(topic.as_bytes());
        mac.update(b"\0");
        mac.update(group.as_bytes());
        let text = URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..SCOPE_BYTES]);
        Scope { sealer: self, topic, group, text }
    }

    /// Creates the id of a transaction of this topic, which contains everything that is needed to end the transaction. The
    /// format is `T<mac>.<cluster>.<coordinates>`: 16 characters of truncated HMAC-SHA256 over the topic and the rest, the
    /// cluster's name, and the backend's coordinates.
    pub(super) fn seal_transaction(&self, topic: &str, transaction: &TransactionRef) -> String {
        let content = format!("{}.{}", transaction.cluster, transaction.coordinates);
        let mac = URL_SAFE_NO_PAD.encode(self.sign(&transaction_text(topic, &content)));
        format!("{TRANSACTION}{mac}.{content}")
    }

    /// Opens a transaction id. Returns `None` if it was not sealed with our key for this topic.
    pub(super) fn open_transaction(&self, topic: &str, id: &str) -> Option<TransactionRef> {
        let (mac, content) = id.strip_prefix(TRANSACTION)?.split_once('.')?;
        if !equal(&mac_of(mac)?, &self.sign(&transaction_text(topic, content))) {
            return None;
        }
        let (cluster, coordinates) = content.split_once('.')?;
        Some(TransactionRef { cluster: cluster.to_owned(), coordinates: coordinates.to_owned() })
    }

    fn sign(&self, text: &str) -> [u8; MAC_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(text.as_bytes());
        let mut out = [0; MAC_BYTES];
        out.copy_from_slice(&mac.finalize().into_bytes()[..MAC_BYTES]);
        out
    }
}

impl Scope<'_> {
    /// Creates the handle for a lease of this topic and group.
    pub(super) fn seal(&self, lease: &SealedLease) -> String {
        let mut handle = String::with_capacity(
            MAC_CHARS + SCOPE_CHARS + lease.cluster.len() + lease.coordinates.len() + 29,
        );
        handle.push(VERSION);
        // A placeholder for the MAC, which covers what follows.
        handle.push_str("AAAAAAAAAAAAAAAA.");
        handle.push_str(&self.text);
        let received = lease.received_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        write!(handle, ".{received:x}.{:x}.{}.", lease.invisible.as_millis(), lease.cluster)
            .expect("writing to a String can't fail");
        handle.push_str(&lease.coordinates);
        let mac = URL_SAFE_NO_PAD.encode(self.sealer.sign(&handle[MAC_CHARS + 2..]));
        handle.replace_range(1..=MAC_CHARS, &mac);
        handle
    }

    /// Opens a handle that a client sent.
    pub(super) fn open(&self, handle: &str) -> Opened {
        match self.sealer.read(handle) {
            Some((scope, lease)) if scope == self.text => Opened::Lease(lease),
            Some(_) => Opened::Foreign,
            None => Opened::Forged,
        }
    }
}

impl HandleSealer {
    fn read<'h>(&self, handle: &'h str) -> Option<(&'h str, SealedLease)> {
        let sealed = handle.strip_prefix(VERSION)?;
        let (mac, text) = sealed.split_once('.')?;
        if !equal(&mac_of(mac)?, &self.sign(text)) {
            return None;
        }
        let mut parts = text.splitn(5, '.');
        let scope = parts.next()?;
        let received = u64::from_str_radix(parts.next()?, 16).ok()?;
        let invisible = u64::from_str_radix(parts.next()?, 16).ok()?;
        let lease = SealedLease {
            received_at: UNIX_EPOCH + Duration::from_millis(received),
            invisible: Duration::from_millis(invisible),
            cluster: parts.next()?.to_owned(),
            coordinates: parts.next()?.to_owned(),
        };
        Some((scope, lease))
    }
}

// The text can't equal the signed text of a handle, in which a dot follows the eight characters of the scope.
fn transaction_text(topic: &str, content: &str) -> String {
    format!("transaction\0{topic}\0{content}")
}

fn mac_of(text: &str) -> Option<[u8; MAC_BYTES]> {
    let mut mac = [0; MAC_BYTES];
    let is_complete =
        text.len() == MAC_CHARS && URL_SAFE_NO_PAD.decode_slice(text, &mut mac).ok()? == MAC_BYTES;
    is_complete.then_some(mac)
}

// Takes constant time, so that a MAC can't be guessed byte by byte.
fn equal(a: &[u8; MAC_BYTES], b: &[u8; MAC_BYTES]) -> bool {
    a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lease() -> SealedLease {
        SealedLease {
            received_at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            invisible: Duration::from_secs(30),
            cluster: "east".to_owned(),
            coordinates: "q.1.2 3".to_owned(),
        }
    }

    #[test]
    fn a_handle_opens_under_its_own_topic_and_group_only() {
        let sealer = HandleSealer::new(&HandleKey::new(b"secret"));
        let handle = sealer.scope("t", "g").seal(&lease());
        assert_eq!(sealer.scope("t", "g").open(&handle), Opened::Lease(lease()));
        for (topic, group) in [("t", "h"), ("u", "g"), ("tg", "")] {
            assert_eq!(sealer.scope(topic, group).open(&handle), Opened::Foreign, "{topic} {group}");
        }
    }

    #[test]
    fn a_key_of_any_length_seals() {
        for key in [&b""[..], b"k", &[7; 1000]] {
            let sealer = HandleSealer::new(&HandleKey::new(key));
            let handle = sealer.scope("t", "g").seal(&lease());
            assert_eq!(sealer.scope("t", "g").open(&handle), Opened::Lease(lease()));
        }
    }

    #[test]
    fn another_key_opens_nothing() {
        let handle = HandleSealer::new(&HandleKey::new(b"secret")).scope("t", "g").seal(&lease());
        assert_eq!(
            HandleSealer::new(&HandleKey::new(b"other")).scope("t", "g").open(&handle),
            Opened::Forged
        );
    }

    #[test]
    fn a_transaction_opens_under_its_own_topic_and_key_only() {
        let sealer = HandleSealer::new(&HandleKey::new(b"secret"));
        let transaction =
            TransactionRef { cluster: "east".to_owned(), coordinates: "broker.a 1 2".to_owned() };
        let id = sealer.seal_transaction("t", &transaction);
        assert_eq!(sealer.open_transaction("t", &id), Some(transaction));
        assert_eq!(sealer.open_transaction("u", &id), None);
        assert_eq!(HandleSealer::new(&HandleKey::new(b"other")).open_transaction("t", &id), None);
        for changed in [id.replace("a 1", "a 3"), id.replace('T', "1"), id[1..].to_owned(), String::new()] {
            assert_eq!(sealer.open_transaction("t", &changed), None, "{changed}");
        }
        assert_eq!(sealer.scope("t", "g").open(&id), Opened::Forged);
    }

    proptest! {
        #[test]
        fn no_changed_handle_opens(at in 0usize..60, byte in 0x20u8..0x7f) {
            let sealer = HandleSealer::new(&HandleKey::new(b"secret"));
            let handle = sealer.scope("t", "g").seal(&lease());
            let mut bytes = handle.clone().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let changed = String::from_utf8(bytes).expect("ASCII");
            prop_assert_eq!(sealer.scope("t", "g").open(&changed), Opened::Forged);
        }

        #[test]
        fn no_forged_handle_opens(text in ".{0,80}") {
            let sealer = HandleSealer::new(&HandleKey::new(b"secret"));
            prop_assert_eq!(sealer.scope("t", "g").open(&text), Opened::Forged);
        }
    }
}
