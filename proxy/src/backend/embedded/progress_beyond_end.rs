//! Corrects the progress of groups beyond the ends of queues. A power failure may lose messages that were not synced, but
//! not the progress beyond them. New messages get the offsets of lost ones, and no group may count these as consumed.
//!
//! Loading the progress of a group corrects it, too. But a group may load it only after new messages were stored, so after
//! an unclean stop all progress is corrected before the first of them.

use std::collections::{BTreeMap, HashMap};

use fjall::PersistMode;

use super::catalog::Catalog;
use super::keys;
use super::queue::Queue;
use super::record_kind::id;
use super::scan::{Item, Scan};
use super::store::{Store, unavailable};
use crate::service::ServiceError;

/// The key of a cursor or a lease.
#[derive(Clone, Copy)]
pub(super) struct ProgressKey {
    pub(super) group: u32,
    pub(super) topic: u32,
    pub(super) queue: u32,
    /// `None` if it is a cursor.
    offset: Option<u64>,
}

/// What to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Correction {
    /// It is correct.
    None,
    /// The lease is on a message that does not exist.
    EndLease,
    /// The cursor must be set to the end of the queue.
    SetCursor,
}

/// How many corrected queues are logged one by one.
const MAX_LOGGED: usize = 100;
/// The number of records that are written in one batch.
const BATCH_RECORDS: usize = 10_000;

impl ProgressKey {
    /// Returns the parts of a key. `None` if it is of another kind.
    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        let (queue, offset) = keys::progress_parts(key)?;
        (!key.starts_with(&keys::RESERVED_ID)).then(|| Self {
            group: id(key),
            topic: id(&key[4..]),
            queue,
            offset,
        })
    }

    /// What to do with its record in a queue with this end.
    pub(super) fn correction(self, value: &[u8], end: u64) -> Correction {
        match self.offset {
            Some(offset) if offset >= end => Correction::EndLease,
            None if self.position(value) > end => Correction::SetCursor,
            _ => Correction::None,
        }
    }

    /// The offset after the last message that the record is about.
    fn position(self, value: &[u8]) -> u64 {
        let cursor = || value.try_into().map_or(0, u64::from_be_bytes);
        self.offset.map_or_else(cursor, |offset| offset.saturating_add(1))
    }
}

/// Corrects the progress of all groups, and logs what was changed. Damaged records stay as they are. Blocks.
pub(super) fn correct_all(store: &Store, catalog: &Catalog) -> Result<(), ServiceError> {
    let state = store.state()?;
    let mut ends = HashMap::new();
    // By group, topic and queue: the highest position, and the end of the queue.
    let mut corrected = BTreeMap::new();
    let (mut batch, mut records) = (state.batch(PersistMode::SyncAll), 0);
    for item in Scan::range(&state, &1u32.to_be_bytes(), &[u8::MAX; 24]) {
        let Item::Entry(key, value) = item.map_err(|error| unavailable(&error))? else { continue };
        let Some(parts) = ProgressKey::parse(&key) else { continue };
        let (topic, queue) = (parts.topic, parts.queue);
        let end = match ends.get(&(topic, queue)) {
            Some(end) => *end,
            None => *ends.entry((topic, queue)).or_insert(Queue::load(store, topic, queue)?.end()),
        };
        match parts.correction(&value, end) {
            Correction::None => continue,
            Correction::EndLease => batch.remove(&state, key),
            Correction::SetCursor => batch.insert(&state, key, end.to_be_bytes()),
        }
        let (highest, _) = corrected.entry((parts.group, topic, queue)).or_insert((0, end));
        *highest = parts.position(&value).max(*highest);
        records += 1;
        if records == BATCH_RECORDS {
            let full = std::mem::replace(&mut batch, state.batch(PersistMode::SyncAll));
            full.commit().map_err(|error| unavailable(&error))?;
            records = 0;
        }
    }
    if records > 0 {
        batch.commit().map_err(|error| unavailable(&error))?;
    }
    report(&corrected, catalog);
    Ok(())
}

fn report(corrected: &BTreeMap<(u32, u32, u32), (u64, u64)>, catalog: &Catalog) {
    if corrected.is_empty() {
        return;
    }
    for ((group, topic, queue), (position, end)) in corrected.iter().take(MAX_LOGGED) {
        let group_name = catalog.group_by_id(*group).map(|group| group.config.name.clone());
        let topic_name = catalog.topic_by_id(*topic).map(|topic| topic.config().name);
        tracing::warn!(
            group = group_name,
            topic = topic_name,
            topic_id = topic,
            queue,
            position,
            end,
            "the group was beyond the end of the queue, and now continues at its end"
        );
    }
    tracing::warn!(
        queues = corrected.len(),
        "the last stop was not clean, and messages that groups had received were lost, because they are not synced \
         (flush = \"async\"). The positions of these groups were corrected"
    );
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::super::broker::Broker;
    use super::super::config::{EmbeddedConfig, Flush};
    use super::super::testing::{deliveries, open, receive, send, uncached};
    use crate::service::{Acknowledge, Settle};

    fn copy_folder(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("readable");
            let target = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => copy_folder(&entry.path(), &target),
                false => drop(fs::copy(entry.path(), target).expect("a copy")),
            }
        }
    }

    /// Settles the first of these messages, and leaves the others leased.
    async fn settle_first(broker: &Broker, max: usize) {
        let first = deliveries(broker, max).await.remove(0);
        let acknowledge = Acknowledge {
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            entries: vec![Settle::from(&first)],
            deadline: Instant::now() + Duration::from_secs(30),
        };
        let topic = broker.topic("topic").await.expect("a topic");
        broker.acknowledge_entries(&topic, acknowledge).await.expect("an answer");
    }

    #[tokio::test]
    async fn a_group_gets_messages_whose_offsets_were_lost_in_a_power_failure() {
        let (directory, saved) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let config = EmbeddedConfig { flush: Flush::Async, ..uncached(&directory) };
        let before = open(config.clone()).await;
        send(&before, ["0"]).await;
        settle_first(&before, 1).await;
        before.stop().expect("synced");
        drop(before);
        let log = directory.path().join("log");
        copy_folder(&log, saved.path());
        let interrupted = open(config.clone()).await;
        send(&interrupted, ["lost 1", "lost 2", "lost 3"]).await;
        settle_first(&interrupted, 3).await;
        interrupted.writer.stop();
        interrupted.progress_writer.stop();
        drop(interrupted);
        // The progress has reached the disk, but the messages have not.
        fs::remove_dir_all(&log).expect("removed");
        copy_folder(saved.path(), &log);
        let broker = open(config).await;
        // As many as were lost, before the group loads its progress.
        send(&broker, ["1", "2", "3", "4"]).await;
        assert_eq!(receive(&broker, 32).await, ["1", "2", "3", "4"]);
    }

    #[tokio::test]
    async fn only_an_unclean_stop_without_synced_messages_calls_for_a_correction() {
        for (flush, is_clean, expected) in
            [(Flush::Async, true, false), (Flush::Async, false, true), (Flush::Sync, false, false)]
        {
            let directory = tempfile::tempdir().expect("a folder");
            let config = EmbeddedConfig { flush, ..uncached(&directory) };
            let broker = open(config.clone()).await;
            assert!(!broker.store.directory.may_lack_messages, "a new directory");
            match is_clean {
                true => broker.stop().expect("synced"),
                false => broker.writer.stop(),
            }
            drop(broker);
            let again = open(config.clone()).await;
            assert_eq!(again.store.directory.may_lack_messages, expected, "{flush:?} {is_clean}");
        }
    }
}
