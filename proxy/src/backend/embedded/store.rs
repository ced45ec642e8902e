//! The storage layout: two fjall databases in the data directory.
//!
//! | database | keyspace | key | value |
//! |---|---|---|---|
//! | `log` | `messages` | topic id, queue, first offset | a chunk: consecutive messages of the queue ([`super::chunk`]) |
//! | `log` | `timers` | due time in ms, sequence | topic id, queue, message ([`super::timer`]) |
//! | `state` | `catalog` | kind byte, name or id | topics, groups, id counter, deleted topics ([`super::catalog`]) |
//! | `state` | `progress` | group id, topic id, queue | cursor: the next offset this group has not had |
//! | `state` | `progress` | group id, topic id, queue, offset | a lease ([`super::lease`]) |
//!
//! Keys are big-endian and fixed-width ([`super::keys`]), so that a prefix is a topic, a group or a queue, and
//! order is order of offset or time.
//!
//! Invariants
//! - Only the writer thread appends to `messages` and `timers`; a send is answered after its batch is committed,
//!   and with [`Flush::Sync`](super::Flush::Sync) that commit ends in an fdatasync. One batch is one group of concurrent sends.
//! - Offsets of a queue have no holes: the next one is the end of the last chunk.
//! - A message below a group's cursor without a lease is consumed; with a lease it is out with a consumer, or
//!   waits for its next delivery. The cursor is the higher one of its record and the offset after the last
//!   lease: its record is written when a lease at or above it ends, not with every delivery.
//! - There are two databases because a commit holds its database's journal: leases and acks are in the operating
//!   system's hands before they are answered (they survive `kill -9`), and never wait for an fsync of messages.
//!   A power failure may lose the last of them; then messages come again, none is lost. The catalog is synced.
//! - Ids of topics and groups are never used twice, so what is left of a deleted one can't be mistaken for
//!   another's.

use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch,
    PersistMode,
};

use super::directory::{DataDirectory, OpenError};
use crate::service::{ServiceError, ServiceErrorKind};

/// The open keyspaces.
pub(super) struct Store {
    log: Database,
    state: Database,
    /// Chunks of messages.
    pub(super) messages: Keyspace,
    /// Messages that wait for their time.
    pub(super) timers: Keyspace,
    /// Topics and groups.
    pub(super) catalog: Keyspace,
    /// Cursors and leases.
    pub(super) progress: Keyspace,
    // Last: the directory is given up only after the databases are closed.
    directory: DataDirectory,
}

/// Small memtables: what the journal must replay at the start, and what an idle process keeps in memory.
const MESSAGES_MEMTABLE: u64 = 16 << 20;
const SMALL_MEMTABLE: u64 = 8 << 20;
/// The least that fjall agrees to: old journals are read at the start.
const JOURNALS: u64 = 64 << 20;
/// Chunks this big are written once and never again by compaction.
const SEPARATED_FROM: u32 = 512;

impl Store {
    /// Opens both databases in the directory.
    pub(super) fn open(directory: DataDirectory) -> Result<Self, OpenError> {
        let damaged = |error: fjall::Error| match error {
            fjall::Error::Io(error) => OpenError::Io(directory.path().to_owned(), error),
            fjall::Error::Locked => OpenError::InUse(directory.path().to_owned()),
            other => OpenError::Damaged(directory.path().to_owned(), other.to_string()),
        };
        // Side by side: a fresh directory takes dozens of fsyncs.
        let (log, state) = std::thread::scope(|scope| {
            let state = scope.spawn(|| open_state(&directory));
            (open_log(&directory), state.join())
        });
        let ended =
            |_| OpenError::Damaged(directory.path().to_owned(), "its storage engine failed".to_owned());
        let (log, messages, timers) = log.map_err(damaged)?;
        let (state, catalog, progress) = state.map_err(ended)?.map_err(damaged)?;
        Ok(Self { messages, timers, catalog, progress, log, state, directory })
    }

    /// A batch for `messages` and `timers`, as durable as `mode` when its commit returns.
    pub(super) fn log_batch(&self, mode: PersistMode) -> OwnedWriteBatch {
        self.log.batch().durability(Some(mode))
    }

    /// A batch for `catalog`, on the disk when its commit returns.
    pub(super) fn catalog_batch(&self) -> OwnedWriteBatch {
        self.state.batch().durability(Some(PersistMode::SyncAll))
    }

    /// A batch for `progress`; its commit reaches the operating system.
    pub(super) fn progress_batch(&self) -> OwnedWriteBatch {
        self.state.batch()
    }

    /// Brings everything to the disk.
    pub(super) fn sync(&self) -> Result<(), fjall::Error> {
        self.log.persist(PersistMode::SyncAll)?;
        self.state.persist(PersistMode::SyncAll)
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &std::path::Path {
        self.directory.path()
    }
}

type Opened = fjall::Result<(Database, Keyspace, Keyspace)>;

fn open_log(directory: &DataDirectory) -> Opened {
    let log = Database::builder(directory.part("log"))
        .cache_size(8 << 20)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNALS)
        .manual_journal_persist(true)
        .worker_threads(2)
        .open()?;
    let separated = KvSeparationOptions::default()
        .compression(CompressionType::None)
        .separation_threshold(SEPARATED_FROM);
    let messages =
        log.keyspace("messages", || plain(MESSAGES_MEMTABLE).with_kv_separation(Some(separated)))?;
    let timers = log.keyspace("timers", || plain(SMALL_MEMTABLE))?;
    Ok((log, messages, timers))
}

fn open_state(directory: &DataDirectory) -> Opened {
    let state = Database::builder(directory.part("state"))
        .cache_size(2 << 20)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNALS)
        .worker_threads(1)
        .open()?;
    let catalog = state.keyspace("catalog", || plain(SMALL_MEMTABLE))?;
    let progress = state.keyspace("progress", || plain(SMALL_MEMTABLE))?;
    Ok((state, catalog, progress))
}

fn plain(memtable: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable)
        .data_block_compression_policy(CompressionPolicy::disabled())
}

/// A failure of the disk, for the client's user.
pub(super) fn unavailable(error: &fjall::Error) -> ServiceError {
    tracing::error!(%error, "the storage failed");
    ServiceError::new(ServiceErrorKind::Unavailable, format!("the broker's storage failed: {error}"))
}

/// A record that can't be decoded.
pub(super) fn corrupt(what: &str) -> ServiceError {
    tracing::error!(what, "the storage holds a record that can't be decoded");
    ServiceError::new(ServiceErrorKind::Unavailable, format!("the broker's storage is damaged: {what}"))
}
