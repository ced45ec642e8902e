//! Gives the space of removed records back to the file system.
//!
//! To the storage engine, a removal is one more record. It drops both when it next merges the tables that hold them, which
//! happens because of what is written. When nobody sends, nothing is merged, and the space would stay taken.

use std::time::{Duration, Instant};

use fjall::{AbstractTree, AnyTree, PersistMode};

use super::keys;
use super::store::{Opened, ROOM_TO_OPEN, Store, unavailable};
use super::usage;
use crate::service::ServiceError;

/// Less than this is left to the engine.
const WORTHWHILE: u64 = 16 << 20;
/// Removed records are merged away once they take this part of all space, so that the rest is not copied for little.
const MIN_SHARE: u64 = 4;
/// The copying of tables holds up the engine's own merging. If more than this is to be copied, it waits until there are few
/// commits.
const COPIED_ANY_TIME: u64 = 256 << 20;
/// How many commits a second are few.
const FEW_COMMITS: u64 = 100;
/// The engine moves only a part of the outdated values at once.
const MAX_PASSES: usize = 12;
/// How long to wait for the engine to write the memory's records to a table.
const MAX_FLUSH: Duration = Duration::from_secs(30);
const FLUSH_POLL: Duration = Duration::from_millis(10);

/// Decides when space is given back. Keeps what is known from the pass before.
pub(super) struct Reclaim {
    log: Known,
    state: Known,
}

/// What is known of a database.
struct Known {
    /// The bytes of records that were removed since the last merge.
    removed: u64,
    /// Removed records may be left from an earlier process, which nobody has counted.
    is_new: bool,
    /// What the last merge left behind.
    left: Garbage,
    commits: u64,
    looked_at: Option<Instant>,
}

/// What could be given back, as the engine counts it.
#[derive(Clone, Copy, Default)]
struct Garbage {
    /// Removals in tables.
    removals: u64,
    /// The bytes of values that no table refers to.
    stale: u64,
}

impl Reclaim {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self { log: Known::new(), state: Known::new() }
    }

    /// Records that this many bytes of messages were removed.
    pub(super) fn removed(&mut self, bytes: u64) {
        self.log.removed = self.log.removed.saturating_add(bytes);
    }

    /// Gives space back where that is worthwhile. Reads and writes the disk, at most as much as the store holds.
    pub(super) fn run(&mut self, store: &Store) -> Result<(), ServiceError> {
        self.log.run(&*store.log()?, store)?;
        self.state.run(&*store.state()?, store)
    }
}

impl Known {
    fn new() -> Self {
        Self { removed: 0, is_new: true, left: Garbage::default(), commits: 0, looked_at: None }
    }

    fn run(&mut self, part: &Opened, store: &Store) -> Result<(), ServiceError> {
        let commits_a_second = self.commits_a_second(part);
        // Nothing is compared at the first look.
        let Some(rate) = commits_a_second else { return Ok(()) };
        let tree = &part.tree;
        let size = tree.disk_space();
        let tables = match tree {
            AnyTree::Standard(tree) => tree.disk_space(),
            AnyTree::Blob(tree) => tree.index.disk_space(),
        };
        let garbage = Garbage::of(part);
        let stale = garbage.stale.saturating_sub(self.left.stale);
        let removals = garbage.removals.saturating_sub(self.left.removals);
        let records = (tree.approximate_len() as u64).saturating_sub(garbage.removals).max(1);
        let in_tables = tables.saturating_mul(removals.min(records)) / records;
        let known = self.removed.max(in_tables).saturating_add(stale);
        let is_worthwhile = known >= WORTHWHILE && known.saturating_mul(MIN_SHARE) >= size;
        // What an earlier process removed may have been large.
        let may_be_worthwhile =
            self.is_new && removals > 0 && size >= WORTHWHILE && tables <= COPIED_ANY_TIME;
        let copied = tables.saturating_sub(in_tables).saturating_add(stale);
        if !(is_worthwhile || may_be_worthwhile) || (copied > COPIED_ANY_TIME && rate > FEW_COMMITS) {
            return Ok(());
        }
        // Files are removed only after what is left of them was copied.
        let room = usage::space(store.path()).map_or(0, |space| space.free);
        if room < copied.saturating_add(ROOM_TO_OPEN) {
            return Ok(());
        }
        self.merge(part, store, size)
    }

    /// The number of commits a second since the last look.
    fn commits_a_second(&mut self, part: &Opened) -> Option<u64> {
        let commits = part.commits();
        let (now, before) = (Instant::now(), self.looked_at);
        let made = commits.saturating_sub(std::mem::replace(&mut self.commits, commits));
        self.looked_at = Some(now);
        let millis = u64::try_from(now.duration_since(before?).as_millis()).unwrap_or(u64::MAX);
        Some(made.saturating_mul(1000) / millis.max(1))
    }

    fn merge(&mut self, part: &Opened, store: &Store, size: u64) -> Result<(), ServiceError> {
        if !flush(part, store)? {
            return Ok(());
        }
        let mut before = u64::MAX;
        // The first pass finds out which values are outdated. The following ones remove them, some at a time.
        for pass in 0..MAX_PASSES {
            let space = part.tree.disk_space();
            let is_done = pass > 0 && Garbage::of(part).stale < WORTHWHILE;
            if is_done || (pass > 1 && space >= before) || store.needs_reopening() {
                break;
            }
            before = space;
            part.major_compact().map_err(|e| unavailable(&e))?;
        }
        // The engine keeps files for readers of an earlier state. It looks for such readers when it writes a table, which
        // takes a record: this one removes what is never there.
        let mut batch = part.batch(PersistMode::SyncAll);
        batch.remove(part, keys::DECISIONS);
        batch.commit().map_err(|e| unavailable(&e))?;
        flush(part, store)?;
        (self.removed, self.is_new, self.left) = (0, false, Garbage::of(part));
        let freed = size.saturating_sub(part.tree.disk_space());
        tracing::info!(bytes = freed, "the space of removed records was given back");
        Ok(())
    }
}

impl Garbage {
    fn of(part: &Opened) -> Self {
        Self { removals: part.tree.tombstone_count(), stale: part.tree.stale_blob_bytes() }
    }
}

/// Writes what is in memory to a table. Returns whether that was done.
pub(super) fn flush(part: &Opened, store: &Store) -> Result<bool, ServiceError> {
    part.rotate_memtable().map_err(|e| unavailable(&e))?;
    let start = Instant::now();
    while part.sealed_memtable_count() > 0 {
        if start.elapsed() > MAX_FLUSH || store.needs_reopening() {
            return Ok(false);
        }
        std::thread::sleep(FLUSH_POLL);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::clock;
    use crate::backend::embedded::config::{EmbeddedConfig, Flush};
    use crate::backend::embedded::retention::{Oldest, Retention};
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

    /// The size of the files with messages.
    fn space(broker: &Broker) -> u64 {
        let size = |folder: &str| {
            let folder = broker.store.path().join("log/keyspaces/1").join(folder);
            let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("readable"));
            files.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum::<u64>()
        };
        size("tables") + size("blobs")
    }

    #[tokio::test]
    async fn space_comes_back_though_nobody_sends() {
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
            retention.remove_stored_before(Oldest::At(clock::now() + 1)).expect("removed");
            reclaim();
            assert!(space(&broker) < 8 << 20, "{}", space(&broker));
        }
    }

    #[tokio::test]
    async fn space_that_an_earlier_process_left_comes_back_and_messages_stay() {
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
        assert!(space(&broker) > WORTHWHILE, "{}", space(&broker));
        let mut reclaim = Reclaim::new();
        reclaim.run(&broker.store).expect("a first look");
        reclaim.run(&broker.store).expect("a pass");
        assert!(space(&broker) < 8 << 20, "{}", space(&broker));
        assert_eq!(receive(&broker, 1).await, ["kept"]);
    }

    #[tokio::test]
    async fn a_large_topic_that_was_removed_is_gone_after_a_restart_and_others_are_there() {
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
