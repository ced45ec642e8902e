//! Removes the data of deleted topics and groups.

use fjall::{AbstractTree, PersistMode};

use super::catalog_keys::Deleted;
use super::damage::is_damage;
use super::keys;
use super::lite_retention::RECORDS_PER_READ;
use super::reclaim;
use super::record_kind::id;
use super::retention::{BATCH_RECORDS, Retention};
use super::scan::Scan;
use super::store::{OpenDatabase, corrupt, unavailable};
use crate::service::ServiceError;

/// How many topics are removed together. The progress of all groups is searched once for them.
const TOPICS_AT_ONCE: usize = 512;
/// The size of one in this many records is measured.
const SAMPLING_INTERVAL: usize = 8;
/// If a deleted topic has more records than this, whole tables are dropped.
const MIN_RECORDS_TO_DROP_TABLES: usize = if cfg!(test) { 100 } else { 10_000 };

impl Retention {
    /// Removes the data of deleted topics and groups.
    pub(super) fn remove_deleted(&self) -> Result<(), ServiceError> {
        let mut topics = Vec::new();
        for deleted in self.catalog.deleted()? {
            match deleted {
                Deleted::Topic(topic) => {
                    self.remove_lite_topics_of(topic)?;
                    topics.push(topic);
                }
                Deleted::Group(group) => {
                    remove_prefix(&*self.store.state()?, &group.to_be_bytes(), PersistMode::Buffer)?;
                    self.catalog.remove_deleted_record(deleted)?;
                }
            }
        }
        topics.sort_unstable();
        for topics in topics.chunks(TOPICS_AT_ONCE) {
            self.remove_topic_data(topics)?;
            topics.iter().try_for_each(|topic| self.catalog.remove_deleted_record(Deleted::Topic(*topic)))?;
        }
        Ok(())
    }

    /// Removes the lite topics of a LITE topic that was deleted.
    fn remove_lite_topics_of(&self, parent: u32) -> Result<(), ServiceError> {
        let mut after = None;
        loop {
            let page = self.catalog.lite.records(Some(parent), after.as_ref(), RECORDS_PER_READ)?;
            let mut topics: Vec<_> = page.iter().map(|record| record.id).collect();
            topics.sort_unstable();
            self.remove_topic_data(&topics)?;
            page.iter().try_for_each(|record| self.catalog.lite.remove_record(record))?;
            after = page.into_iter().last();
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Removes the messages of topics and the progress of all groups in them. The ids are sorted.
    fn remove_topic_data(&self, topics: &[u32]) -> Result<(), ServiceError> {
        for topic in topics {
            let log = self.store.log()?;
            self.drop_tables(&log, *topic)?;
            let bytes = remove_prefix(&log, &topic.to_be_bytes(), self.store.message_durability())?;
            self.reclaim.lock().removed(bytes);
        }
        for group in self.catalog.groups() {
            remove_progress(&*self.store.state()?, group.id, topics)?;
        }
        Ok(())
    }

    /// Drops the tables that contain only records of this topic, if it has many records. Removing each record would
    /// take longer and make the storage engine copy more. The records in other tables must be removed afterwards.
    fn drop_tables(&self, log: &OpenDatabase, topic: u32) -> Result<(), ServiceError> {
        let prefix = topic.to_be_bytes();
        if log.prefix(prefix).nth(MIN_RECORDS_TO_DROP_TABLES).is_none() {
            return Ok(());
        }
        // The journals with the dropped records must be removed, or the next start would read the records from them.
        // fjall keeps a journal as long as it is newer than all tables. This removal of an absent key gets into a table
        // that is not dropped.
        let mut batch = log.batch(PersistMode::SyncAll);
        batch.remove(log, keys::DECISIONS);
        batch.commit().map_err(|e| unavailable(&e))?;
        if !reclaim::flush(log, &self.store)? {
            return Ok(());
        }
        let end = topic.saturating_add(1).to_be_bytes();
        log.tree.drop_range(prefix..end).map_err(|error| unavailable(&fjall::Error::Storage(error)))
    }
}

/// Removes the progress of a group in these topics. The ids are sorted. Each search finds the next topic in which the
/// group has progress, so that a group with few topics takes few searches.
fn remove_progress(state: &OpenDatabase, group: u32, topics: &[u32]) -> Result<(), ServiceError> {
    let end = after(&group.to_be_bytes());
    let mut rest = topics;
    while let Some((topic, others)) = rest.split_first() {
        let prefix = keys::group_topic(group, *topic);
        let Some(key) = Scan::range(state, &prefix, &end).keys().next().transpose()? else { break };
        let found = key.get(4..8).map(id).ok_or_else(|| corrupt("progress key"))?;
        if found == *topic {
            remove_prefix(state, &prefix, PersistMode::Buffer)?;
            rest = others;
        } else {
            rest = &rest[rest.partition_point(|topic| *topic < found)..];
        }
    }
    Ok(())
}

/// Removes the records whose keys begin with `prefix`. Returns about how many bytes they had.
fn remove_prefix(
    database: &OpenDatabase,
    prefix: &[u8],
    durability: PersistMode,
) -> Result<u64, ServiceError> {
    let mut bytes = 0u64;
    let end = after(prefix);
    // Each step continues where the previous one ended. A search from the start would read all removals again.
    let mut from = prefix.to_vec();
    loop {
        let mut removals = database.batch(durability);
        for (index, key) in Scan::range(database, &from, &end).keys().take(BATCH_RECORDS).enumerate() {
            let key = key?;
            // The smallest key that follows.
            from = [&key[..], &[0]].concat();
            // Measuring a record costs as much as removing it.
            if index % SAMPLING_INTERVAL == 0 {
                let size = match database.size_of(&key) {
                    Ok(size) => size.unwrap_or_default(),
                    Err(error) if is_damage(&error) => 0,
                    Err(error) => return Err(unavailable(&error)),
                };
                bytes = bytes.saturating_add(u64::from(size) * SAMPLING_INTERVAL as u64);
            }
            removals.remove(database, key);
        }
        if removals.is_empty() {
            return Ok(bytes);
        }
        removals.commit().map_err(|e| unavailable(&e))?;
    }
}

/// The lowest key after all keys with this prefix, which ends in an id or in the ids of a group and a topic.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut after = prefix.to_vec();
    // Topics and groups get ids below the highest number.
    for byte in after.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte > 0 {
            break;
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::embedded::testing::{open, uncached};

    #[tokio::test]
    async fn only_the_progress_in_deleted_topics_is_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
        let state = broker.store.state().expect("open");
        let mut batch = state.batch(PersistMode::Buffer);
        for (group, topic) in [(7, 1), (7, 3), (7, 4), (7, 9), (7, 12), (8, 3), (9, 1)] {
            batch.insert(&state, keys::cursor(group, topic, 0), 1u64.to_be_bytes());
            batch.insert(&state, keys::lease(group, topic, 0, 5), Vec::new());
        }
        batch.commit().expect("written");
        for group in [6, 7, 8, 9] {
            remove_progress(&state, group, &[2, 3, 5, 6, 7, 8, 9, 10]).expect("removed");
        }
        let of_group = |group: u32| -> Vec<u32> {
            let keys = state.prefix(group.to_be_bytes()).map(|entry| entry.key().expect("readable"));
            keys.map(|key| id(&key[4..8])).collect()
        };
        assert_eq!(of_group(7), [1, 1, 4, 4, 12, 12]);
        assert_eq!((of_group(8), of_group(9)), (vec![], vec![1, 1]));
    }
}
