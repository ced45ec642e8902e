//! Reads all of a keyspace, also what follows damage.

use std::cell::RefCell;

use super::super::damage::is_damage;
use super::super::store::Opened;

/// What is found in a keyspace.
pub(super) enum Item {
    /// A key and its value.
    Entry(Vec<u8>, Vec<u8>),
    /// A key whose value is damaged.
    Damaged(Vec<u8>),
    /// Keys that are damaged: those after the first key and before the second one. Without a second one, all that follow.
    Gap(Vec<u8>, Option<Vec<u8>>),
}

/// The items of a keyspace, in the order of their keys.
pub(super) struct Scan<'a> {
    part: &'a Opened,
    found: Option<fjall::Iter>,
    last: Vec<u8>,
}

/// What a key leads to.
enum Next {
    Key(Vec<u8>),
    End,
    Unreadable,
}

impl<'a> Scan<'a> {
    /// The items of this keyspace.
    pub(super) fn new(part: &'a Opened) -> Self {
        Self { part, found: Some(part.iter()), last: Vec::new() }
    }

    fn look(&self, from: u128) -> Result<Next, fjall::Error> {
        let Some(entry) = self.part.range(from.to_be_bytes()..).next() else { return Ok(Next::End) };
        match entry.key() {
            Ok(key) => Ok(Next::Key(key.to_vec())),
            Err(error) if is_damage(&error) => Ok(Next::Unreadable),
            Err(error) => Err(error),
        }
    }

    /// The first key after the last one that can be found. Keys that have their first 16 bytes in common are not told apart.
    fn end_of_damage(&self) -> Result<Option<Vec<u8>>, fjall::Error> {
        let mut begin = [0; 16];
        let length = self.last.len().min(begin.len());
        begin[..length].copy_from_slice(&self.last[..length]);
        let (mut inside, mut step) = (u128::from_be_bytes(begin), 1u128);
        let (mut beyond, mut found) = loop {
            let probe = inside.saturating_add(step);
            match self.look(probe)? {
                Next::Unreadable if probe == u128::MAX => return Ok(None),
                Next::Unreadable => (inside, step) = (probe, step.saturating_mul(2)),
                Next::Key(key) => break (probe, Some(key)),
                Next::End => break (probe, None),
            }
        };
        while beyond - inside > 1 {
            let middle = inside + (beyond - inside) / 2;
            match self.look(middle)? {
                Next::Unreadable => inside = middle,
                Next::Key(key) => (beyond, found) = (middle, Some(key)),
                Next::End => (beyond, found) = (middle, None),
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
                    self.found = next.as_ref().map(|next| self.part.range(next.clone()..));
                    Some(Ok(Item::Gap(before, next)))
                }
                Err(error) => Some(Err(error)),
            },
            (Err(error), _) => Some(Err(error)),
        }
    }
}
