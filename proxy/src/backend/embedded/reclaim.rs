//! Returns the space of removed records to the file system.
//!
//! For the storage engine, a removal is another record. It drops both when it next compacts the tables that contain
//! them, which only happens when records are written. Without writes, the space would stay allocated.

use std::time::{Duration, Instant};

use fjall::{AbstractTree, AnyTree, PersistMode};

use super::disk_usage;
use super::keys;
use super::store::{MIN_FREE_BYTES_TO_OPEN, OpenDatabase, Store, unavailable};
use crate::service::ServiceError;

/// The fewest bytes of garbage that are worth a compaction.
const MIN_GARBAGE_BYTES: u64 = 16 << 20;
/// Garbage must take at least a fourth of all space, so that not too much live data is copied for little.
const MIN_SHARE: u64 = 4;
/// Copying tables delays the engine's own compactions. If more bytes than this have to be copied, reclaiming waits for
/// a time with few commits.
const MAX_COPIED_UNDER_LOAD: u64 = 256 << 20;
/// Up to this many commits a second count as few.
const LOW_COMMIT_RATE: u64 = 100;
/// The maximum number of compactions at once. Each rewrites only a part of the stale values.
const MAX_PASSES: usize = 12;
/// How long to wait for the engine to flush a memtable.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
const FLUSH_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Decides when to reclaim space.
pub(super) struct Reclaim {
    log: DatabaseState,
    state: DatabaseState,
}

/// The state of one database.
struct DatabaseState {
    /// The bytes of records that were removed since the last compaction.
    removed: u64,
    /// Whether there was no compaction yet. An earlier process may have left removed records, which were not counted.
    is_new: bool,
    /// The garbage that the last compaction left.
    left: Garbage,
    /// The number of commits at the last check.
    commits: u64,
    checked_at: Option<Instant>,
}

/// The garbage in a database, as the engine counts it.
#[derive(Clone, Copy, Default)]
struct Garbage {
    /// The number of tombstones in tables.
    removals: u64,
    /// The bytes of values to which no table refers.
    stale: u64,
}

impl Reclaim {
    /// Creates the state of a new process.
    pub(super) fn new() -> Self {
        Self { log: DatabaseState::new(), state: DatabaseState::new() }
    }

    /// Notes that this many bytes of messages were removed.
    pub(super) fn removed(&mut self, bytes: u64) {
        self.log.removed = self.log.removed.saturating_add(bytes);
    }

    /// Reclaims space if that is worthwhile. May read and write as many bytes as the store contains.
    pub(super) fn run(&mut self, store: &Store) -> Result<(), ServiceError> {
        self.log.run(&*store.log()?, store)?;
        self.state.run(&*store.state()?, store)
    }
}

impl DatabaseState {
    fn new() -> Self {
        Self { removed: 0, is_new: true, left: Garbage::default(), commits: 0, checked_at: None }
    }

    fn run(&mut self, database: &OpenDatabase, store: &Store) -> Result<(), ServiceError> {
        let commits_a_second = self.commits_a_second(database);
        // The first check has no rate yet.
        let Some(rate) = commits_a_second else { return Ok(()) };
        let tree = &database.tree;
        let size = tree.disk_space();
        let tables = match tree {
            AnyTree::Standard(tree) => tree.disk_space(),
            AnyTree::Blob(tree) => tree.index.disk_space(),
        };
        let garbage = Garbage::of(database);
        let stale = garbage.stale.saturating_sub(self.left.stale);
        let removals = garbage.removals.saturating_sub(self.left.removals);
        let records = (tree.approximate_len() as u64).saturating_sub(garbage.removals).max(1);
        let in_tables = tables.saturating_mul(removals.min(records)) / records;
        let known = self.removed.max(in_tables).saturating_add(stale);
        let is_worthwhile = known >= MIN_GARBAGE_BYTES && known.saturating_mul(MIN_SHARE) >= size;
        // The records that an earlier process removed may have been large.
        let may_be_worthwhile =
            self.is_new && removals > 0 && size >= MIN_GARBAGE_BYTES && tables <= MAX_COPIED_UNDER_LOAD;
        let copied = tables.saturating_sub(in_tables).saturating_add(stale);
        if !(is_worthwhile || may_be_worthwhile) || (copied > MAX_COPIED_UNDER_LOAD && rate > LOW_COMMIT_RATE)
        {
            return Ok(());
        }
        // Files are removed only after their live data was copied.
        let free = disk_usage::space(store.path()).map_or(0, |space| space.free);
        if free < copied.saturating_add(MIN_FREE_BYTES_TO_OPEN) {
            return Ok(());
        }
        database.while_reclaiming(|| self.compact(database, store, size))
    }

    /// The number of commits a second since the last check. `None` at the first check.
    fn commits_a_second(&mut self, database: &OpenDatabase) -> Option<u64> {
        let commits = database.commits();
        let (now, before) = (Instant::now(), self.checked_at);
        let count = commits.saturating_sub(std::mem::replace(&mut self.commits, commits));
        self.checked_at = Some(now);
        let millis = u64::try_from(now.duration_since(before?).as_millis()).unwrap_or(u64::MAX);
        Some(count.saturating_mul(1000) / millis.max(1))
    }

    fn compact(&mut self, database: &OpenDatabase, store: &Store, size: u64) -> Result<(), ServiceError> {
        if !flush(database, store)? {
            return Ok(());
        }
        let mut before = u64::MAX;
        // The first pass finds the stale values. Each of the following ones removes some of them.
        for pass in 0..MAX_PASSES {
            let space = database.tree.disk_space();
            let is_done = pass > 0 && Garbage::of(database).stale < MIN_GARBAGE_BYTES;
            if is_done || (pass > 1 && space >= before) || store.needs_reopening() {
                break;
            }
            before = space;
            database.major_compact().map_err(|e| unavailable(&e))?;
        }
        // The engine keeps files for readers of an earlier snapshot, and looks for such readers only when it writes a
        // table. The removal of an absent key makes it write one.
        let mut batch = database.batch(PersistMode::SyncAll);
        batch.remove(database, keys::DECISIONS);
        batch.commit().map_err(|e| unavailable(&e))?;
        flush(database, store)?;
        (self.removed, self.is_new, self.left) = (0, false, Garbage::of(database));
        let freed = size.saturating_sub(database.tree.disk_space());
        tracing::info!(bytes = freed, "reclaimed the space of removed records");
        Ok(())
    }
}

impl Garbage {
    fn of(database: &OpenDatabase) -> Self {
        Self { removals: database.tree.tombstone_count(), stale: database.tree.stale_blob_bytes() }
    }
}

/// Flushes the memtable to a table. Returns false if that was not finished in time or the database has failed.
pub(super) fn flush(database: &OpenDatabase, store: &Store) -> Result<bool, ServiceError> {
    database.rotate_memtable().map_err(|e| unavailable(&e))?;
    let start = Instant::now();
    while database.sealed_memtable_count() > 0 {
        if start.elapsed() > FLUSH_TIMEOUT || store.needs_reopening() {
            return Ok(false);
        }
        std::thread::sleep(FLUSH_POLL_INTERVAL);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::clock;
    use crate::backend::embedded::config::{EmbeddedConfig, Flush};
    use crate::backend::embedded::retention::{Cutoff, Retention};
    use crate::backend::embedded::testing::{open, receive, send};
    use crate::service::Message;

    /// Stores 24 MiB in messages of this size.
    fn config(directory: &tempfile::TempDir, default_queues: i32) -> EmbeddedConfig {
        let data_dir = directory.path().to_owned();
        let flush = Flush::Async;
        EmbeddedConfig { data_dir, flush, default_queues, cache_bytes: 0, ..EmbeddedConfig::default() }
    }

    fn retention(broker: &Broker) -> Retention {
        Retention::new(broker.store.clone(), broker.catalog.clone(), &broker.config)
    }

    async fn fill(broker: &Broker, topic: &str, size: usize) {
        let message = Message { body: vec![7; size].into(), ..Message::default() };
        for _ in 0..24 {
            let messages = vec![message.clone(); (1 << 20) / size];
            let deadline = Instant::now() + Duration::from_secs(60);
            broker.store_messages(topic, messages, deadline).await.expect("a send");
        }
    }

    /// The total size of the files with messages.
    fn space(broker: &Broker) -> u64 {
        let size = |folder: &str| {
            let folder = broker.store.path().join("log/keyspaces/1").join(folder);
            let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("readable"));
            files.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum::<u64>()
        };
        size("tables") + size("blobs")
    }

    #[tokio::test]
    async fn space_is_reclaimed_without_further_sends() {
        for (size, queues) in [(100_000, 1), (100, 500)] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let broker = open(config(&directory, queues)).await;
            send(&broker, ["kept"]).await;
            fill(&broker, "deleted", size).await;
            fill(&broker, "expired", size).await;
            broker.catalog.delete_topic("deleted").expect("deleted");
            let retention = retention(&broker);
            let reclaim = || retention.reclaim.lock().run(&broker.store).expect("a pass");
            reclaim();
            retention.remove_deleted().expect("removed");
            reclaim();
            assert!(space(&broker) < 32 << 20, "{}", space(&broker));
            retention.remove_stored_before(Cutoff::At(clock::now() + 1)).expect("removed");
            reclaim();
            assert!(space(&broker) < 8 << 20, "{}", space(&broker));
        }
    }

    #[tokio::test]
    async fn garbage_of_an_earlier_process_is_reclaimed_and_messages_stay() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(config(&directory, 1)).await;
        // Few records, so that no whole tables are dropped.
        for _ in 0..3 {
            fill(&broker, "deleted", 1 << 20).await;
        }
        send(&broker, ["kept"]).await;
        broker.catalog.delete_topic("deleted").expect("deleted");
        retention(&broker).remove_deleted().expect("removed");
        flush(&broker.store.log().expect("open"), &broker.store).expect("written");
        broker.writer.stop();
        drop(broker);

        let broker = open(config(&directory, 1)).await;
        assert!(space(&broker) > MIN_GARBAGE_BYTES, "{}", space(&broker));
        let mut reclaim = Reclaim::new();
        reclaim.run(&broker.store).expect("a first check");
        reclaim.run(&broker.store).expect("a pass");
        assert!(space(&broker) < 8 << 20, "{}", space(&broker));
        assert_eq!(receive(&broker, 1).await, ["kept"]);
    }

    #[tokio::test]
    async fn a_deleted_large_topic_stays_deleted_after_a_restart_and_others_remain() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(config(&directory, 1)).await;
        send(&broker, ["before"]).await;
        fill(&broker, "deleted", 100_000).await;
        send(&broker, ["after"]).await;
        let deleted = broker.topic("deleted").await.expect("a topic").id().to_be_bytes();
        broker.catalog.delete_topic("deleted").expect("deleted");
        retention(&broker).remove_deleted().expect("removed");
        let count = |broker: &Broker| broker.store.log().expect("open").prefix(deleted).count();
        assert_eq!(count(&broker), 0);
        broker.writer.stop();
        drop(broker);

        let broker = open(config(&directory, 1)).await;
        assert_eq!(count(&broker), 0);
        let mut left = Vec::new();
        while left.len() < 2 {
            left.extend(receive(&broker, 32).await);
        }
        assert_eq!(left, ["before", "after"]);
    }
}
