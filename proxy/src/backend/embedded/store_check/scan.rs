//! Reads a whole keyspace, including the records after damaged blocks.

use std::cell::RefCell;

use super::super::damage::is_damage;
use super::super::store::OpenDatabase;

/// An item of a keyspace.
pub(super) enum Item {
    /// A key and its value.
    Entry(Vec<u8>, Vec<u8>),
    /// A key whose value is damaged.
    Damaged(Vec<u8>),
    /// Damaged keys: all between the first and the second key. Without a second key, all after the first one.
    Gap(Vec<u8>, Option<Vec<u8>>),
}

/// Iterates over the items of a keyspace, in the order of their keys.
pub(super) struct Scan<'a> {
    database: &'a OpenDatabase,
    found: Option<fjall::Iter>,
    last: Vec<u8>,
}

/// The result of a search for the first key from a position on.
enum KeySearch {
    Key(Vec<u8>),
    /// There is no key.
    End,
    /// The search ends in a damaged block.
    Unreadable,
}

impl<'a> Scan<'a> {
    /// Begins at the first key.
    pub(super) fn new(database: &'a OpenDatabase) -> Self {
        Self { database, found: Some(database.iter()), last: Vec::new() }
    }

    fn search(&self, from: u128) -> Result<KeySearch, fjall::Error> {
        let Some(entry) = self.database.range(from.to_be_bytes()..).next() else {
            return Ok(KeySearch::End);
        };
        match entry.key() {
            Ok(key) => Ok(KeySearch::Key(key.to_vec())),
            Err(error) if is_damage(&error) => Ok(KeySearch::Unreadable),
            Err(error) => Err(error),
        }
    }

    /// Finds the first readable key after the current damage by binary search over the first 16 bytes of keys.
    fn end_of_damage(&self) -> Result<Option<Vec<u8>>, fjall::Error> {
        let mut begin = [0; 16];
        let length = self.last.len().min(begin.len());
        begin[..length].copy_from_slice(&self.last[..length]);
        let (mut inside, mut step) = (u128::from_be_bytes(begin), 1u128);
        let (mut beyond, mut found) = loop {
            let probe = inside.saturating_add(step);
            match self.search(probe)? {
                KeySearch::Unreadable if probe == u128::MAX => return Ok(None),
                KeySearch::Unreadable => (inside, step) = (probe, step.saturating_mul(2)),
                KeySearch::Key(key) => break (probe, Some(key)),
                KeySearch::End => break (probe, None),
            }
        };
        while beyond - inside > 1 {
            let middle = inside + (beyond - inside) / 2;
            match self.search(middle)? {
                KeySearch::Unreadable => inside = middle,
                KeySearch::Key(key) => (beyond, found) = (middle, Some(key)),
                KeySearch::End => (beyond, found) = (middle, None),
            }
        }
        Ok(found)
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Item, fjall::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.found.as_mut()?.next()?;
        let key = RefCell::new(None);
        let read = entry.into_inner_if(|found| {
            key.replace(Some(found.to_vec()));
            true
        });
        match (read, key.into_inner()) {
            (Ok((key, value)), _) => {
                self.last = key.to_vec();
                Some(Ok(Item::Entry(key.to_vec(), value.map(|value| value.to_vec()).unwrap_or_default())))
            }
            (Err(error), Some(key)) if is_damage(&error) => {
                self.last.clone_from(&key);
                Some(Ok(Item::Damaged(key)))
            }
            (Err(error), None) if is_damage(&error) => match self.end_of_damage() {
                Ok(next) => {
                    let before = self.last.clone();
                    self.found = next.as_ref().map(|next| self.database.range(next.clone()..));
                    Some(Ok(Item::Gap(before, next)))
                }
                Err(error) => Some(Err(error)),
            },
            (Err(error), _) => Some(Err(error)),
        }
    }
}
