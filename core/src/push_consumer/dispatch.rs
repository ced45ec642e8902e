//! Which message is handed out next, and how many more may be received. No I/O.
//!
//! ```text
//! reserve -> insert -> (ready) -> next -> (handling) -> handled -> (settling) -> remove
//!                         ^                                |
//!                         `--- at its time --- retry_at ---'
//! ```
//!
//! Messages of a group pass one after the other: the next one is ready when the one before is removed.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::rate::TokenBucket;

/// The size of a message, in bytes, that is expected before any has come.
const FIRST_EXPECTED_SIZE: usize = 64 * 1024;

/// How much of the cache has to be free before a poll, in parts of it, while messages wait to be handed out.
const LEAST_FREE: usize = 8;

/// Names one message; never used again for another.
pub(super) type Key = u64;

/// How much is held and handled at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Messages that are handled at the same time.
    pub(super) concurrency: usize,
    /// Messages that are held, including those being handled and settled.
    pub(super) max_messages: usize,
    /// The size of their bodies, in bytes.
    pub(super) max_bytes: usize,
    /// Messages handed out in a second.
    pub(super) max_rate: Option<f64>,
}

/// Messages that are handed out one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sequence {
    /// Those of a message group or a lite topic.
    Group {
        /// The topic.
        topic: Arc<str>,
        /// The message group or lite topic.
        group: String,
    },
    /// Those of a queue that belong to no message group.
    Queue {
        /// The topic.
        topic: Arc<str>,
        /// The queue's broker.
        broker: Arc<str>,
        /// Its number.
        id: i32,
    },
}

/// What is held, with a `T` for each message.
#[derive(Debug)]
pub(super) struct Dispatch<T> {
    limits: Limits,
    entries: HashMap<Key, Entry<T>>,
    next_key: Key,
    /// What may be handed out, the first one first. Keys without an entry are skipped.
    ready: VecDeque<Key>,
    /// The messages of each sequence, in order. Only the first one may be ready, handled or settled.
    sequences: HashMap<Arc<Sequence>, VecDeque<Key>>,
    /// What is handed out again, and when.
    retries: BTreeSet<(Instant, Key)>,
    handling: usize,
    settling: usize,
    /// How many polls there are, whether they run or wait for room.
    polls: usize,
    /// Messages that running polls may bring.
    reserved: usize,
    bytes: usize,
    expected_size: usize,
    bucket: Option<TokenBucket>,
    paused: bool,
    closed: bool,
}

#[derive(Debug)]
struct Entry<T> {
    item: T,
    size: usize,
    sequence: Option<Arc<Sequence>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Ready, behind another one of its sequence, or until its retry.
    Waiting,
    Handling,
    Settling,
}

impl<T> Dispatch<T> {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            next_key: 0,
            ready: VecDeque::new(),
            sequences: HashMap::new(),
            retries: BTreeSet::new(),
            handling: 0,
            settling: 0,
            polls: 0,
            reserved: 0,
            bytes: 0,
            expected_size: FIRST_EXPECTED_SIZE,
            bucket: limits.max_rate.map(|rate| TokenBucket::new(rate, now)),
            paused: false,
            closed: false,
        }
    }

    /// Counts one more poll. The room is shared among all.
    pub(super) fn add_poll(&mut self) {
        self.polls += 1;
    }

    pub(super) fn remove_poll(&mut self) {
        self.polls -= 1;
    }

    /// Reserves room for a poll that wants up to `batch` messages. Returns how many it may ask for; `None` if it has to
    /// wait for room.
    ///
    /// Each poll gets its part of the room at most, so that polls that find nothing don't hold up the others. There is
    /// room for one message of each poll, whatever the limits.
    pub(super) fn reserve(&mut self, batch: usize) -> Option<usize> {
        let fits = self.fits(batch)?;
        self.reserved += fits;
        Some(fits)
    }

    /// Whether [`reserve`](Self::reserve) would find room.
    pub(super) fn has_room(&self, batch: usize) -> bool {
        self.fits(batch).is_some()
    }

    fn fits(&self, batch: usize) -> Option<usize> {
        if self.paused || self.closed {
            return None;
        }
        let polls = self.polls.max(1);
        let most = self.limits.max_messages.max(polls);
        let free = most.saturating_sub(self.entries.len() + self.reserved).min(most.div_ceil(polls));
        let free_bytes = self.limits.max_bytes.saturating_sub(self.bytes);
        let by_size = free_bytes / polls / self.expected_size.max(1);
        let fits = batch.min(free).min(by_size.max(usize::from(free_bytes > 0)));
        // Asking for every single message as soon as it fits would cost many requests.
        let least = if self.ready.is_empty() { 1 } else { batch.min(most / polls / LEAST_FREE).max(1) };
        (fits >= least).then_some(fits)
    }

    /// Gives up what was reserved, because the poll has ended.
    pub(super) fn release(&mut self, reserved: usize) {
        self.reserved -= reserved;
    }

    /// Holds a message of `size` bytes. It waits for the earlier ones of its sequence.
    pub(super) fn insert(&mut self, item: T, size: usize, sequence: Option<Sequence>) -> Key {
        let key = self.next_key;
        self.next_key += 1;
        self.bytes += size;
        self.expected_size = (self.expected_size * 7 + size) / 8;
        let sequence = sequence.map(Arc::new);
        let first = match &sequence {
            Some(sequence) => {
                let members = self.sequences.entry(sequence.clone()).or_default();
                members.push_back(key);
                members.len() == 1
            }
            None => true,
        };
        if first {
            self.ready.push_back(key);
        }
        self.entries.insert(key, Entry { item, size, sequence, state: State::Waiting });
        key
    }

    /// Hands out a message; `None` if none may be handed out now.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Key, &mut T)> {
        if !self.is_available(now) {
            return None;
        }
        let key = self.ready.pop_front()?;
        let entry = self.entries.get_mut(&key)?;
        entry.state = State::Handling;
        self.handling += 1;
        if let Some(bucket) = &mut self.bucket {
            bucket.take();
        }
        Some((key, &mut entry.item))
    }

    /// Whether [`next`](Self::next) would hand out a message.
    pub(super) fn is_available(&mut self, now: Instant) -> bool {
        while let Some((at, key)) = self.retries.first().copied()
            && at <= now
        {
            self.retries.pop_first();
            self.ready.push_back(key);
        }
        while let Some(key) = self.ready.front()
            && !self.entries.contains_key(key)
        {
            self.ready.pop_front();
        }
        !self.ready.is_empty()
            && self.may_hand_out()
            && self.bucket.as_mut().is_none_or(|bucket| bucket.has_token(now))
    }

    fn may_hand_out(&self) -> bool {
        !self.paused && !self.closed && self.handling < self.limits.concurrency
    }

    /// When a message becomes available just because time passes; `None` if one is available now.
    pub(super) fn available_at(&mut self, now: Instant) -> Option<Instant> {
        if self.is_available(now) {
            return None;
        }
        let retry = self.retries.first().map(|(at, _)| *at);
        let token = self.bucket.as_ref().map(TokenBucket::next_token).filter(|_| !self.ready.is_empty());
        let at = match (retry, token) {
            (Some(retry), Some(token)) => Some(retry.min(token)),
            (retry, token) => retry.or(token),
        };
        at.filter(|_| self.may_hand_out())
    }

    /// Notes that the handling of a message is over, and that it is being settled.
    pub(super) fn handled(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(&key).filter(|entry| entry.state == State::Handling)?;
        entry.state = State::Settling;
        self.handling -= 1;
        self.settling += 1;
        Some(&mut entry.item)
    }

    /// Hands a message that was handled out again at `at`. The later ones of its sequence wait.
    pub(super) fn retry_at(&mut self, key: Key, at: Instant) {
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.state == State::Settling) else {
            return;
        };
        entry.state = State::Waiting;
        self.settling -= 1;
        self.retries.insert((at, key));
    }

    /// Removes a message that is settled. The next one of its sequence is ready.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.forget(key)?;
        if let Some(sequence) = &entry.sequence
            && let Some(members) = self.sequences.get_mut(sequence)
        {
            let was_first = members.front() == Some(&key);
            members.retain(|member| *member != key);
            match members.front() {
                Some(next) if was_first => self.ready.push_back(*next),
                Some(_) => {}
                None => drop(self.sequences.remove(sequence)),
            }
        }
        Some(entry.item)
    }

    /// Removes the messages that wait behind this one in its sequence, because it comes again before them. A message
    /// that waits is removed itself.
    pub(super) fn lose(&mut self, key: Key) -> Vec<T> {
        let Some(entry) = self.entries.get(&key) else { return Vec::new() };
        let waits = entry.state == State::Waiting;
        let behind: Vec<Key> = match &entry.sequence {
            Some(sequence) => {
                let members = self.sequences.get(sequence).into_iter().flatten().copied();
                members.skip_while(|member| *member != key).skip(1).collect()
            }
            None => Vec::new(),
        };
        // From the end, so that none of them becomes ready meanwhile.
        let mut lost: Vec<T> = behind.into_iter().rev().filter_map(|key| self.remove(key)).collect();
        lost.extend(waits.then(|| self.remove(key)).flatten());
        lost.reverse();
        lost
    }

    /// Hands out nothing and reserves nothing until [`resume`](Self::resume).
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Hands out and reserves nothing any more. Removes what is neither handled nor settled.
    pub(super) fn close(&mut self) -> Vec<T> {
        self.closed = true;
        let mut waiting: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state == State::Waiting)
            .map(|(key, _)| *key)
            .collect();
        waiting.sort_unstable();
        waiting.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many messages are handled or settled.
    pub(super) fn unfinished(&self) -> usize {
        self.handling + self.settling
    }

    fn forget(&mut self, key: Key) -> Option<Entry<T>> {
        let entry = self.entries.remove(&key)?;
        self.bytes -= entry.size;
        match entry.state {
            State::Waiting => self.retries.retain(|(_, retry)| *retry != key),
            State::Handling => self.handling -= 1,
            State::Settling => self.settling -= 1,
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
