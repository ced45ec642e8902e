//! The catalog: all topics and groups, in memory and on the disk. Its records are described in [`super::catalog_keys`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fjall::PersistMode;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::catalog_ids::{CatalogIds, CatalogLock};
use super::catalog_keys::{
    Deleted, LITE_TOPIC, USER, deleted_key, lite_topic_key, named_key, read_id, record_key,
};
use super::catalog_record::{GroupRecord, TopicRecord};
use super::keys;
use super::lite_topics::LiteTopics;
use super::scan::Scan;
use super::store::{OpenDatabase, Store, corrupt, unavailable, unreadable};
use super::topic::{Topic, not_found};
use crate::service::{Change, GroupConfig, GroupStart, ServiceError, ServiceErrorKind, TopicConfig};

/// A consumer group in memory.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The id with which its keys begin.
    pub(super) id: u32,
    /// Its configuration.
    pub(super) config: Arc<GroupConfig>,
}

/// What to do if the topic or group to be created exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfExists {
    /// Fail with `AlreadyExists`.
    Refuse,
    /// Set its new configuration.
    Replace,
    /// Return it unchanged. If it is missing, create it unless there are `limit` topics or groups.
    Keep {
        /// The maximum number of topics or groups.
        limit: usize,
    },
}

/// All topics and groups. Methods that change the catalog write to the disk. Call them on a thread that may block.
pub(super) struct Catalog {
    /// The lite topics. The lists of topics don't contain them.
    pub(super) lite: LiteTopics,
    /// Notified when a topic or a group was deleted, so that its data is removed.
    pub(super) deletion: Notify,
    pub(super) store: Arc<Store>,
    /// The records of users, by name.
    pub(super) users: Mutex<BTreeMap<String, Vec<u8>>>,
    topics: RwLock<Topics>,
    groups: RwLock<HashMap<String, Group>>,
    /// The next id. Locked during each change of the catalog.
    pub(super) ids: CatalogIds,
}

#[derive(Default)]
struct Topics {
    by_name: HashMap<String, Arc<Topic>>,
    by_id: HashMap<u32, Arc<Topic>>,
}

impl Catalog {
    /// Reads all topics and groups.
    pub(super) fn open(store: Arc<Store>, lite: LiteTopics) -> Result<Self, ServiceError> {
        let (mut topics, mut groups, mut next_id) = (Topics::default(), HashMap::new(), 1);
        let mut users = BTreeMap::new();
        for entry in records(&*store.state()?) {
            let (key, value) = entry.into_inner().map_err(|e| unreadable(&e, "block of the catalog"))?;
            let key = key.get(keys::RESERVED_ID.len()..).unwrap_or_default();
            let (kind, name) = key.split_first().ok_or_else(|| corrupt("catalog key"))?;
            let name = || std::str::from_utf8(name).map_err(|_| corrupt("name"));
            match *kind {
                b't' => {
                    let record = TopicRecord::decode(name()?, &value).map_err(|_| corrupt("topic"))?;
                    topics.insert(Arc::new(Topic::new(record.id, record.config, record.most_queues)));
                }
                b'g' => {
                    let record = GroupRecord::decode(name()?, &value).map_err(|_| corrupt("group"))?;
                    let group = Group { id: record.id, config: Arc::new(record.config) };
                    groups.insert(group.config.name.clone(), group);
                }
                USER => drop(users.insert(name()?.to_owned(), value.to_vec())),
                b'n' => next_id = read_id(&value)?,
                // Deleted topics and groups, and the retention clock.
                b'd' | b'r' => {}
                _ => return Err(corrupt("catalog key")),
            }
        }
        Ok(Self {
            lite,
            deletion: Notify::new(),
            store,
            users: Mutex::new(users),
            topics: RwLock::new(topics),
            groups: RwLock::new(groups),
            ids: CatalogIds::new(next_id),
        })
    }

    /// Returns a topic by its name.
    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().by_name.get(name).cloned()
    }

    /// Returns a topic by its id.
    pub(super) fn topic_by_id(&self, id: u32) -> Option<Arc<Topic>> {
        self.topics.read().by_id.get(&id).cloned()
    }

    /// Returns a group by its name.
    pub(super) fn group(&self, name: &str) -> Option<Group> {
        self.groups.read().get(name).cloned()
    }

    /// Where the group with this id starts in a topic from which it has not received. In a lite topic it starts with
    /// the first message: the lite topic is read only once a client subscribes to it.
    pub(super) fn start_of(&self, group: u32) -> GroupStart {
        self.group_by_id(group).map_or(GroupStart::Default, |group| match group.config.lite_bind_topic {
            Some(_) => GroupStart::Earliest,
            None => group.config.start,
        })
    }

    /// Returns a group by its id.
    pub(super) fn group_by_id(&self, id: u32) -> Option<Group> {
        self.groups.read().values().find(|group| group.id == id).cloned()
    }

    /// All topics, sorted by name.
    pub(super) fn topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> =
            self.topics.read().by_name.iter().map(|(n, t)| (n.clone(), t.clone())).collect();
        topics.sort_by(|a, b| a.0.cmp(&b.0));
        topics.into_iter().map(|(_, topic)| topic).collect()
    }

    /// All topics, and the lite topics that are in memory.
    pub(super) fn topics_and_lite_topics(&self) -> Vec<Arc<Topic>> {
        let mut topics = self.topics();
        topics.extend(self.lite.all_loaded());
        topics
    }

    /// All groups, sorted by name.
    pub(super) fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<_> = self.groups.read().values().cloned().collect();
        groups.sort_by(|a, b| a.config.name.cmp(&b.config.name));
        groups
    }

    /// Creates or changes a topic.
    pub(super) fn put_topic(
        &self,
        config: TopicConfig,
        existing: IfExists,
    ) -> Result<Arc<Topic>, ServiceError> {
        check_queues(&config)?;
        let mut ids = self.ids.lock();
        let old = self.topic(&config.name);
        match (&old, existing) {
            (Some(topic), IfExists::Keep { .. }) => return Ok(topic.clone()),
            (Some(_), IfExists::Refuse) => return Err(exists("topic", &config.name)),
            (None, IfExists::Keep { limit }) if self.topics.read().by_name.len() >= limit => {
                return Err(too_many("topic", &config.name, limit));
            }
            _ => {}
        }
        self.write_topic(&mut ids, old, config)
    }

    /// Changes the configuration of a topic atomically.
    pub(super) fn change_topic(&self, name: &str, change: &Change<TopicConfig>) -> Result<(), ServiceError> {
        let mut ids = self.ids.lock();
        let topic = self.topic(name).ok_or_else(|| not_found(name))?;
        let config = change(&topic.config())?;
        check_queues(&config)?;
        self.write_topic(&mut ids, Some(topic), config).map(drop)
    }

    fn write_topic(
        &self,
        ids: &mut CatalogLock<'_>,
        old: Option<Arc<Topic>>,
        config: TopicConfig,
    ) -> Result<Arc<Topic>, ServiceError> {
        let queues = usize::try_from(config.read_queues.max(config.write_queues));
        let queues = queues.expect("the numbers of queues were checked");
        let most_queues = old.as_ref().map_or(0, |topic| topic.most_queues()).max(queues);
        let id = old.as_ref().map_or(ids.next(), |topic| topic.id());
        let record = TopicRecord { id, config: config.clone(), most_queues };
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        batch.insert(&state, named_key(b't', &config.name), record.encode());
        ids.advance_past(id, &state, &mut batch);
        self.store.commit_catalog(batch)?;
        if let Some(topic) = old {
            topic.reconfigure(config, most_queues, &self.store)?;
            return Ok(topic);
        }
        let topic = Arc::new(Topic::new(id, config, most_queues));
        self.topics.write().insert(topic.clone());
        Ok(topic)
    }

    /// Creates or changes a group.
    pub(super) fn put_group(&self, config: GroupConfig, existing: IfExists) -> Result<Group, ServiceError> {
        let mut ids = self.ids.lock();
        let old = self.group(&config.name);
        match (&old, existing) {
            (Some(group), IfExists::Keep { .. }) => return Ok(group.clone()),
            (Some(_), IfExists::Refuse) => return Err(exists("group", &config.name)),
            (None, IfExists::Keep { limit }) if self.groups.read().len() >= limit => {
                return Err(too_many("group", &config.name, limit));
            }
            _ => {}
        }
        let id = old.map_or(ids.next(), |group| group.id);
        self.write_group(&mut ids, id, config)
    }

    /// Changes the configuration of a group atomically.
    pub(super) fn change_group(&self, name: &str, change: &Change<GroupConfig>) -> Result<(), ServiceError> {
        let mut ids = self.ids.lock();
        let group = self.group(name).ok_or_else(|| group_not_found(name))?;
        let config = change(&group.config)?;
        self.write_group(&mut ids, group.id, config).map(drop)
    }

    fn write_group(
        &self,
        ids: &mut CatalogLock<'_>,
        id: u32,
        config: GroupConfig,
    ) -> Result<Group, ServiceError> {
        let record = GroupRecord { id, config };
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        batch.insert(&state, named_key(b'g', &record.config.name), record.encode());
        ids.advance_past(id, &state, &mut batch);
        self.store.commit_catalog(batch)?;
        let group = Group { id, config: Arc::new(record.config) };
        self.groups.write().insert(group.config.name.clone(), group.clone());
        Ok(group)
    }

    /// Deletes a topic. Its messages are removed later.
    pub(super) fn delete_topic(&self, name: &str) -> Result<(), ServiceError> {
        let one_at_a_time = self.ids.lock();
        let topic = self.topic(name).ok_or_else(|| not_found(name))?;
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        batch.remove(&state, named_key(b't', name));
        batch.insert(&state, deleted_key(Deleted::Topic(topic.id())), Vec::new());
        self.store.commit_catalog(batch)?;
        let mut topics = self.topics.write();
        topics.by_name.remove(name);
        topics.by_id.remove(&topic.id());
        drop(topics);
        topic.delete();
        drop(one_at_a_time);
        self.lite.forget(topic.id());
        self.deletion.notify_one();
        Ok(())
    }

    /// Deletes a group. Its progress is removed later.
    pub(super) fn delete_group(&self, name: &str) -> Result<(), ServiceError> {
        let _one_at_a_time = self.ids.lock();
        let group = self.group(name).ok_or_else(|| group_not_found(name))?;
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        batch.remove(&state, named_key(b'g', name));
        batch.insert(&state, deleted_key(Deleted::Group(group.id)), Vec::new());
        self.store.commit_catalog(batch)?;
        self.groups.write().remove(name);
        for topic in self.topics_and_lite_topics() {
            topic.forget_consumer(group.id);
        }
        self.deletion.notify_one();
        Ok(())
    }

    /// Reads the deleted topics and groups whose data is not removed yet.
    pub(super) fn deleted(&self) -> Result<Vec<Deleted>, ServiceError> {
        let mut found = Vec::new();
        let state = self.store.state()?;
        // The data of those that can't be read stays.
        for key in Scan::range(&state, &record_key(b'd', &[]), &record_key(b'd' + 1, &[])).keys() {
            let key = key?;
            let (kind, id) =
                key[keys::RESERVED_ID.len() + 1..].split_first().ok_or_else(|| corrupt("catalog key"))?;
            let id = read_id(id)?;
            found.push(if *kind == b't' { Deleted::Topic(id) } else { Deleted::Group(id) });
        }
        Ok(found)
    }

    /// Removes the record of a deleted topic or group after its data was removed.
    pub(super) fn remove_deleted_record(&self, deleted: Deleted) -> Result<(), ServiceError> {
        self.store.state()?.remove(deleted_key(deleted)).map_err(|e| unavailable(&e))
    }

    /// Writes the catalog in memory to the disk. After failed writes the two may differ.
    pub(super) fn rewrite(&self) -> Result<(), ServiceError> {
        let ids = self.ids.lock();
        let (topics, groups) = (self.topics(), self.groups());
        let mut records = HashMap::new();
        for topic in &topics {
            let (id, config, most_queues) = (topic.id(), topic.config(), topic.most_queues());
            let key = named_key(b't', &config.name);
            records.insert(key, TopicRecord { id, config, most_queues }.encode());
        }
        for group in &groups {
            let record = GroupRecord { id: group.id, config: group.config.as_ref().clone() };
            records.insert(named_key(b'g', &record.config.name), record.encode());
        }
        for (name, record) in &*self.users.lock() {
            records.insert(named_key(USER, name), record.clone());
        }
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        for entry in self::records(&state) {
            let key = entry.key().map_err(|e| unavailable(&e))?;
            let is_record = matches!(key.get(keys::RESERVED_ID.len()), Some(b't' | b'g' | &USER));
            if is_record && !records.contains_key(&*key) {
                batch.remove(&state, key);
            }
        }
        for (key, record) in records {
            batch.insert(&state, key, record);
        }
        for topic in self.lite.all_loaded().iter().filter(|topic| topic.check_alive().is_ok()) {
            let lite = &topic.lite_membership().expect("lite topics have one").notifier;
            batch.insert(&state, lite_topic_key(lite.parent, &lite.name), topic.id().to_be_bytes());
            batch.remove(&state, deleted_key(Deleted::Topic(topic.id())));
        }
        // The data of existing topics and groups must not be removed.
        let topics = topics.iter().map(|topic| Deleted::Topic(topic.id()));
        for kept in topics.chain(groups.iter().map(|group| Deleted::Group(group.id))) {
            batch.remove(&state, deleted_key(kept));
        }
        ids.add_next_to(&state, &mut batch);
        self.store.commit_catalog(batch)
    }
}

/// Iterates over all records except those of lite topics, of which there may be a million.
fn records(state: &OpenDatabase) -> impl Iterator<Item = fjall::Guard> {
    let below = state.range(record_key(0, &[])..record_key(LITE_TOPIC, &[]));
    below.chain(state.range(record_key(LITE_TOPIC + 1, &[])..record_key(u8::MAX, &[])))
}

impl Topics {
    fn insert(&mut self, topic: Arc<Topic>) {
        self.by_id.insert(topic.id(), topic.clone());
        self.by_name.insert(topic.config().name, topic);
    }
}

/// The error for a group that does not exist.
pub(super) fn group_not_found(name: &str) -> ServiceError {
    ServiceError::new(ServiceErrorKind::GroupNotFound, format!("no consumer group {name}"))
}

fn exists(what: &str, name: &str) -> ServiceError {
    ServiceError::new(ServiceErrorKind::AlreadyExists, format!("{what} {name} already exists"))
}

fn too_many(what: &str, name: &str, limit: usize) -> ServiceError {
    let text = format!(
        "the {what} {name} does not exist, and requests create no more than {limit} {what}s (auto_create_limit)"
    );
    ServiceError::new(ServiceErrorKind::Forbidden, text)
}

fn check_queues(config: &TopicConfig) -> Result<(), ServiceError> {
    let sane = 0..=MAX_QUEUES;
    if sane.contains(&config.read_queues) && sane.contains(&config.write_queues) {
        return Ok(());
    }
    let text = format!("the number of queues must be between 0 and {MAX_QUEUES}");
    Err(ServiceError::new(ServiceErrorKind::Rejected, text))
}

/// The maximum number of queues of a topic. A receive scans every queue, and would be slow with more.
const MAX_QUEUES: i32 = 1024;
