//! Reads records in the order of their keys, and continues after damaged ones.

use std::cell::RefCell;
use std::ops::Bound::{Excluded, Included, Unbounded};

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
    /// The last key, or where the scan begins.
    last: UserKey,
    /// `None` without an end.
    end: Option<Vec<u8>>,
    /// Whether the value of a key is wanted. Large values take another read of the disk.
    is_wanted: KeyFilter<'a>,
}

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
        let mut scan = Self { database, found: None, last: begin.into(), end, is_wanted: Box::new(|_| true) };
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

    fn search(&self, position: [u128; 2]) -> Result<KeySearch, fjall::Error> {
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
        let mut last = [[0; 16]; 2];
        let length = self.last.len().min(32);
        last.as_flattened_mut()[..length].copy_from_slice(&self.last[..length]);
        let [first, second] = last.map(u128::from_be_bytes);
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
        position: impl Fn(u128) -> [u128; 2],
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
}

impl Iterator for Scan<'_> {
    type Item = Result<Item, fjall::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.found.as_mut()?.next()?;
        let key = RefCell::new(None);
        let read = entry.into_inner_if(|found| {
            key.replace(Some(found.clone()));
            (self.is_wanted)(found)
        });
        match (read, key.into_inner()) {
            (Ok((key, value)), _) => {
                self.last = key.clone();
                Some(Ok(Item::Entry(key, value.unwrap_or_default())))
            }
            (Err(error), Some(key)) if is_damage(&error) => {
                self.last = key.clone();
                Some(Ok(Item::Damaged(key)))
            }
            (Err(error), None) if is_damage(&error) => match self.end_of_damage() {
                Ok(next) => {
                    let before = self.last.clone();
                    self.found = next.as_ref().and_then(|next| self.records_from(next));
                    Some(Ok(Item::Gap(before, next)))
                }
                Err(error) => Some(Err(error)),
            },
            (Err(error), _) => Some(Err(error)),
        }
    }
}
