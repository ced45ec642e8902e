//! The storage layout: two fjall databases in the data directory.
//!
//! | database | key | value |
//! |---|---|---|
//! | `log` | topic id, queue, first offset | a chunk: consecutive messages of the queue ([`super::chunk`]) |
//! | `log` | 0, due time in ms, sequence | a delayed message ([`super::timer`]) |
//! | `log` | topic id, 2^32 - 1, sequence | a half message ([`super::half_message`]) |
//! | `log` | topic id, 2^32 - 2, time in ms, sequence | the next orphan check of a half message |
//! | `log` | 2^32 - 1, time in ms, sequence | a decision about a half message ([`super::decisions`]) |
//! | `state` | group id, topic id, queue | the cursor: the first offset that was not delivered to the group |
//! | `state` | group id, topic id, queue, offset | a lease ([`super::lease`]) |
//! | `state` | 0, kind byte, name or id | topics, groups, id counter, deleted topics ([`super::catalog_keys`]) |
//!
//! Each database has one keyspace, since each keyspace costs about twenty fsyncs when a directory is created. Keys are
//! big-endian and have a fixed width ([`super::keys`]): a topic, a group and a queue each have a prefix, and the order
//! of keys is the order of offsets or times.
//!
//! Invariants
//! - Only the writer thread adds to `log`; retention removes what has expired. A send is answered after its batch is
//!   committed. With [`Flush::Sync`] every commit to `log` ends in an fdatasync. Concurrent sends share a batch.
//! - A half message, its check, the decision about it and the message in its queue change in one commit.
//! - Offsets of a queue are consecutive. The next offset is the end of the last chunk. So the last chunk stays on the
//!   disk after it has expired, until another one follows.
//! - A message below a group's cursor is consumed if it has no lease. A message with a lease is held by a consumer or
//!   waits for its next delivery. In a FIFO group it may also wait for its first delivery, behind earlier messages of
//!   its message group. The cursor is the higher of its record and the offset after the last lease. The record is
//!   written when a lease at or above it ends, not with every delivery.
//! - There are two databases because a commit locks its database's journal. Leases and acknowledgements never wait for
//!   the fsync of messages. They are handed to the operating system before they are answered, so they survive
//!   `kill -9`. A power failure may lose the last of them: then messages are delivered again. Changes of the catalog are
//!   synced, and commits of progress don't wait for that either.
//! - Async threads don't wait for the disk: the writer thread ([`super::writer`]) writes messages. Progress is written by
//!   another thread unless the disk answers at once ([`super::progress_writer`]).
//! - fjall syncs a blob file, but not its folder. ext4, XFS, Btrfs and F2FS keep the directory entry of a synced file. On
//!   other file systems, a power failure may leave a database that can't be opened.
//! - After a failed write (a full disk, for example) a database refuses all writes until it is opened again
//!   ([`super::disk_recovery`]), so that the answers to clients and the content of the disk can't differ. Until then
//!   requests fail with `Unavailable`.
//! - Ids of topics and groups begin with 1 and are never reused, so records left by a deleted topic can't be mistaken for
//!   those of a later one.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fjall::config::CompressionPolicy;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions,
    OwnedWriteBatch, PersistMode,
};
use parking_lot::{Mutex, RwLock};

use super::config::Flush;
use super::damage::is_damage;
use super::damage_reports::DamageReports;
use super::directory::{DataDirectory, OpenError};
use super::disk_latency::DiskLatency;
use super::journal::{self, JournalError};
use super::keys;
use crate::histogram::Histogram;
use crate::service::{ServiceError, ServiceErrorKind};

/// The storage of the broker.
pub(super) struct Store {
    log: ReopenableDatabase,
    state: ReopenableDatabase,
    flush: Flush,
    /// Why the storage can't be written now. `None` if it can.
    failure: RwLock<Option<String>>,
    log_openings: AtomicU64,
    /// How long commits of messages took.
    pub(super) message_writes: Histogram,
    /// Whether the disk answers at once.
    pub(super) disk_latency: DiskLatency,
    // Last, so that the directory is unlocked after the databases are closed.
    pub(super) directory: DataDirectory,
}

/// An open database with its one keyspace. It can't be closed and reopened while this is held.
pub(super) struct OpenDatabase {
    database: Database,
    keyspace: Keyspace,
    /// Whether [`super::reclaim`] is compacting it, which fjall does not count.
    reclaiming: AtomicBool,
    /// The damaged records that were found.
    pub(super) damage: DamageReports,
}

/// A database that is closed and opened again after a failed write.
struct ReopenableDatabase {
    /// `None` while it is being opened again.
    opened: RwLock<Option<Arc<OpenDatabase>>>,
    /// A write or a sync has failed since it was opened, so its content may differ from what was answered.
    failed: AtomicBool,
}

/// The folders of the databases.
pub(super) const LOG: &str = "log";
pub(super) const STATE: &str = "state";
/// Sizes of memtables, in bytes. They are small because a start replays them from the journal, and an idle process
/// keeps them in memory.
const LOG_MEMTABLE_BYTES: u64 = 16 << 20;
const STATE_MEMTABLE_BYTES: u64 = 8 << 20;
/// The free disk space, in bytes, that opening the databases needs: a full memtable of each is flushed.
pub(super) const MIN_FREE_BYTES_TO_OPEN: u64 = LOG_MEMTABLE_BYTES + STATE_MEMTABLE_BYTES;
/// The maximum size of the journals, in bytes. A start reads them all, so this is the least that fjall accepts.
const MAX_JOURNAL_BYTES: u64 = 64 << 20;
/// The same for `state`. With one full journal at most, fjall would flush its small memtable early, each time a journal is full.
const MAX_STATE_JOURNAL_BYTES: u64 = 2 * MAX_JOURNAL_BYTES;
/// The maximum number of files of a database that are kept open. The proxy reserves descriptors for them. fjall's
/// default of 900 would leave too few for connections.
const MAX_OPEN_FILES: usize = 128;
/// Values of at least this many bytes are stored in blob files, which compaction does not rewrite.
const MIN_BLOB_BYTES: u32 = 512;
/// fjall delays commits from these numbers on.
const MAX_L0_RUNS: usize = 20;
const MAX_SEALED_MEMTABLES: usize = 4;
/// How often to check whether fjall's background threads have caught up.
const BACKGROUND_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long requests in flight may hold a database that has to be opened again.
const MAX_WAIT_TO_CLOSE: Duration = Duration::from_secs(20);

impl Store {
    /// Opens both databases in the directory.
    pub(super) fn open(directory: DataDirectory, flush: Flush) -> Result<Self, OpenError> {
        // In parallel, because creating a directory takes dozens of fsyncs.
        let (log, state) = std::thread::scope(|scope| {
            let state = scope.spawn(|| open_state(&directory));
            (open_log(&directory, flush), state.join())
        });
        let panicked =
            |_| OpenError::Damaged(directory.path().to_owned(), "the storage engine panicked".to_owned());
        let (log, state) = (log?, state.map_err(panicked)??);
        // fjall syncs neither the folder that contains its keyspaces nor the one that contains a database. If a power
        // failure loses the entries of these folders, everything below them is lost.
        for folder in ["log/keyspaces", "state/keyspaces", ""] {
            directory.sync_folder(folder)?;
        }
        Ok(Self {
            log: ReopenableDatabase::new(log),
            state: ReopenableDatabase::new(state),
            flush,
            failure: RwLock::default(),
            log_openings: AtomicU64::new(0),
            message_writes: Histogram::default(),
            disk_latency: DiskLatency::default(),
            directory,
        })
    }

    /// Returns the database with messages, timers and transactions.
    ///
    /// # Errors
    /// `Unavailable` while the database is being opened again.
    pub(super) fn log(&self) -> Result<Arc<OpenDatabase>, ServiceError> {
        self.log.get().ok_or_else(|| self.reopening_error())
    }

    /// Returns the database with cursors, leases and the catalog.
    ///
    /// # Errors
    /// As [`Store::log`].
    pub(super) fn state(&self) -> Result<Arc<OpenDatabase>, ServiceError> {
        self.state.get().ok_or_else(|| self.reopening_error())
    }

    /// Commits a change of the catalog and syncs it to the disk. Blocks. The journal is synced here and not by fjall,
    /// which would lock the database during the sync and so hold up commits of progress.
    pub(super) fn commit_catalog(&self, batch: OwnedWriteBatch) -> Result<(), ServiceError> {
        batch.commit().map_err(|e| unavailable(&e))?;
        journal::sync_newest(&self.directory.join(STATE)).map_err(|error| {
            self.set_state_failed();
            unavailable(&error.into())
        })
    }

    /// Waits as long as fjall would delay a commit of progress because its background threads are behind. Unlike fjall,
    /// it gives up if they fail. Blocks.
    pub(super) fn wait_for_background_work(&self) {
        let is_behind = || self.state.get().is_some_and(|state| state.is_behind());
        while is_behind() && self.failure().is_none() {
            std::thread::sleep(BACKGROUND_POLL_INTERVAL);
        }
    }

    /// Whether a commit of progress is unlikely to wait for the disk. Does not block.
    pub(super) fn can_commit_progress_at_once(&self) -> bool {
        let is_idle = |state: &OpenDatabase| !state.may_sync_under_locks();
        let opened = self.state.opened.try_read();
        self.disk_latency.is_low() && opened.is_some_and(|state| state.as_deref().is_some_and(is_idle))
    }

    /// Notes that a write to the database `state` has failed. It will be opened again.
    pub(super) fn set_state_failed(&self) {
        self.state.failed.store(true, Ordering::Release);
    }

    /// Fails after a failed write to the database `state`, until it is opened again. Its content may differ then.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) fn check_state(&self) -> Result<(), ServiceError> {
        if self.state.failed.load(Ordering::Acquire) { Err(self.reopening_error()) } else { Ok(()) }
    }

    /// Blocks everything that uses the database `state`, as a disk that does not respond would.
    #[cfg(test)]
    pub(super) fn hold_up_state(&self) -> impl Drop + '_ {
        self.state.opened.write()
    }

    /// The durability of messages when their commit returns.
    pub(super) fn message_durability(&self) -> PersistMode {
        match self.flush {
            Flush::Sync => PersistMode::SyncData,
            Flush::Async => PersistMode::Buffer,
        }
    }

    /// How many times the log was opened again. After each time it may contain messages whose sends were answered with an
    /// error.
    pub(super) fn log_openings(&self) -> u64 {
        self.log_openings.load(Ordering::Acquire)
    }

    /// Syncs everything to the disk.
    pub(super) fn sync(&self) -> Result<(), ServiceError> {
        for opened in [self.log()?, self.state()?] {
            opened.database.persist(PersistMode::SyncAll).map_err(|e| unavailable(&e))?;
        }
        Ok(())
    }

    /// The path of the data directory.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Why the storage can't be written now. `None` if it can.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.read().clone()
    }

    /// Fails while the storage can't be written.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) fn check_writable(&self) -> Result<(), ServiceError> {
        self.failure().map_or(Ok(()), |reason| Err(disk_failure(&reason)))
    }

    /// Sets why the storage can't be written now. `None` means that it can.
    pub(super) fn set_failure(&self, failure: Option<String>) {
        *self.failure.write() = failure;
    }

    /// Whether a write has failed since a database was opened.
    pub(super) fn needs_reopening(&self) -> bool {
        self.log.has_failed() || self.state.has_failed()
    }

    /// Closes the databases that have failed and opens them again.
    ///
    /// # Errors
    /// [`ReopenError`]. The database stays closed then, and the next call tries again.
    pub(super) fn reopen(&self) -> Result<(), ReopenError> {
        if self.log.has_failed() {
            self.log.reopen(|| open_log(&self.directory, self.flush))?;
            self.log_openings.fetch_add(1, Ordering::Release);
        }
        if self.state.has_failed() {
            self.state.reopen(|| open_state(&self.directory))?;
        }
        Ok(())
    }

    fn reopening_error(&self) -> ServiceError {
        let reason = self.failure().unwrap_or_else(|| "the database is being opened again".to_owned());
        disk_failure(&reason)
    }
}

/// Why a database was not opened again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReopenError {
    /// Requests in flight still use it.
    #[error("requests in flight still use the storage")]
    InUse,
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl ReopenableDatabase {
    fn new(opened: OpenDatabase) -> Self {
        Self { opened: RwLock::new(Some(Arc::new(opened))), failed: AtomicBool::new(false) }
    }

    fn get(&self) -> Option<Arc<OpenDatabase>> {
        self.opened.read().clone()
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
            || self.get().is_none_or(|opened| opened.database.persist(PersistMode::Buffer).is_err())
    }

    fn reopen(&self, open: impl Fn() -> Result<OpenDatabase, OpenError>) -> Result<(), ReopenError> {
        // Requests see that it is closed while it waits for others to finish.
        let closed = self.opened.write().take();
        if let Some(mut opened) = closed {
            let start = Instant::now();
            // Only the last reference closes the database.
            while let Err(still_used) = Arc::try_unwrap(opened) {
                if start.elapsed() > MAX_WAIT_TO_CLOSE {
                    return Err(ReopenError::InUse);
                }
                opened = still_used;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        *self.opened.write() = Some(Arc::new(open()?));
        self.failed.store(false, Ordering::Release);
        Ok(())
    }
}

impl OpenDatabase {
    fn new(database: Database, keyspace: Keyspace) -> Self {
        Self { database, keyspace, reclaiming: AtomicBool::new(false), damage: DamageReports::default() }
    }

    /// Runs work that compacts the database.
    pub(super) fn while_reclaiming<T>(&self, work: impl FnOnce() -> T) -> T {
        self.reclaiming.store(true, Ordering::Release);
        let result = work();
        self.reclaiming.store(false, Ordering::Release);
        result
    }

    /// Whether a commit could meet a lock that is held during an fsync: while a memtable is flushed, and while tables are
    /// compacted.
    fn may_sync_under_locks(&self) -> bool {
        self.database.write_buffer_size() >= STATE_MEMTABLE_BYTES
            || self.database.active_compactions() > 0
            || self.reclaiming.load(Ordering::Acquire)
    }

    /// Whether fjall would delay commits.
    fn is_behind(&self) -> bool {
        self.keyspace.tree.l0_run_count() >= MAX_L0_RUNS
            || self.keyspace.sealed_memtable_count() >= MAX_SEALED_MEMTABLES
    }

    /// A number that grows with every commit.
    pub(super) fn commits(&self) -> u64 {
        self.database.seqno()
    }

    /// Returns a batch that has the durability `mode` once its commit returns.
    pub(super) fn batch(&self, mode: PersistMode) -> OwnedWriteBatch {
        self.database.batch().durability(Some(mode))
    }
}

impl Deref for OpenDatabase {
    type Target = Keyspace;

    fn deref(&self) -> &Keyspace {
        &self.keyspace
    }
}

fn open_log(directory: &DataDirectory, flush: Flush) -> Result<OpenDatabase, OpenError> {
    let folder = directory.join(LOG);
    repair(directory, &folder, |_| flush == Flush::Sync)?;
    open_log_in(&folder, 2).map_err(|error| open_error(directory, error))
}

/// Opens the database `log` in this folder. With 0 worker threads, only the journal is written.
pub(super) fn open_log_in(folder: &Path, workers: usize) -> fjall::Result<OpenDatabase> {
    let database = Database::builder(folder)
        .cache_size(8 << 20)
        .journal_compression(CompressionType::None)
        .max_journaling_size(MAX_JOURNAL_BYTES)
        .max_cached_files(Some(MAX_OPEN_FILES))
        .manual_journal_persist(true)
        .worker_threads_unchecked(workers)
        .open()?;
    let separated = KvSeparationOptions::default()
        .compression(CompressionType::None)
        .separation_threshold(MIN_BLOB_BYTES)
        // All blob files with many outdated values are rewritten. By default fjall skips some of them.
        .age_cutoff(1.0);
    let keyspace =
        database.keyspace("log", || plain(LOG_MEMTABLE_BYTES).with_kv_separation(Some(separated)))?;
    Ok(OpenDatabase::new(database, keyspace))
}

fn open_state(directory: &DataDirectory) -> Result<OpenDatabase, OpenError> {
    let folder = directory.join(STATE);
    repair(directory, &folder, is_synced_in_state)?;
    open_state_in(&folder, 1).map_err(|error| open_error(directory, error))
}

/// Opens the database `state`, as [`open_log_in`].
pub(super) fn open_state_in(folder: &Path, workers: usize) -> fjall::Result<OpenDatabase> {
    let database = Database::builder(folder)
        .cache_size(2 << 20)
        .journal_compression(CompressionType::None)
        .max_journaling_size(MAX_STATE_JOURNAL_BYTES)
        .max_cached_files(Some(MAX_OPEN_FILES))
        .worker_threads_unchecked(workers)
        .open()?;
    let keyspace = database.keyspace("state", || plain(STATE_MEMTABLE_BYTES))?;
    Ok(OpenDatabase::new(database, keyspace))
}

/// Whether a batch of the database `state` was synced. Only changes of the catalog are.
pub(super) fn is_synced_in_state(batch: &journal::Batch<'_>) -> bool {
    batch.keys.iter().any(|key| key.starts_with(&keys::RESERVED_ID))
}

fn plain(memtable: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable)
        .data_block_compression_policy(CompressionPolicy::disabled())
}

fn repair(
    directory: &DataDirectory,
    folder: &Path,
    was_synced: impl Fn(&journal::Batch<'_>) -> bool,
) -> Result<(), OpenError> {
    let io = |error| OpenError::Io(directory.path().to_owned(), error);
    journal::remove_unfinished(folder).map_err(io)?;
    journal::repair(folder, was_synced).map_err(|error| match error {
        JournalError::Io(error) => io(error),
        JournalError::Damaged { file, at } => OpenError::DamagedJournal { file, at },
    })
}

fn open_error(directory: &DataDirectory, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Io(error) => OpenError::Io(directory.path().to_owned(), error),
        fjall::Error::Locked => OpenError::InUse(directory.path().to_owned()),
        other => OpenError::Damaged(directory.path().to_owned(), other.to_string()),
    }
}

/// Logs a failure of the storage, and converts it to an error for the client.
pub(super) fn unavailable(error: &fjall::Error) -> ServiceError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            log_failure(error);
            disk_failure(&error.to_string())
        }
        fjall::Error::Poisoned => disk_failure("an earlier write failed"),
        other => {
            log_failure(other);
            disk_failure(&other.to_string())
        }
    }
}

fn disk_failure(reason: &str) -> ServiceError {
    ServiceError::new(ServiceErrorKind::Unavailable, format!("the broker's disk can't be used now: {reason}"))
}

/// Logs a failure, at most once a second, because every request fails on a full disk.
fn log_failure(error: &dyn std::fmt::Display) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock();
    if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
        *last = Some(Instant::now());
        drop(last);
        tracing::error!(%error, "failed to access the storage");
    }
}

/// The error for a record that can't be read. `what` says what the record holds.
pub(super) fn unreadable(error: &fjall::Error, what: &str) -> ServiceError {
    if is_damage(error) { corrupt(what) } else { unavailable(error) }
}

/// Logs that a record can't be decoded, and returns the error for the client. `what` says what the record holds.
pub(super) fn corrupt(what: &str) -> ServiceError {
    log_failure(&format_args!("a stored {what} is damaged: run `store check` for details"));
    ServiceError::new(ServiceErrorKind::Unavailable, format!("the broker's storage is damaged: {what}"))
}
