//! A commit of the writer thread: messages appended to queues, and changed records.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::codec::Encoded;
use super::damage::is_damage;
use super::queue::Queue;
use super::store::{OpenDatabase, Store, unavailable};
use super::topic::Topic;
use crate::service::{Resolution, ServiceError};

/// The maximum number of messages that are moved in one commit. With fewer, messages that are due together would wait
/// for many fsyncs; with more, sends would wait for a long commit.
pub(super) const MAX_MOVED: usize = 2048;
/// Once so many bytes were read for a commit, no more requests or messages are added to it. Messages may have 4 MiB each.
pub(super) const MAX_BYTES_READ: usize = 4 << 20;

/// A commit in the making. It is stored as a whole or not at all.
pub(super) struct Commit {
    pub(super) log: Arc<OpenDatabase>,
    // By topic and queue id.
    pub(super) appends: BTreeMap<(u32, u32), Append>,
    /// New values; `None` removes the record. In order, as the storage engine adds ordered keys faster.
    pub(super) records: BTreeMap<Box<[u8]>, Option<Bytes>>,
    /// Decisions about half messages, by their sequence.
    pub(super) decided: HashMap<u64, TransactionDecision>,
    /// The earliest orphan check that was added to each topic, by topic id.
    pub(super) checks: HashMap<u32, u64>,
    bytes_read: usize,
}

/// Messages to be appended to a queue.
pub(super) struct Append {
    pub(super) topic: Arc<Topic>,
    pub(super) queue: Arc<Queue>,
    pub(super) first: u64,
    pub(super) messages: Vec<Encoded>,
}

/// A decision about a half message, and when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TransactionDecision {
    pub(super) at: u64,
    pub(super) resolution: Resolution,
}

/// A record, if it can be read.
pub(super) enum StoredRecord {
    Sound(Bytes),
    Absent,
    /// It is corrupt on the disk. This was logged.
    Damaged,
}

impl StoredRecord {
    /// The content, if it can be read.
    pub(super) fn sound(self) -> Option<Bytes> {
        match self {
            Self::Sound(record) => Some(record),
            Self::Absent | Self::Damaged => None,
        }
    }
}

impl Commit {
    /// Creates an empty commit.
    ///
    /// # Errors
    /// `Unavailable` while the database is being opened again.
    pub(super) fn new(store: &Store) -> Result<Self, ServiceError> {
        Ok(Self {
            log: store.log()?,
            appends: BTreeMap::new(),
            records: BTreeMap::new(),
            decided: HashMap::new(),
            checks: HashMap::new(),
            bytes_read: 0,
        })
    }

    /// Appends a message to a queue of a topic. Returns its offset.
    pub(super) fn append(&mut self, topic: &Arc<Topic>, queue: &Arc<Queue>, message: Encoded) -> u64 {
        let append = self.appends.entry((topic.id(), queue.id())).or_insert_with(|| Append {
            topic: topic.clone(),
            first: queue.end(),
            queue: queue.clone(),
            messages: Vec::new(),
        });
        append.messages.push(message);
        append.first + append.messages.len() as u64 - 1
    }

    /// Returns a record as it will be after this commit. Reads the disk unless the commit changes the record.
    pub(super) fn get(&mut self, key: &[u8]) -> Result<StoredRecord, ServiceError> {
        if let Some(changed) = self.records.get(key) {
            return Ok(changed.clone().map_or(StoredRecord::Absent, StoredRecord::Sound));
        }
        match self.log.get(key) {
            Ok(Some(found)) => {
                self.bytes_read += found.len();
                Ok(StoredRecord::Sound(found.into()))
            }
            Ok(None) => Ok(StoredRecord::Absent),
            Err(error) if is_damage(&error) => {
                self.log.damage.report_record(key);
                Ok(StoredRecord::Damaged)
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Sets a record.
    pub(super) fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.records.insert(key.into(), Some(value.into()));
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.records.insert(key.into(), None);
    }

    /// Notes that an orphan check at this time was added.
    pub(super) fn check_added(&mut self, topic: u32, at: u64) {
        self.checks.entry(topic).and_modify(|first| *first = at.min(*first)).or_insert(at);
    }

    /// Whether the commit has read so much from the disk that the next request should go into another one.
    pub(super) fn is_full(&self) -> bool {
        self.bytes_read >= MAX_BYTES_READ
    }
}
