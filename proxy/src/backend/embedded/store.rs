//! The storage layout: two fjall databases in the data directory.
//!
//! | database | key | value |
//! |---|---|---|
//! | `log` | topic id, queue, first offset | a chunk: consecutive messages of the queue ([`super::chunk`]) |
//! | `log` | 0, due time in ms, sequence | a delayed message ([`super::timer`]) |
//! | `log` | topic id, 2^32 - 1, sequence | a half message ([`super::half_message`]) |
//! | `log` | topic id, 2^32 - 2, time in ms, sequence | its next check |
//! | `log` | 2^32 - 1, time in ms, sequence | a decision about a half message ([`super::decisions`]) |
//! | `state` | group id, topic id, queue | the cursor: the first offset that was not delivered to the group |
//! | `state` | group id, topic id, queue, offset | a lease ([`super::lease`]) |
//! | `state` | 0, kind byte, name or id | topics, groups, id counter, deleted topics ([`super::catalog`]) |
//!
//! Each database has one keyspace, since each keyspace costs about twenty fsyncs when a directory is created. Keys are
//! big-endian and have a fixed width ([`super::keys`]): a topic, a group and a queue each have a prefix, and the order
//! of keys is the order of offsets or times.
//!
//! Invariants
//! - Only the writer thread adds to `log`; retention removes what has expired. A send is answered after its batch is
//!   committed. With [`Flush::Sync`] every commit to `log` ends in an fdatasync. Concurrent sends share a batch.
//! - A half message, its check, the decision about it and the message in its queue change in one commit.
//! - Offsets of a queue are consecutive. The next one is the end of the last chunk, which is therefore kept on the disk
//!   when it has expired, until another one follows.
//! - A message below a group's cursor is consumed if it has no lease. If it has one, a consumer has it, or it waits for
//!   its next delivery, or in a FIFO group for its first one, behind others of its message group. The cursor is the
//!   higher one of its record and the offset after the last lease. Its record is written when a lease at or above it
//!   ends, not with every delivery.
//! - There are two databases because a commit locks its database's journal. Leases and acknowledgements never wait for
//!   the fsync of messages. They are handed to the operating system before they are answered, so they survive
//!   `kill -9`. A power failure may lose the last of them: then messages are delivered again. The catalog is synced, and
//!   progress does not wait for that either.
//! - Async threads don't wait for the disk: messages are written by the writer thread, progress by another thread
//!   ([`super::progress_writer`]).
//! - fjall syncs a blob file and not the folder with its name. ext4, XFS, Btrfs and F2FS keep the name of a synced file. On a
//!   file system that does not, a power failure may leave a database that can't be opened.
//! - After a failed write (a full disk, for example) a database refuses all writes until it is opened again
//!   ([`super::reopening`]), so that what was answered and what is on the disk can't differ. Clients are told
//!   `Unavailable` meanwhile.
//! - Ids of topics and groups begin with 1 and are never reused, so what is left of a deleted one can't be mistaken for
//!   another's.

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
use super::directory::{DataDirectory, OpenError};
use super::journal::{self, JournalError};
use super::keys;
use crate::histogram::Histogram;
use crate::service::{ServiceError, ServiceErrorKind};

/// The storage of the broker.
pub(super) struct Store {
    log: Part,
    state: Part,
    flush: Flush,
    /// Why nothing can be stored now, if so.
    failure: RwLock<Option<String>>,
    log_openings: AtomicU64,
    /// How long commits of messages took.
    pub(super) message_writes: Histogram,
    // Last, so that the directory is unlocked after the databases are closed.
    directory: DataDirectory,
}

/// A database that is open now, with its one keyspace. It can't be opened again while this is held.
pub(super) struct Opened {
    database: Database,
    keyspace: Keyspace,
}

/// One of the databases.
struct Part {
    /// `None` while it is being opened again.
    opened: RwLock<Option<Arc<Opened>>>,
    /// A write or a sync has failed since it was opened: it may hold less than it should, or more.
    failed: AtomicBool,
}

/// The folders of the databases.
pub(super) const LOG: &str = "log";
pub(super) const STATE: &str = "state";
/// Memtables are small: the journal replays them at the start, and an idle process keeps them in memory.
const LOG_MEMTABLE: u64 = 16 << 20;
const STATE_MEMTABLE: u64 = 8 << 20;
/// Room for the memtables that are flushed after a database is opened.
pub(super) const ROOM_TO_OPEN: u64 = LOG_MEMTABLE + STATE_MEMTABLE;
/// The least that fjall accepts: old journals are read at the start.
const JOURNALS: u64 = 64 << 20;
/// How many files of a database are kept open. The proxy reserves descriptors for them; fjall's default of 900 would take
/// those of connections.
const OPEN_FILES: usize = 128;
/// Values of this size are stored apart, so that compaction does not write them again.
const SEPARATED_FROM: u32 = 512;
/// fjall holds up commits from these numbers on.
const MAX_L0_RUNS: usize = 20;
const MAX_SEALED_MEMTABLES: usize = 4;
/// How long to wait before fjall's background work is looked at again.
const BACKGROUND_PAUSE: Duration = Duration::from_millis(10);
/// How long requests under way may hold a database that has to be opened again.
const MAX_WAIT_TO_CLOSE: Duration = Duration::from_secs(20);

impl Store {
    /// Opens both databases in the directory.
    pub(super) fn open(directory: DataDirectory, flush: Flush) -> Result<Self, OpenError> {
        // In parallel: a new directory takes dozens of fsyncs.
        let (log, state) = std::thread::scope(|scope| {
            let state = scope.spawn(|| open_state(&directory));
            (open_log(&directory, flush), state.join())
        });
        let panicked =
            |_| OpenError::Damaged(directory.path().to_owned(), "its storage engine failed".to_owned());
        let (log, state) = (log?, state.map_err(panicked)??);
        // fjall syncs neither the folder that its keyspaces are in nor the one that a database is in. Without their names a
        // power failure takes all that was synced below them.
        for folder in ["log/keyspaces", "state/keyspaces", ""] {
            directory.sync_names(folder)?;
        }
        directory.note_flush(flush).map_err(|error| OpenError::Io(directory.path().to_owned(), error))?;
        Ok(Self {
            log: Part::new(log),
            state: Part::new(state),
            flush,
            failure: RwLock::default(),
            log_openings: AtomicU64::new(0),
            message_writes: Histogram::default(),
            directory,
        })
    }

    /// Messages, timers and transactions.
    ///
    /// # Errors
    /// `Unavailable` while the database is being opened again.
    pub(super) fn log(&self) -> Result<Arc<Opened>, ServiceError> {
        self.log.get().ok_or_else(|| self.refusal())
    }

    /// Cursors, leases and the catalog.
    ///
    /// # Errors
    /// As [`Store::log`].
    pub(super) fn state(&self) -> Result<Arc<Opened>, ServiceError> {
        self.state.get().ok_or_else(|| self.refusal())
    }

    /// Writes a change of the catalog to the disk. Blocks. Progress can be committed meanwhile: the sync happens here because
    /// fjall would hold the database's lock during it.
    pub(super) fn commit_catalog(&self, batch: OwnedWriteBatch) -> Result<(), ServiceError> {
        batch.commit().map_err(|e| unavailable(&e))?;
        journal::sync_newest(&self.directory.part(STATE)).map_err(|error| {
            self.set_state_failed();
            unavailable(&error.into())
        })
    }

    /// Waits while fjall would hold up a commit of progress until its background threads have caught up. Unlike fjall, it
    /// gives up if they fail. Blocks.
    pub(super) fn wait_for_background_work(&self) {
        let is_behind = || self.state.get().is_some_and(|state| state.is_behind());
        while is_behind() && self.failure().is_none() {
            std::thread::sleep(BACKGROUND_PAUSE);
        }
    }

    /// Notes that a write to the database `state` has failed. It will be opened again.
    pub(super) fn set_state_failed(&self) {
        self.state.failed.store(true, Ordering::Release);
    }

    /// An error after a failed write to the database `state`, until it is opened again: it may hold something else then.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) fn check_state(&self) -> Result<(), ServiceError> {
        if self.state.failed.load(Ordering::Acquire) { Err(self.refusal()) } else { Ok(()) }
    }

    /// Holds up everything that uses the database `state`, as a disk that does not answer would.
    #[cfg(test)]
    pub(super) fn hold_up_state(&self) -> impl Drop + '_ {
        self.state.opened.write()
    }

    /// How durable messages are when their commit returns.
    pub(super) fn message_durability(&self) -> PersistMode {
        match self.flush {
            Flush::Sync => PersistMode::SyncData,
            Flush::Async => PersistMode::Buffer,
        }
    }

    /// How often the log was opened again. After each time it may hold messages whose sends were answered with an
    /// error.
    pub(super) fn log_openings(&self) -> u64 {
        self.log_openings.load(Ordering::Acquire)
    }

    /// Syncs everything to the disk.
    pub(super) fn sync(&self) -> Result<(), ServiceError> {
        for part in [self.log()?, self.state()?] {
            part.database.persist(PersistMode::SyncAll).map_err(|e| unavailable(&e))?;
        }
        Ok(())
    }

    /// The data directory.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Why nothing can be stored now, if so.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.read().clone()
    }

    /// An error while nothing can be stored.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) fn check_writable(&self) -> Result<(), ServiceError> {
        self.failure().map_or(Ok(()), |reason| Err(disk_failure(&reason)))
    }

    /// Notes why nothing can be stored now.
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

    fn refusal(&self) -> ServiceError {
        let reason = self.failure().unwrap_or_else(|| "it is being opened again".to_owned());
        disk_failure(&reason)
    }
}

/// Why a database was not opened again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReopenError {
    /// Requests under way still use it.
    #[error("a request that uses the storage does not end")]
    InUse,
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl Part {
    fn new(opened: Opened) -> Self {
        Self { opened: RwLock::new(Some(Arc::new(opened))), failed: AtomicBool::new(false) }
    }

    fn get(&self) -> Option<Arc<Opened>> {
        self.opened.read().clone()
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
            || self.get().is_none_or(|opened| opened.database.persist(PersistMode::Buffer).is_err())
    }

    fn reopen(&self, open: impl Fn() -> Result<Opened, OpenError>) -> Result<(), ReopenError> {
        if let Some(mut opened) = self.opened.write().take() {
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

impl Opened {
    fn is_behind(&self) -> bool {
        self.keyspace.tree.l0_run_count() >= MAX_L0_RUNS
            || self.keyspace.sealed_memtable_count() >= MAX_SEALED_MEMTABLES
    }

    /// A number that grows with every commit.
    pub(super) fn commits(&self) -> u64 {
        self.database.seqno()
    }

    /// A batch that is as durable as `mode` when its commit returns.
    pub(super) fn batch(&self, mode: PersistMode) -> OwnedWriteBatch {
        self.database.batch().durability(Some(mode))
    }
}

impl Deref for Opened {
    type Target = Keyspace;

    fn deref(&self) -> &Keyspace {
        &self.keyspace
    }
}

fn open_log(directory: &DataDirectory, flush: Flush) -> Result<Opened, OpenError> {
    let folder = directory.part(LOG);
    repair(directory, &folder, |_| flush == Flush::Sync)?;
    open_log_in(&folder, 2).map_err(|error| open_error(directory, error))
}

/// Opens the database `log` in this folder. Without worker threads nothing but a journal is written.
pub(super) fn open_log_in(folder: &Path, workers: usize) -> fjall::Result<Opened> {
    let database = Database::builder(folder)
        .cache_size(8 << 20)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNALS)
        .max_cached_files(Some(OPEN_FILES))
        .manual_journal_persist(true)
        .worker_threads_unchecked(workers)
        .open()?;
    let separated = KvSeparationOptions::default()
        .compression(CompressionType::None)
        .separation_threshold(SEPARATED_FROM)
        // Values are moved from all files that hold many outdated ones. By default some of these files stay.
        .age_cutoff(1.0);
    let keyspace = database.keyspace("log", || plain(LOG_MEMTABLE).with_kv_separation(Some(separated)))?;
    Ok(Opened { database, keyspace })
}

fn open_state(directory: &DataDirectory) -> Result<Opened, OpenError> {
    let folder = directory.part(STATE);
    repair(directory, &folder, is_synced_in_state)?;
    open_state_in(&folder, 1).map_err(|error| open_error(directory, error))
}

/// As [`open_log_in`], for the database `state`.
pub(super) fn open_state_in(folder: &Path, workers: usize) -> fjall::Result<Opened> {
    let database = Database::builder(folder)
        .cache_size(2 << 20)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNALS)
        .max_cached_files(Some(OPEN_FILES))
        .worker_threads_unchecked(workers)
        .open()?;
    let keyspace = database.keyspace("state", || plain(STATE_MEMTABLE))?;
    Ok(Opened { database, keyspace })
}

/// Whether a batch of the database `state` was synced: only changes of the catalog are.
pub(super) fn is_synced_in_state(batch: &journal::Batch<'_>) -> bool {
    batch.keys.iter().any(|key| key.starts_with(&keys::NOBODY))
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

/// A failure of the disk, for the client's user.
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

/// Logs a failure, at most one a second: a full disk fails every request.
fn log_failure(error: &dyn std::fmt::Display) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock();
    if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
        *last = Some(Instant::now());
        drop(last);
        tracing::error!(%error, "the storage failed");
    }
}

/// A record that can't be decoded.
pub(super) fn corrupt(what: &str) -> ServiceError {
    log_failure(&format_args!("it holds a {what} that can't be decoded"));
    ServiceError::new(ServiceErrorKind::Unavailable, format!("the broker's storage is damaged: {what}"))
}
