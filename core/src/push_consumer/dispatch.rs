//! Decides which message is handed out next. How many more may be received is in [`CacheLimits`]. Does no I/O.
//!
//! ```text
//! reserve -> insert -> (ready) -> next -> (handling) -> finish_handling -> (settling) -> remove
//!                         ^                   |            |
//!                         |---- put_back -----'            |
//!                         `---- when due ---- retry_at ----'
//! ```
//!
//! Messages of a sequence are handled one after the other: the next one is ready when the previous one is removed.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{cache_limits::CacheLimits, rate::TokenBucket};

/// Identifies a message. Never reused.
pub(super) type Key = u64;

/// How many messages are cached and handled at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How many messages are handled at the same time.
    pub(super) concurrency: usize,
    /// How many messages are cached, including those being handled and settled.
    pub(super) max_messages: usize,
    /// The total size of their bodies, in bytes.
    pub(super) max_bytes: usize,
    /// How many messages are handed out per second; `None` means no limit.
    pub(super) max_rate: Option<f64>,
}

/// Messages that must be handled one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sequence {
    /// The messages of a message group or a lite topic.
    Group {
        /// The topic.
        topic: Arc<str>,
        /// The message group or lite topic.
        group: String,
    },
    /// The messages of a queue that have no message group.
    Queue {
        /// The topic.
        topic: Arc<str>,
        /// The queue's broker.
        broker: Arc<str>,
        /// The queue's id.
        id: i32,
    },
}

/// The cache of received messages, with a `T` for each.
#[derive(Debug)]
pub(super) struct Dispatch<T> {
    /// How many messages are handled at the same time.
    concurrency: usize,
    cache: CacheLimits,
    entries: HashMap<Key, Entry<T>>,
    next_key: Key,
    /// Messages that may be handed out, in order. Keys without an entry are skipped.
    ready: VecDeque<Key>,
    /// The messages of each sequence, in order. Only the first one may be ready, handled or settled.
    sequences: HashMap<Arc<Sequence>, VecDeque<Key>>,
    /// When failed messages are handed out again.
    retries: BTreeSet<(Instant, Key)>,
    /// How many messages are being handled.
    handling: usize,
    /// How many messages are being settled.
    settling: usize,
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
    /// Ready, behind another message of its sequence, or waiting for its retry.
    Waiting,
    Handling,
    Settling,
}

impl<T> Dispatch<T> {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            concurrency: limits.concurrency,
            cache: CacheLimits::new(limits.max_messages, limits.max_bytes),
            entries: HashMap::new(),
            next_key: 0,
            ready: VecDeque::new(),
            sequences: HashMap::new(),
            retries: BTreeSet::new(),
            handling: 0,
            settling: 0,
            bucket: limits.max_rate.map(|rate| TokenBucket::new(rate, now)),
            paused: false,
            closed: false,
        }
    }

    /// Adds a poll. All polls share the cache equally.
    pub(super) fn add_poll(&mut self) {
        self.cache.add_poll();
    }

    pub(super) fn remove_poll(&mut self) {
        self.cache.remove_poll();
    }

    /// Reserves room for a poll of up to `batch` messages. Returns how many messages it may request; `None` if it must
    /// wait for room.
    pub(super) fn reserve(&mut self, batch: usize) -> Option<usize> {
        let fits = self.fitting(batch)?;
        self.cache.reserve(fits);
        Some(fits)
    }

    /// Whether [`reserve`](Self::reserve) would find room.
    pub(super) fn has_room(&self, batch: usize) -> bool {
        self.fitting(batch).is_some()
    }

    /// How many messages a poll of up to `batch` messages may request now.
    fn fitting(&self, batch: usize) -> Option<usize> {
        if self.paused || self.closed {
            return None;
        }
        self.cache.fitting(batch, !self.ready.is_empty())
    }

    /// Releases the reservation of a poll that has ended.
    pub(super) fn release(&mut self, reserved: usize) {
        self.cache.release(reserved);
    }

    /// Adds a message with a body of `size` bytes. It waits for the earlier messages of its sequence.
    pub(super) fn insert(&mut self, item: T, size: usize, sequence: Option<Sequence>) -> Key {
        let key = self.next_key;
        self.next_key += 1;
        self.cache.add(size);
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

    /// Hands out the next message; `None` if none may be handed out now.
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
        !self.paused && !self.closed && self.handling < self.concurrency
    }

    /// When the next retry or rate token makes a message available; `None` if one is available now, or if time alone makes
    /// none available.
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

    /// A message, in whichever state.
    pub(super) fn get(&self, key: Key) -> Option<&T> {
        self.entries.get(&key).map(|entry| &entry.item)
    }

    /// Returns a message that was handed out and not handled. It is handed out next.
    pub(super) fn put_back(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(&key).filter(|entry| entry.state == State::Handling)?;
        entry.state = State::Waiting;
        self.handling -= 1;
        self.ready.push_front(key);
        if let Some(bucket) = &mut self.bucket {
            bucket.put_back();
        }
        Some(&mut entry.item)
    }

    /// Records that a message was handled, and is being settled now.
    pub(super) fn finish_handling(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(&key).filter(|entry| entry.state == State::Handling)?;
        entry.state = State::Settling;
        self.handling -= 1;
        self.settling += 1;
        Some(&mut entry.item)
    }

    /// Schedules a handled message to be handed out again at `at`. The later messages of its sequence wait.
    pub(super) fn retry_at(&mut self, key: Key, at: Instant) {
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.state == State::Settling) else {
            return;
        };
        entry.state = State::Waiting;
        self.settling -= 1;
        self.retries.insert((at, key));
    }

    /// Removes a message. The next one of its sequence becomes ready.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.remove_entry(key)?;
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

    /// Removes the messages behind this one in its sequence, because the server delivers this one again and they must
    /// follow it. Also removes the message itself if it is waiting. Returns the removed messages in order.
    pub(super) fn discard_from(&mut self, key: Key) -> Vec<T> {
        let Some(entry) = self.entries.get(&key) else { return Vec::new() };
        let waits = entry.state == State::Waiting;
        let behind: Vec<Key> = match &entry.sequence {
            Some(sequence) => {
                let members = self.sequences.get(sequence).into_iter().flatten().copied();
                members.skip_while(|member| *member != key).skip(1).collect()
            }
            None => Vec::new(),
        };
        // Starts from the end, so that none of them becomes ready.
        let mut lost: Vec<T> = behind.into_iter().rev().filter_map(|key| self.remove(key)).collect();
        lost.extend(waits.then(|| self.remove(key)).flatten());
        lost.reverse();
        lost
    }

    /// Hands out no message and grants no reservation until [`resume`](Self::resume).
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Ends handing out and reservations for good. Removes and returns the waiting messages.
    pub(super) fn close(&mut self) -> Vec<T> {
        self.closed = true;
        self.discard_waiting(|_| true)
    }

    /// Removes and returns the `chosen` ones of the waiting messages, in order.
    pub(super) fn discard_waiting(&mut self, chosen: impl Fn(&T) -> bool) -> Vec<T> {
        let mut waiting: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state == State::Waiting && chosen(&entry.item))
            .map(|(key, _)| *key)
            .collect();
        waiting.sort_unstable();
        waiting.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many messages are being handled or settled.
    pub(super) fn unfinished(&self) -> usize {
        self.handling + self.settling
    }

    fn remove_entry(&mut self, key: Key) -> Option<Entry<T>> {
        let entry = self.entries.remove(&key)?;
        self.cache.remove(entry.size);
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
