//! The storage layout: two fjall databases in the data directory.
//!
//! | database | key | value |
//! |---|---|---|
//! | `log` | topic id, queue, first offset | a chunk: consecutive messages of the queue ([`super::chunk`]) |
//! | `log` | 0, due time in ms, sequence | a message that waits for its time ([`super::timer`]) |
//! | `state` | group id, topic id, queue | cursor: the next offset this group has not had |
//! | `state` | group id, topic id, queue, offset | a lease ([`super::lease`]) |
//! | `state` | 0, kind byte, name or id | topics, groups, id counter, deleted topics ([`super::catalog`]) |
//!
//! Each database has one keyspace: every further one would cost a fresh directory twenty fsyncs at its first
//! start. Keys are big-endian and fixed-width ([`super::keys`]), so that a prefix is a topic, a group or a queue,
//! and order is order of offset or time.
//!
//! Invariants
//! - Only the writer thread appends to `log`; a send is answered after its batch is committed, and with
//!   [`Flush::Sync`](super::Flush::Sync) that commit ends in an fdatasync. One batch is one group of concurrent
//!   sends.
//! - Offsets of a queue have no holes: the next one is the end of the last chunk.
//! - A message below a group's cursor without a lease is consumed; with a lease it is out with a consumer, or
//!   waits for its next delivery. The cursor is the higher one of its record and the offset after the last
//!   lease: its record is written when a lease at or above it ends, not with every delivery.
//! - There are two databases because a commit holds its database's journal: leases and acks are in the operating
//!   system's hands before they are answered (they survive `kill -9`), and never wait for an fsync of messages.
//!   A power failure may lose the last of them; then messages come again, none is lost. The catalog is synced.
//! - After a failed write (a full disk, say) a database refuses all writes until it is opened again, so that what
//!   was answered and what is on the disk can't part; clients are told `Unavailable` meanwhile.
//! - Ids of topics and groups begin with 1 and are never used twice, so what is left of a deleted one can't be
//!   mistaken for another's.

use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch,
    PersistMode,
};

use super::directory::{DataDirectory, OpenError};
use crate::service::{ServiceError, ServiceErrorKind};

/// The open keyspaces.
pub(super) struct Store {
    log_database: Database,
    state_database: Database,
    /// Messages, and timers.
    pub(super) log: Keyspace,
    /// Cursors, leases, and the catalog.
    pub(super) state: Keyspace,
    // Last: the directory is given up only after the databases are closed.
    directory: DataDirectory,
}

/// Small memtables: what the journal must replay at the start, and what an idle process keeps in memory.
const LOG_MEMTABLE: u64 = 16 << 20;
const STATE_MEMTABLE: u64 = 8 << 20;
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
        let (log_database, log) = log.map_err(damaged)?;
        let (state_database, state) = state.map_err(ended)?.map_err(damaged)?;
        Ok(Self { log_database, state_database, log, state, directory })
    }

    /// A batch for messages and timers, as durable as `mode` when its commit returns.
    pub(super) fn log_batch(&self, mode: PersistMode) -> OwnedWriteBatch {
        self.log_database.batch().durability(Some(mode))
    }

    /// A batch for the catalog, on the disk when its commit returns.
    pub(super) fn catalog_batch(&self) -> OwnedWriteBatch {
        self.state_database.batch().durability(Some(PersistMode::SyncAll))
    }

    /// A batch for cursors and leases; its commit reaches the operating system.
    pub(super) fn progress_batch(&self) -> OwnedWriteBatch {
        self.state_database.batch()
    }

    /// Brings everything to the disk.
    pub(super) fn sync(&self) -> Result<(), fjall::Error> {
        self.log_database.persist(PersistMode::SyncAll)?;
        self.state_database.persist(PersistMode::SyncAll)
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &std::path::Path {
        self.directory.path()
    }
}

type Opened = fjall::Result<(Database, Keyspace)>;

fn open_log(directory: &DataDirectory) -> Opened {
    let database = Database::builder(directory.part("log"))
        .cache_size(8 << 20)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNALS)
        .manual_journal_persist(true)
        .worker_threads(2)
        .open()?;
    let separated = KvSeparationOptions::default()
        .compression(CompressionType::None)
        .separation_threshold(SEPARATED_FROM);
    let log = database.keyspace("log", || plain(LOG_MEMTABLE).with_kv_separation(Some(separated)))?;
    Ok((database, log))
}

fn open_state(directory: &DataDirectory) -> Opened {
    let database = Database::builder(directory.part("state"))
        .cache_size(2 << 20)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNALS)
        .worker_threads(1)
        .open()?;
    let state = database.keyspace("state", || plain(STATE_MEMTABLE))?;
    Ok((database, state))
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
