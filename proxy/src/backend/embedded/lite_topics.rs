//! The lite topics. Each is a topic of its own with one queue, identified by its LITE topic and its name.
//!
//! The lists of topics don't contain them. Idle lite topics are only on the disk: each has a record `l` + id of the
//! LITE topic + name -> id next to the other records of the catalog ([`super::catalog_keys`]). The first send to a lite topic creates it.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use fjall::PersistMode;
use parking_lot::{Mutex, RwLock};

use super::catalog_ids::CatalogIds;
use super::catalog_keys::{Deleted, LITE_TOPIC, deleted_key, lite_topic_key, read_id, record_key};
use super::keys;
use super::lite_notifier::LiteNotifier;
use super::lite_ranges::LiteRanges;
use super::lite_subscriptions::Subscriptions;
use super::queue::Queue;
use super::store::{Store, corrupt, unavailable};
use super::topic::{LiteMembership, Topic};
use crate::service::{ServiceError, ServiceErrorKind};

/// The lite topics of all LITE topics. Call methods that read or write the disk on a thread that may block.
pub(super) struct LiteTopics {
    store: Arc<Store>,
    subscriptions: Arc<Subscriptions>,
    max_per_topic: usize,
    /// The lite topics in memory, by the id of the LITE topic.
    loaded: RwLock<HashMap<u32, ByName>>,
    /// The number of lite topics of each LITE topic, as far as they were counted. Locked during each load, creation and
    /// removal of a lite topic, and while idle ones are unloaded.
    counts: Mutex<HashMap<u32, usize>>,
    /// The ranges of lite topics that are not in memory. Used with `counts` locked, so that none is loaded or unloaded
    /// meanwhile.
    ranges: Mutex<LiteRanges>,
}

type ByName = HashMap<Arc<str>, Arc<Topic>>;
type NamedTopic = (Arc<str>, Arc<Topic>);

/// The record of a lite topic on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LiteRecord {
    /// The id of the LITE topic.
    pub(super) parent: u32,
    /// Its name.
    pub(super) name: String,
    /// The id of the lite topic itself.
    pub(super) id: u32,
}

impl LiteRecord {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, ServiceError> {
        let malformed = || corrupt("lite topic");
        let (parent, name) = key
            .get(keys::RESERVED_ID.len() + 1..)
            .and_then(<[u8]>::split_first_chunk)
            .ok_or_else(malformed)?;
        let name = String::from_utf8(name.to_vec()).map_err(|_| malformed())?;
        Ok(Self { parent: u32::from_be_bytes(*parent), name, id: read_id(value)? })
    }
}

impl LiteTopics {
    /// `max_per_topic` is the maximum number of lite topics of a LITE topic.
    pub(super) fn new(store: Arc<Store>, subscriptions: Arc<Subscriptions>, max_per_topic: usize) -> Self {
        Self {
            store,
            subscriptions,
            max_per_topic,
            loaded: RwLock::default(),
            counts: Mutex::default(),
            ranges: Mutex::default(),
        }
    }

    /// The subscriptions to lite topics.
    pub(super) fn subscriptions(&self) -> &Arc<Subscriptions> {
        &self.subscriptions
    }

    /// Returns a lite topic if it is in memory.
    pub(super) fn loaded(&self, parent: u32, name: &str) -> Option<Arc<Topic>> {
        self.loaded.read().get(&parent)?.get(name).cloned()
    }

    /// The lite topics of a LITE topic that are in memory, by id.
    pub(super) fn loaded_of(&self, parent: u32) -> HashMap<u32, Arc<Topic>> {
        let loaded = self.loaded.read();
        let topics = loaded.get(&parent).into_iter().flat_map(HashMap::values);
        topics.map(|topic| (topic.id(), topic.clone())).collect()
    }

    /// All lite topics that are in memory.
    pub(super) fn all_loaded(&self) -> Vec<Arc<Topic>> {
        self.loaded.read().values().flat_map(HashMap::values).cloned().collect()
    }

    /// Returns a lite topic if it exists. Reads the disk if it is not in memory.
    pub(super) fn load(&self, parent: &Arc<Topic>, name: &str) -> Result<Option<Arc<Topic>>, ServiceError> {
        let _one_at_a_time = self.counts.lock();
        self.load_locked(parent, name)
    }

    /// Returns an existing lite topic. Reads the disk if it is not in memory.
    ///
    /// # Errors
    /// `TopicNotFound`, `Unavailable`.
    pub(super) fn existing(&self, parent: &Arc<Topic>, name: &str) -> Result<Arc<Topic>, ServiceError> {
        self.load(parent, name)?.ok_or_else(|| {
            let text = format!("topic {} has no lite topic {name}", parent.config().name);
            ServiceError::new(ServiceErrorKind::TopicNotFound, text)
        })
    }

    /// Returns the queue of a lite topic, to read or to remove messages. If the lite topic is not in memory, the queue
    /// is a separate instance. That does no harm, because only the writer appends and only retention removes. Reads the
    /// disk.
    pub(super) fn queue(&self, store: &Store, record: &LiteRecord) -> Result<Arc<Queue>, ServiceError> {
        let topic = self.loaded(record.parent, &record.name);
        match topic.and_then(|topic| topic.peek_loaded()) {
            Some(queues) => Ok(queues[0].clone()),
            None => Queue::load(store, record.id, 0).map(Arc::new),
        }
    }

    /// Returns the first offset of a lite topic that is not removed, and the offset after the last. The lite topic must
    /// not be in memory. Reads the disk unless the range is cached.
    pub(super) fn stored_range(&self, id: u32) -> Result<(u64, u64), ServiceError> {
        let _one_at_a_time = self.counts.lock();
        self.ranges.lock().range(&self.store, id)
    }

    /// Returns when the message at this offset of a lite topic, or else the next stored message, was stored, in ms.
    /// See [`LiteTopics::stored_range`].
    pub(super) fn stored_at(&self, id: u32, offset: u64) -> Result<Option<u64>, ServiceError> {
        let _one_at_a_time = self.counts.lock();
        self.ranges.lock().stored_at(&self.store, id, offset)
    }

    /// Drops the cached range of a lite topic, because messages were removed.
    pub(super) fn messages_removed(&self, id: u32) {
        let _one_at_a_time = self.counts.lock();
        self.ranges.lock().forget(id);
    }

    fn load_locked(&self, parent: &Arc<Topic>, name: &str) -> Result<Option<Arc<Topic>>, ServiceError> {
        if let Some(found) = self.loaded(parent.id(), name) {
            return Ok(Some(found));
        }
        let record =
            self.store.state()?.get(lite_topic_key(parent.id(), name)).map_err(|e| unavailable(&e))?;
        record.map(|id| Ok(self.insert(parent, name, read_id(&id)?))).transpose()
    }

    fn insert(&self, parent: &Arc<Topic>, name: &str, id: u32) -> Arc<Topic> {
        let name: Arc<str> = name.into();
        let subscriptions = self.subscriptions.clone();
        let notifier = LiteNotifier { parent: parent.id(), name: name.clone(), subscriptions };
        let membership = LiteMembership { parent: parent.clone(), notifier: Arc::new(notifier) };
        let topic = Arc::new(Topic::lite(id, membership));
        self.loaded.write().entry(parent.id()).or_default().insert(name, topic.clone());
        topic
    }

    /// Returns lite topics of a LITE topic. Creates those that are missing, in one commit.
    ///
    /// # Errors
    /// `LiteTopicQuota` if there would be too many, `TopicNotFound` if the LITE topic was deleted, `Unavailable`.
    pub(super) fn load_or_create(
        &self,
        catalog_ids: &CatalogIds,
        parent: &Arc<Topic>,
        names: &BTreeSet<String>,
    ) -> Result<HashMap<String, Arc<Topic>>, ServiceError> {
        let mut counts = self.counts.lock();
        let mut topics = HashMap::with_capacity(names.len());
        let mut missing = Vec::new();
        for name in names {
            match self.load_locked(parent, name)? {
                Some(topic) => drop(topics.insert(name.clone(), topic)),
                None => missing.push(name),
            }
        }
        if missing.is_empty() {
            return Ok(topics);
        }
        let count = match counts.get(&parent.id()) {
            Some(count) => *count,
            None => self.count_records(parent.id())?,
        };
        if count + missing.len() > self.max_per_topic {
            let max = self.max_per_topic;
            let text = format!(
                "topic {} has reached its limit of {max} lite topics (max_lite_topics)",
                parent.config().name
            );
            return Err(ServiceError::new(ServiceErrorKind::LiteTopicQuota, text));
        }
        let mut ids = catalog_ids.lock();
        parent.check_alive()?;
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        let created: Vec<_> = missing.iter().zip(ids.take(missing.len(), &state, &mut batch)).collect();
        for (name, id) in &created {
            batch.insert(&state, lite_topic_key(parent.id(), name), id.to_be_bytes());
        }
        // If this fails, the records may nevertheless be on the disk, so they have to be counted again.
        counts.remove(&parent.id());
        self.store.commit_catalog(batch)?;
        drop(ids);
        counts.insert(parent.id(), count + created.len());
        for (name, id) in created {
            topics.insert((*name).clone(), self.insert(parent, name, id));
        }
        Ok(topics)
    }

    /// Returns the number of lite topics of a LITE topic. Reads the disk unless they were counted before.
    pub(super) fn count(&self, parent: u32) -> Result<usize, ServiceError> {
        let known = self.counts.lock().get(&parent).copied();
        known.map_or_else(|| self.count_records(parent), Ok)
    }

    fn count_records(&self, parent: u32) -> Result<usize, ServiceError> {
        let mut count = 0;
        for entry in self.store.state()?.prefix(lite_topic_key(parent, "")) {
            entry.key().map_err(|e| unavailable(&e))?;
            count += 1;
        }
        Ok(count)
    }

    /// Reads up to `max` records of one LITE topic, or of all, in order. Begins after `after`, or at the first record.
    pub(super) fn records(
        &self,
        parent: Option<u32>,
        after: Option<&LiteRecord>,
        max: usize,
    ) -> Result<Vec<LiteRecord>, ServiceError> {
        let begin = match (after, parent) {
            (Some(record), _) => Bound::Excluded(lite_topic_key(record.parent, &record.name)),
            (None, Some(parent)) => Bound::Included(lite_topic_key(parent, "")),
            (None, None) => Bound::Included(record_key(LITE_TOPIC, &[])),
        };
        let end = match parent.and_then(|parent| parent.checked_add(1)) {
            Some(next) => lite_topic_key(next, ""),
            None => record_key(LITE_TOPIC + 1, &[]),
        };
        let mut records = Vec::new();
        for entry in self.store.state()?.range((begin, Bound::Excluded(end))).take(max) {
            let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
            records.push(LiteRecord::decode(&key, &value)?);
        }
        Ok(records)
    }

    /// Removes a lite topic and its messages if it is not in use and the condition is true. The condition is evaluated
    /// while no request can begin to use the lite topic. Returns whether it was removed. Reads and writes the disk.
    pub(super) fn remove_if(
        &self,
        record: &LiteRecord,
        condition: impl FnOnce() -> Result<bool, ServiceError>,
    ) -> Result<bool, ServiceError> {
        // Every request that begins to use the lite topic waits for this lock.
        let mut counts = self.counts.lock();
        let Ok(unloaded) = self.unload(record) else { return Ok(false) };
        let is_met = condition();
        if !matches!(is_met, Ok(true)) {
            if let Some((name, topic)) = unloaded {
                self.loaded.write().entry(record.parent).or_default().insert(name, topic);
            }
            return is_met;
        }
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        batch.remove(&state, lite_topic_key(record.parent, &record.name));
        batch.insert(&state, deleted_key(Deleted::Topic(record.id)), Vec::new());
        counts.remove(&record.parent);
        self.ranges.lock().forget(record.id);
        self.store.commit_catalog(batch)?;
        Ok(true)
    }

    /// Unloads a lite topic if it is in memory.
    ///
    /// # Errors
    /// `InUse`.
    fn unload(&self, record: &LiteRecord) -> Result<Option<NamedTopic>, InUse> {
        let mut loaded = self.loaded.write();
        let Some(topics) = loaded.get_mut(&record.parent) else { return Ok(None) };
        // References are cloned only under the lock of the map, so nobody can get one meanwhile.
        if topics.get(record.name.as_str()).is_some_and(|topic| Arc::strong_count(topic) > 1) {
            return Err(InUse);
        }
        Ok(topics.remove_entry(record.name.as_str()))
    }

    /// Removes the record of a lite topic whose data was removed.
    pub(super) fn remove_record(&self, record: &LiteRecord) -> Result<(), ServiceError> {
        self.store.state()?.remove(lite_topic_key(record.parent, &record.name)).map_err(|e| unavailable(&e))
    }

    /// Unloads the lite topics that were not used since the last call.
    pub(super) fn unload_idle(&self) {
        for topic in self.all_loaded() {
            topic.unload_idle();
        }
        let _one_at_a_time = self.counts.lock();
        let mut loaded = self.loaded.write();
        let mut ranges = self.ranges.lock();
        for topics in loaded.values_mut() {
            topics.retain(|_, topic| {
                let stays = Arc::strong_count(topic) > 1 || !topic.is_unloaded();
                if !stays {
                    ranges.forget(topic.id());
                }
                stays
            });
        }
        loaded.retain(|_, topics| !topics.is_empty());
    }

    /// Drops the lite topics of a deleted LITE topic from memory.
    pub(super) fn forget(&self, parent: u32) {
        self.loaded.write().remove(&parent);
        self.counts.lock().remove(&parent);
        self.ranges.lock().clear();
    }
}

/// A lite topic is in use.
struct InUse;
