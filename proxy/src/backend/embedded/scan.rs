//! Reads records in the order of their keys, and continues after damaged ones.
//!
//! The storage engine merges tables and the memtable. If it can't read a block of a table, the iterator fails: it returns
//! neither the records of other tables within the range of the block nor the last records before it. A scan finds both.

use std::cell::RefCell;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

use bytes::Bytes;
use fjall::{UserKey, UserValue};

use super::damage::is_damage;
use super::store::{OpenDatabase, unavailable};
use crate::service::ServiceError;

/// An item of a keyspace.
pub(super) enum Item {
    /// A key and its value. The value is empty if it is not wanted.
    Entry(UserKey, UserValue),
    /// A key whose value is damaged.
    Damaged(UserKey),
    /// Damaged keys: all between the first and the second key. Without a second key, all after the first one.
    Gap(UserKey, Option<UserKey>),
}

/// A record of the database `log`.
pub(super) struct Record {
    pub(super) key: UserKey,
    /// `None` if it is damaged. Empty if it is not wanted.
    pub(super) value: Option<Bytes>,
}

/// Iterates over records in the order of their keys.
pub(super) struct Scan<'a> {
    database: &'a OpenDatabase,
    found: Option<fjall::Iter>,
    damage: Position,
    /// The last key, or where the scan begins.
    last: Bound<UserKey>,
    /// `None` without an end.
    end: Option<Vec<u8>>,
    /// Whether the value of a key is wanted. Large values take another read of the disk.
    is_wanted: KeyFilter<'a>,
}

/// Where a scan is.
enum Position {
    /// Not at a damaged block.
    Sound,
    /// Before a damaged block. `found` ends with `edge`, the last key that can be read before it.
    Before { edge: Bound<UserKey>, next: Option<UserKey> },
    /// Within the range of a damaged block, before the key `next`. `found` has records of other tables.
    Within { next: Option<UserKey>, failures: usize },
}

/// How many failures in a row end the search for other records within the range of damaged blocks.
const MAX_FAILURES: usize = 1000;

type KeyFilter<'a> = Box<dyn Fn(&[u8]) -> bool + 'a>;

/// The result of a search for the first key from a position on.
enum KeySearch {
    Key(UserKey),
    /// There is no key.
    End,
    /// The search ends in a damaged block.
    Unreadable,
}

impl<'a> Scan<'a> {
    /// Reads the whole keyspace.
    pub(super) fn all(database: &'a OpenDatabase) -> Self {
        Self::new(database, &[], None)
    }

    /// Reads the records from `begin` to `end`, exclusive.
    pub(super) fn range(database: &'a OpenDatabase, begin: &[u8], end: &[u8]) -> Self {
        Self::new(database, begin, Some(end.to_vec()))
    }

    fn new(database: &'a OpenDatabase, begin: &[u8], end: Option<Vec<u8>>) -> Self {
        let mut scan = Self {
            database,
            found: None,
            damage: Position::Sound,
            last: Included(begin.into()),
            end,
            is_wanted: Box::new(|_| true),
        };
        scan.found = scan.records_from(begin);
        scan
    }

    /// Reads only the values of keys for which this returns true.
    pub(super) fn values_if(self, is_wanted: impl Fn(&[u8]) -> bool + 'a) -> Self {
        Self { is_wanted: Box::new(is_wanted), ..self }
    }

    /// Reads only keys, and leaves out those that can't be read.
    pub(super) fn keys(self) -> impl Iterator<Item = Result<UserKey, ServiceError>> + 'a {
        self.values_if(|_| false).filter_map(|item| match item {
            Ok(Item::Entry(key, _) | Item::Damaged(key)) => Some(Ok(key)),
            Ok(Item::Gap(..)) => None,
            Err(error) => Some(Err(unavailable(&error))),
        })
    }

    /// Reads records of the database `log`. Logs damage once.
    pub(super) fn reported(self) -> impl Iterator<Item = Result<Record, ServiceError>> + 'a {
        let damage = &self.database.damage;
        self.filter_map(|item| match item {
            Ok(Item::Entry(key, value)) => Some(Ok(Record { key, value: Some(value.into()) })),
            Ok(Item::Damaged(key)) => {
                damage.report_record(&key);
                Some(Ok(Record { key, value: None }))
            }
            Ok(Item::Gap(before, after)) => {
                damage.report_gap(&before, after.as_deref());
                None
            }
            Err(error) => Some(Err(unavailable(&error))),
        })
    }

    /// The records from this key on. `None` if it is not before the end.
    fn records_from(&self, key: &[u8]) -> Option<fjall::Iter> {
        let end = self.end.as_deref();
        end.is_none_or(|end| key < end)
            .then(|| self.database.range::<&[u8], _>((Included(key), end.map_or(Unbounded, Excluded))))
    }

    /// The records between two keys. `None` if there can't be any.
    fn between(&self, from: &Bound<UserKey>, to: Bound<&[u8]>) -> Option<fjall::Iter> {
        let is_empty = matches!(to, Included(to) | Excluded(to) if to < bytes_of(from));
        (!is_empty).then(|| self.database.range::<&[u8], _>((from.as_ref().map(|key| &**key), to)))
    }

    /// The first readable record from a position on.
    fn search(&self, position: KeyPosition) -> Result<KeySearch, fjall::Error> {
        let bytes = position.map(u128::to_be_bytes);
        // Without the zeros at the end, it is not after a shorter key at this position.
        let length = bytes.as_flattened().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let Some(entry) =
            self.records_from(&bytes.as_flattened()[..length]).and_then(|mut found| found.next())
        else {
            return Ok(KeySearch::End);
        };
        match entry.key() {
            Ok(key) => Ok(KeySearch::Key(key)),
            Err(error) if is_damage(&error) => Ok(KeySearch::Unreadable),
            Err(error) => Err(error),
        }
    }

    /// Finds the first readable key after the current damage by its first 32 bytes: a binary search finds the first half
    /// of them, and another one the second half.
    fn end_of_damage(&self) -> Result<Option<UserKey>, fjall::Error> {
        let [first, second] = key_position(bytes_of(&self.last));
        let (damaged, later) = self.first_readable(first, |first| [first, 0])?;
        let second = if damaged == first { second } else { 0 };
        let (_, found) = self.first_readable(second, |second| [damaged, second])?;
        Ok(found.or(later))
    }

    /// Returns the last unreadable position, from `inside` on, and the key after it. Positions are numbers that `position`
    /// converts.
    fn first_readable(
        &self,
        mut inside: u128,
        position: impl Fn(u128) -> KeyPosition,
    ) -> Result<(u128, Option<UserKey>), fjall::Error> {
        let mut step = 1u128;
        let (mut beyond, mut found) = loop {
            let probe = inside.saturating_add(step);
            match self.search(position(probe))? {
                KeySearch::Unreadable if probe == u128::MAX => return Ok((probe, None)),
                KeySearch::Unreadable => (inside, step) = (probe, step.saturating_mul(2)),
                KeySearch::Key(key) => break (probe, Some(key)),
                KeySearch::End => break (probe, None),
            }
        };
        while beyond - inside > 1 {
            let middle = inside + (beyond - inside) / 2;
            match self.search(position(middle))? {
                KeySearch::Unreadable => inside = middle,
                KeySearch::Key(key) => (beyond, found) = (middle, Some(key)),
                KeySearch::End => (beyond, found) = (middle, None),
            }
        }
        Ok((inside, found))
    }

    /// Finds the last position before the current damage, which ends before `next`: binary searches, as in
    /// [`Scan::end_of_damage`]. Everything up to it can be read.
    fn edge_of_damage(&self, next: Option<&[u8]>) -> Result<Bound<UserKey>, fjall::Error> {
        let [first, second] = key_position(bytes_of(&self.last));
        let [limit, _] = next.map_or([u128::MAX; 2], key_position);
        let first_edge = last_number(first, limit, |first| self.can_read_to([first, 0]))?;
        let from = if first_edge == first { second } else { 0 };
        let second_edge = last_number(from, u128::MAX, |second| self.can_read_to([first_edge, second]))?;
        let edge = [first_edge, second_edge];
        let bytes = position_bytes(edge);
        // The damage may begin with the first key of the scan.
        let is_after_last = *bytes >= *bytes_of(&self.last) && self.can_read_to(edge)?;
        Ok(if is_after_last { Excluded(bytes.into()) } else { self.last.clone() })
    }

    /// Whether the records from the last key to this position can be read.
    fn can_read_to(&self, position: KeyPosition) -> Result<bool, fjall::Error> {
        for entry in self.between(&self.last, Included(&position_bytes(position))).into_iter().flatten() {
            match entry.key() {
                Ok(_) => {}
                Err(error) if is_damage(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Continues with what can be read around a damaged block.
    fn enter_damage(&mut self) -> Result<(), fjall::Error> {
        let next = self.end_of_damage()?;
        let edge = self.edge_of_damage(next.as_deref())?;
        self.found = self.between(&self.last, Included(bytes_of(&edge)));
        self.damage = Position::Before { edge, next };
        Ok(())
    }

    /// Reads a record within the range of a damaged block. An older version than that in the damaged block is not returned.
    fn hidden_record(&self, key: UserKey) -> Result<Option<Item>, fjall::Error> {
        match self.database.get(&key) {
            Ok(value) => Ok(value.map(|value| Item::Entry(key, value))),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Continues after the end of `found`. Returns the damage that begins there. `None` at the end of the scan.
    fn proceed(&mut self) -> Option<Option<Item>> {
        match std::mem::replace(&mut self.damage, Position::Sound) {
            Position::Sound => {
                self.found = None;
                None
            }
            Position::Before { edge, next } => {
                let end = next.as_deref().or(self.end.as_deref()).map_or(Unbounded, Excluded);
                self.found = self.between(&edge, end);
                self.damage = Position::Within { next: next.clone(), failures: 0 };
                Some(Some(Item::Gap(bytes_of(&self.last).into(), next)))
            }
            Position::Within { next, .. } => {
                self.found = next.as_deref().and_then(|next| self.records_from(next));
                Some(None)
            }
        }
    }
}

/// The first 32 bytes of a key, as two numbers.
type KeyPosition = [u128; 2];

fn key_position(key: &[u8]) -> KeyPosition {
    let mut bytes = [[0; 16]; 2];
    let length = key.len().min(32);
    bytes.as_flattened_mut()[..length].copy_from_slice(&key[..length]);
    bytes.map(u128::from_be_bytes)
}

fn position_bytes(position: KeyPosition) -> Vec<u8> {
    position.map(u128::to_be_bytes).as_flattened().to_vec()
}

fn bytes_of(bound: &Bound<UserKey>) -> &[u8] {
    match bound {
        Included(key) | Excluded(key) => key,
        Unbounded => &[],
    }
}

/// Returns the last number for which `is_true` holds, if it holds for the numbers up to some number. `from` is returned if it
/// holds for no other.
fn last_number(
    from: u128,
    to: u128,
    is_true: impl Fn(u128) -> Result<bool, fjall::Error>,
) -> Result<u128, fjall::Error> {
    if to <= from || is_true(to)? {
        return Ok(to.max(from));
    }
    let (mut last, mut beyond) = (from, to);
    while beyond - last > 1 {
        let middle = last + (beyond - last) / 2;
        if is_true(middle)? {
            last = middle;
        } else {
            beyond = middle;
        }
    }
    Ok(last)
}

impl Iterator for Scan<'_> {
    type Item = Result<Item, fjall::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(entry) = self.found.as_mut().and_then(Iterator::next) else {
                match self.proceed()? {
                    Some(gap) => return Some(Ok(gap)),
                    None => continue,
                }
            };
            let key = RefCell::new(None);
            let is_within = matches!(self.damage, Position::Within { .. });
            let read = entry.into_inner_if(|found| {
                key.replace(Some(found.clone()));
                !is_within && (self.is_wanted)(found)
            });
            let item = match (read, key.into_inner()) {
                (Err(error), _) if !is_damage(&error) => return Some(Err(error)),
                (Ok((key, _)), _) | (Err(_), Some(key)) if is_within => match self.hidden_record(key) {
                    Ok(Some(item)) => item,
                    Ok(None) => continue,
                    Err(error) => return Some(Err(error)),
                },
                (Ok((key, value)), _) => Item::Entry(key, value.unwrap_or_default()),
                (Err(_), Some(key)) => Item::Damaged(key),
                (Err(_), None) => {
                    match &mut self.damage {
                        Position::Sound => {
                            if let Err(error) = self.enter_damage() {
                                return Some(Err(error));
                            }
                        }
                        Position::Within { failures, .. } if *failures < MAX_FAILURES => *failures += 1,
                        Position::Before { .. } | Position::Within { .. } => {
                            if let Some(Some(gap)) = self.proceed() {
                                return Some(Ok(gap));
                            }
                        }
                    }
                    continue;
                }
            };
            if let Item::Entry(key, _) | Item::Damaged(key) = &item {
                self.last = Excluded(key.clone());
            }
            return Some(Ok(item));
        }
    }
}
