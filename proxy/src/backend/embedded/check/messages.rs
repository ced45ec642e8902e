//! The database `log`: whether all messages can be read, and which are missing.

use bytes::Bytes;

use super::super::chunk::Chunk;
use super::super::codec;
use super::super::half_message::{self, Record};
use super::super::keys;
use super::super::store::Opened;
use super::names::Names;
use super::scan::{Item, Scan};
use super::{BACKUP, COPY, Finding, Progress};

/// What the database holds.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) waiting: u64,
}

/// The place in the database.
#[derive(Default)]
struct Place {
    /// The topic and the queue.
    queue: Option<(u32, u32)>,
    /// The offset that the next chunk should have.
    next: Option<u64>,
    /// The offset from which on what was found is damaged.
    damaged_from: Option<u64>,
}

/// Reads the whole database.
pub(super) fn read(
    log: &Opened,
    names: &Names,
    findings: &mut Vec<Finding>,
    progress: &mut Progress<'_>,
) -> Result<Counts, fjall::Error> {
    let mut reading = Reading { names, findings, counts: Counts::default(), place: Place::default() };
    for item in Scan::new(log) {
        match item? {
            Item::Entry(key, value) => {
                progress.add(key.len() + value.len());
                let value = Bytes::from(value);
                if reading.entry(&key, value.clone()) {
                    progress.sink.log(&key, &value)?;
                }
            }
            Item::Damaged(key) => reading.damaged(&key),
            Item::Gap(before, after) => reading.gap(&before, after.as_deref()),
        }
    }
    reading.leave_queue();
    Ok(reading.counts)
}

struct Reading<'a> {
    names: &'a Names,
    findings: &'a mut Vec<Finding>,
    counts: Counts,
    place: Place,
}

impl Reading<'_> {
    /// Notes a record. Returns whether it is sound.
    fn entry(&mut self, key: &[u8], value: Bytes) -> bool {
        let is_sound = match kind(key) {
            Kind::Chunk { topic, queue, first } => return self.chunk((topic, queue), first, value),
            Kind::Timer => {
                self.counts.waiting += 1;
                value.len() >= 8
            }
            Kind::Half => {
                self.counts.waiting += 1;
                let record = Record::decode(value);
                record.is_ok_and(|record| codec::decode(&record.message.body).is_ok())
            }
            Kind::Check => half_message::decode_check(&value).is_ok(),
            Kind::Decision => value.len() == 1,
            Kind::Unknown => false,
        };
        if !is_sound {
            self.damaged(key);
        }
        is_sound
    }

    fn chunk(&mut self, queue: (u32, u32), first: u64, value: Bytes) -> bool {
        self.enter(queue);
        let Ok(chunk) = Chunk::parse(first, value) else {
            self.damaged_chunk(first);
            return false;
        };
        let decoded = |offset| chunk.message(offset).is_ok_and(|message| codec::decode(&message).is_ok());
        let unreadable: Vec<_> = (first..chunk.end()).filter(|offset| !decoded(*offset)).collect();
        self.end_damage(first);
        if let (Some(from), Some(to)) = (unreadable.first(), unreadable.last()) {
            self.lost(*from, Some(*to));
        }
        self.counts.messages += chunk.end() - first - unreadable.len() as u64;
        self.place.next = Some(chunk.end());
        unreadable.is_empty()
    }

    fn enter(&mut self, queue: (u32, u32)) {
        if self.place.queue != Some(queue) {
            self.leave_queue();
            self.place = Place { queue: Some(queue), next: None, damaged_from: None };
        }
    }

    /// Reports what is missing before this offset.
    fn end_damage(&mut self, first: u64) {
        let expected = self.place.next.filter(|next| *next < first);
        if let Some(from) = self.place.damaged_from.take().or(expected) {
            self.lost(from, Some(first.saturating_sub(1).max(from)));
        }
    }

    fn leave_queue(&mut self) {
        if let Some(from) = self.place.damaged_from.take() {
            self.lost(from, None);
        }
    }

    fn damaged_chunk(&mut self, first: u64) {
        let from = self.place.next.unwrap_or(first);
        self.place.damaged_from.get_or_insert(from);
    }

    fn damaged(&mut self, key: &[u8]) {
        match kind(key) {
            Kind::Chunk { topic, queue, first } => {
                self.enter((topic, queue));
                self.damaged_chunk(first);
            }
            kind => {
                let (what, cost) = kind.texts();
                let topic = match kind {
                    Kind::Half | Kind::Check => format!(" of {}", self.names.topic(id(key))),
                    _ => String::new(),
                };
                let place = format!("database log, {what}{topic}");
                self.findings.push(Finding::damage(place, cost, BACKUP));
            }
        }
    }

    fn gap(&mut self, before: &[u8], after: Option<&[u8]>) {
        if let Kind::Chunk { topic, queue, .. } = kind(before) {
            self.enter((topic, queue));
            let from = self.place.next.unwrap_or_default();
            self.place.damaged_from.get_or_insert(from);
        }
        let place = format!(
            "database log, a block of a table between {} and {}",
            self.describe(before),
            after.map_or_else(|| "the end".to_owned(), |after| self.describe(after)),
        );
        let cost = "the storage can't merge this table with others: writes will fail at some time";
        self.findings.push(Finding::damage(place, cost, COPY));
        // A block may reach into the queue that follows.
        if let Some(Kind::Chunk { topic, queue, first }) = after.map(kind)
            && self.place.queue != Some((topic, queue))
        {
            self.enter((topic, queue));
            if first > 0 {
                self.place.damaged_from = Some(0);
            }
        }
    }

    fn lost(&mut self, first: u64, last: Option<u64>) {
        let Some((topic, queue)) = self.place.queue else { return };
        let offsets = match last {
            Some(last) => format!("offsets {first} to {last}"),
            None => format!("offsets from {first} on"),
        };
        let cost = match last {
            Some(last) => format!("up to {} messages are lost", last - first + 1),
            None => "the last messages of the queue are lost".to_owned(),
        };
        self.findings.push(Finding {
            topic: Some(self.names.topic(topic)),
            queue: Some(queue),
            first_offset: Some(first),
            last_offset: last,
            ..Finding::damage(format!("{}, queue {queue}, {offsets}", self.names.topic(topic)), &cost, GO_ON)
        });
    }

    fn describe(&self, key: &[u8]) -> String {
        match kind(key) {
            Kind::Chunk { topic, queue, first } => {
                format!("offset {first} of {}, queue {queue}", self.names.topic(topic))
            }
            Kind::Unknown => "the beginning".to_owned(),
            kind => kind.texts().0.to_owned(),
        }
    }
}

const GO_ON: &str = "nothing has to be done: consumers go on after them. To have them back, restore the data directory from \
                     a backup";

/// What a key belongs to.
pub(super) enum Kind {
    Chunk { topic: u32, queue: u32, first: u64 },
    Half,
    Check,
    Timer,
    Decision,
    Unknown,
}

impl Kind {
    /// What it is, and what its loss costs.
    fn texts(&self) -> (&'static str, &'static str) {
        match self {
            Self::Timer => ("a delayed message", "the message is lost, and later ones may not be delivered"),
            Self::Half => ("a half message", "its transaction can't be committed"),
            Self::Check => {
                ("a check of a half message", "half messages of the topic are not checked any more")
            }
            Self::Decision => ("a decision about a half message", "the proxy does not start"),
            Self::Chunk { .. } => ("messages", "they are lost"),
            Self::Unknown => ("a record of an unknown kind", "it has no use for this version"),
        }
    }
}

/// What a key belongs to.
pub(super) fn kind(key: &[u8]) -> Kind {
    if keys::timer_parts(key).is_some() {
        return Kind::Timer;
    }
    if keys::decision_parts(key).is_some() {
        return Kind::Decision;
    }
    let (topic, queue) = (id(key), key.get(4..).map_or(0, id));
    match keys::chunk_first(key) {
        Some(_) if key.starts_with(&keys::half_messages(topic)) => Kind::Half,
        Some(first) => Kind::Chunk { topic, queue, first },
        None if key.len() == keys::check(0, 0, 0).len() => Kind::Check,
        None => Kind::Unknown,
    }
}

/// The number in the first four bytes.
pub(super) fn id(key: &[u8]) -> u32 {
    key.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
