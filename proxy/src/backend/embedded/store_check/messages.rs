//! Checks the database `log`: whether all messages can be read, and which are missing.

use bytes::Bytes;

use super::super::chunk::Chunk;
use super::super::codec;
use super::super::half_message::{CheckRecord, HalfMessage};
use super::super::record_kind::RecordKind;
use super::super::scan::{Item, Scan};
use super::super::store::OpenDatabase;
use super::super::timer;
use super::finding::{BACKUP_ADVICE, COPY_ADVICE, Finding};
use super::names::StoredNames;
use super::progress::CheckProgress;

/// The numbers of messages in the database.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) waiting: u64,
}

/// The current position of the check.
#[derive(Default)]
struct ScanPosition {
    /// The topic and the queue.
    queue: Option<(u32, u32)>,
    /// The offset that the next chunk should have.
    next: Option<u64>,
    /// The first offset of the current damage. `None` if the last chunk was readable.
    damaged_from: Option<u64>,
}

/// Reads the whole database.
pub(super) fn read(
    log: &OpenDatabase,
    names: &StoredNames,
    findings: &mut Vec<Finding>,
    progress: &mut CheckProgress<'_>,
) -> Result<Counts, fjall::Error> {
    let mut check = MessagesCheck {
        names,
        findings,
        counts: Counts::default(),
        position: ScanPosition::default(),
        after_gap: None,
    };
    for item in Scan::all(log) {
        match item? {
            Item::Entry(key, value) => {
                progress.add(key.len() + value.len());
                let value = Bytes::from(value);
                if check.entry(&key, value.clone()) {
                    progress.sink.log(&key, &value)?;
                }
            }
            Item::Damaged(key) => check.damaged(&key),
            Item::Gap(before, after) => check.gap(&before, after.as_deref()),
        }
    }
    check.leave_queue();
    Ok(check.counts)
}

struct MessagesCheck<'a> {
    names: &'a StoredNames,
    findings: &'a mut Vec<Finding>,
    counts: Counts,
    position: ScanPosition,
    /// The queue whose records follow the last damaged block, if the block may extend into it.
    after_gap: Option<(u32, u32)>,
}

impl MessagesCheck<'_> {
    /// Checks a record. Returns whether it is sound.
    fn entry(&mut self, key: &[u8], value: Bytes) -> bool {
        let is_sound = match RecordKind::of(key) {
            RecordKind::Chunk { topic, queue, first } => return self.chunk((topic, queue), first, value),
            RecordKind::Timer => {
                self.counts.waiting += 1;
                timer::is_sound(value)
            }
            RecordKind::Half { .. } => {
                self.counts.waiting += 1;
                let record = HalfMessage::decode(value);
                record.is_ok_and(|record| codec::decode(&record.message.body).is_ok())
            }
            RecordKind::Check { .. } => CheckRecord::decode(&value).is_ok(),
            RecordKind::Decision => value.len() == 1,
            RecordKind::Unknown => false,
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
        self.position.next = Some(chunk.end());
        unreadable.is_empty()
    }

    fn enter(&mut self, queue: (u32, u32)) {
        if self.position.queue != Some(queue) {
            self.leave_queue();
            let damaged_from = self.after_gap.take_if(|after| *after == queue).map(|_| 0);
            self.position = ScanPosition { queue: Some(queue), next: None, damaged_from };
        }
    }

    /// Reports the messages that are missing before this offset.
    fn end_damage(&mut self, first: u64) {
        let expected = self.position.next.filter(|next| *next < first);
        if let Some(from) = self.position.damaged_from.take().or(expected) {
            self.lost(from, Some(first.saturating_sub(1).max(from)));
        }
    }

    fn leave_queue(&mut self) {
        if let Some(from) = self.position.damaged_from.take() {
            self.lost(from, None);
        }
    }

    fn damaged_chunk(&mut self, first: u64) {
        let from = self.position.next.unwrap_or(first);
        self.position.damaged_from.get_or_insert(from);
    }

    fn damaged(&mut self, key: &[u8]) {
        match RecordKind::of(key) {
            RecordKind::Chunk { topic, queue, first } => {
                self.enter((topic, queue));
                self.damaged_chunk(first);
            }
            kind => {
                let topic = kind.topic().map(|topic| format!(" of {}", self.names.topic(topic)));
                let place = format!("database log, {}{}", kind.description(), topic.unwrap_or_default());
                self.findings.push(Finding::damage(place, kind.cost(), BACKUP_ADVICE));
            }
        }
    }

    fn gap(&mut self, before: &[u8], after: Option<&[u8]>) {
        if let RecordKind::Chunk { topic, queue, .. } = RecordKind::of(before) {
            self.enter((topic, queue));
            let from = self.position.next.unwrap_or_default();
            self.position.damaged_from.get_or_insert(from);
        }
        let place = format!(
            "database log, a block of a table between {} and {}",
            self.describe(before),
            after.map_or_else(|| "the end".to_owned(), |after| self.describe(after)),
        );
        // Lost messages of queues are reported with their offsets.
        let kinds = [Some(before), after].into_iter().flatten().map(RecordKind::of);
        let mut costs: Vec<_> = kinds.filter_map(RecordKind::cost_of_gap).collect();
        costs.push("the storage engine can't merge this table with others: writes will fail eventually");
        costs.dedup();
        let cost = costs.join("; ");
        self.findings.push(Finding::damage(place, &cost, COPY_ADVICE));
        // Before the records of the next queue, there may be others that were stored after the damage.
        self.after_gap = match after.map(RecordKind::of) {
            Some(RecordKind::Chunk { topic, queue, first }) if first > 0 => Some((topic, queue)),
            _ => None,
        };
    }

    fn lost(&mut self, first: u64, last: Option<u64>) {
        let Some((topic, queue)) = self.position.queue else { return };
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
            ..Finding::damage(
                format!("{}, queue {queue}, {offsets}", self.names.topic(topic)),
                &cost,
                LOST_MESSAGES_ADVICE,
            )
        });
    }

    fn describe(&self, key: &[u8]) -> String {
        match RecordKind::of(key) {
            RecordKind::Chunk { topic, queue, first } => {
                format!("offset {first} of {}, queue {queue}", self.names.topic(topic))
            }
            RecordKind::Unknown => "the beginning".to_owned(),
            kind => kind.description().to_owned(),
        }
    }
}

/// The advice for lost messages.
const LOST_MESSAGES_ADVICE: &str = "no action needed: consumers continue after the lost messages. To get them back, restore the data \
                     directory from a backup";
