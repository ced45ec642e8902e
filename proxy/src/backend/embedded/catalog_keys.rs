//! The keys of the catalog's records in the database `state`, after the id 0:
//!
//! - `t` + name: a topic
//! - `g` + name: a group
//! - `u` + name: a user ([`super::catalog_users`])
//! - `n`: the next id
//! - `d` + kind + id: a deleted topic or group, whose data [`super::retention`] removes
//! - `r`: the retention clock ([`super::retention_clock`])
//! - `l` + id of a LITE topic + name: a lite topic ([`super::lite_topics`])

use super::keys;
use super::store::corrupt;
use crate::service::ServiceError;

/// The kind byte in the keys of users.
pub(super) const USER: u8 = b'u';
/// The kind byte in the keys of lite topics.
pub(super) const LITE_TOPIC: u8 = b'l';

/// A deleted topic or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deleted {
    /// A topic with this id.
    Topic(u32),
    /// A group with this id.
    Group(u32),
}

/// The key of a record of the catalog.
pub(super) fn record_key(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&keys::RESERVED_ID, [kind].as_slice(), rest].concat()
}

/// The key of a record that has a name.
pub(super) fn named_key(kind: u8, name: &str) -> Vec<u8> {
    record_key(kind, name.as_bytes())
}

/// The key of the record of a deleted topic or group.
pub(super) fn deleted_key(deleted: Deleted) -> Vec<u8> {
    let (kind, id) = match deleted {
        Deleted::Topic(id) => (b't', id),
        Deleted::Group(id) => (b'g', id),
    };
    record_key(b'd', &[[kind].as_slice(), &id.to_be_bytes()].concat())
}

/// Decodes an id.
pub(super) fn read_id(bytes: &[u8]) -> Result<u32, ServiceError> {
    bytes.try_into().map(u32::from_be_bytes).map_err(|_| corrupt("id"))
}

/// The key of a lite topic's record.
pub(super) fn lite_topic_key(parent: u32, name: &str) -> Vec<u8> {
    record_key(LITE_TOPIC, &[&parent.to_be_bytes(), name.as_bytes()].concat())
}
