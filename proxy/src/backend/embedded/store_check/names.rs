//! The names and ids of topics and groups, collected from the records of the database `state`.

use std::collections::{HashMap, HashSet};

use super::super::catalog_keys::{LITE_TOPIC, USER};
use super::super::catalog_record::{GroupRecord, TopicRecord};
use super::super::keys;
use super::super::lease::Lease;
use super::super::lite_topics::LiteRecord;

/// The names of topics and groups by their ids.
#[derive(Default)]
pub(super) struct StoredNames {
    topics: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    // The kinds and ids of deleted topics and groups whose data is not removed yet.
    deleted: HashSet<(u8, u32)>,
    // Their records come before those of topics.
    lite_topics: Vec<LiteRecord>,
    /// The number of leases.
    pub(super) leases: u64,
}

impl StoredNames {
    /// Names the lite topics by their LITE topics, once all records were added.
    pub(super) fn name_lite_topics(&mut self) {
        for LiteRecord { parent, name, id } in std::mem::take(&mut self.lite_topics) {
            let parent = self.topics.get(&parent).cloned().unwrap_or_else(|| format!("with the id {parent}"));
            self.topics.insert(id, format!("{parent}, lite topic {name}"));
        }
    }

    /// The number of topics, including lite topics.
    pub(super) fn topic_count(&self) -> u64 {
        self.topics.len() as u64
    }

    /// The number of groups.
    pub(super) fn group_count(&self) -> u64 {
        self.groups.len() as u64
    }

    /// The ids of all topics, including deleted ones whose data is not removed yet.
    pub(super) fn topic_ids(&self) -> HashSet<u32> {
        self.topics.keys().copied().chain(self.deleted_ids(b't')).collect()
    }

    /// The ids of all groups, including deleted ones whose data is not removed yet.
    pub(super) fn group_ids(&self) -> HashSet<u32> {
        self.groups.keys().copied().chain(self.deleted_ids(b'g')).collect()
    }

    fn deleted_ids(&self, wanted: u8) -> impl Iterator<Item = u32> {
        self.deleted.iter().filter(move |(kind, _)| *kind == wanted).map(|(_, id)| *id)
    }

    /// The highest id of a topic or a group.
    pub(super) fn highest_id(&self) -> u32 {
        let ids = self.topics.keys().chain(self.groups.keys()).chain(self.deleted.iter().map(|(_, id)| id));
        ids.copied().max().unwrap_or_default()
    }

    /// Describes a topic by its name, or by its id if the name is not known.
    pub(super) fn topic(&self, id: u32) -> String {
        let unknown = || format!("a deleted or lost topic with the id {id}");
        self.topics.get(&id).map_or_else(unknown, |name| format!("topic {name}"))
    }

    /// Describes the topic and the queue of a chunk by its key.
    pub(super) fn topic_of(&self, key: &[u8]) -> String {
        let number =
            |from: usize| key.get(from..from + 4).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes);
        let (topic, queue) = (number(0).unwrap_or_default(), number(4).unwrap_or_default());
        format!("{}, queue {queue}", self.topic(topic))
    }

    fn group(&self, id: u32) -> String {
        let unknown = || format!("a deleted or lost group with the id {id}");
        self.groups.get(&id).map_or_else(unknown, |name| format!("group {name}"))
    }

    /// Adds a record. Returns `None` if it can't be decoded.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(key) = key.strip_prefix(&keys::RESERVED_ID) {
            return self.add_to_catalog(key, value);
        }
        match keys::progress_parts(key)? {
            (_, Some(_)) => {
                Lease::decode(value).ok()?;
                self.leases += 1;
            }
            (_, None) => {
                <[u8; 8]>::try_from(value).ok()?;
            }
        }
        Some(())
    }

    fn add_to_catalog(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (kind, name) = key.split_first()?;
        let text = || std::str::from_utf8(name).ok();
        match *kind {
            b't' => {
                let record = TopicRecord::decode(text()?, value).ok()?;
                self.topics.insert(record.id, record.config.name);
            }
            b'g' => {
                let record = GroupRecord::decode(text()?, value).ok()?;
                self.groups.insert(record.id, record.config.name);
            }
            LITE_TOPIC => {
                let (parent, name) = name.split_first_chunk()?;
                let name = std::str::from_utf8(name).ok()?.to_owned();
                let id = u32::from_be_bytes(value.try_into().ok()?);
                self.lite_topics.push(LiteRecord { parent: u32::from_be_bytes(*parent), name, id });
            }
            USER => {
                text()?;
            }
            b'n' => {
                <[u8; 4]>::try_from(value).ok()?;
            }
            b'd' => {
                let (kind, id) = name.split_first()?;
                self.deleted.insert((*kind, u32::from_be_bytes(id.try_into().ok()?)));
            }
            b'r' => {}
            _ => return None,
        }
        Some(())
    }

    /// Describes a record of the database by its key.
    pub(super) fn describe(&self, key: &[u8]) -> String {
        if let Some(key) = key.strip_prefix(&keys::RESERVED_ID) {
            let (kind, name) = key.split_first().unwrap_or((&0, &[]));
            let name = String::from_utf8_lossy(name);
            return match *kind {
                b't' => format!("the record of topic {name}"),
                b'g' => format!("the record of group {name}"),
                USER => format!("the record of user {name}"),
                LITE_TOPIC => "the record of a lite topic".to_owned(),
                _ => "a record of the catalog".to_owned(),
            };
        }
        let id =
            |from: usize| key.get(from..from + 4).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes);
        match (id(0), id(4), id(8)) {
            (Some(group), Some(topic), Some(queue)) => {
                format!("the progress of {} in {}, queue {queue}", self.group(group), self.topic(topic))
            }
            _ => "the beginning".to_owned(),
        }
    }
}
