//! What one connection's classic push consumers hold: for each group and topic a window, and in it a ledger for each queue.
//!
//! The client believes that it reads queues by offset. It gets positions instead, which rise without gaps, and what it
//! commits becomes acknowledgements. A group's members are served from the topic as a whole, so a queue is only a name.
//!
//! The window bounds what a client may hold. It begins small, so that a client that is stuck from the beginning holds few
//! messages, and grows as the client gets ahead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::pace::Pace;
use super::queue_ledger::{Freed, Held, MAYBE_BEGUN, QueueLedger, free_untouched};

/// Messages that a client may hold of one topic, at first and at most: what it consumes in a part of a second, within
/// bounds. It consumes all that it holds, also if the proxy is gone meanwhile and can't take note of it: then all this is
/// delivered again. Its pulls, which commit what it has consumed, come several times in that time.
const FIRST_WINDOW: usize = 32;
const PACED_WINDOW: usize = 128;
const MAX_WINDOW: usize = 1024;
const PARTS_OF_A_SECOND: usize = 4;
/// Bytes of their bodies. One answer may go beyond it.
const MAX_BYTES: usize = 64 << 20;
/// Queues of one connection, over all groups and topics.
const MAX_QUEUES: usize = 8192;
/// After this time without progress, a client keeps only what it may have begun to consume.
const PATIENCE: Duration = Duration::from_secs(60);
/// A client commits its offsets every five seconds, also when it pulls nothing. A queue of which nothing was heard for
/// this long belongs to it no more.
const SILENCE: Duration = Duration::from_secs(40);

/// A group's view of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupTopic {
    pub(super) group: String,
    pub(super) topic: String,
}

/// A queue's name, as the client tells it. Older clients don't tell the broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    pub(super) broker: String,
    pub(super) id: i32,
}

/// A queue, as one client's group sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientQueue {
    pub(super) at: GroupTopic,
    pub(super) queue: Queue,
}

/// All that one connection holds.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    topics: HashMap<GroupTopic, TopicLedger>,
    /// The number of the newest pull.
    turns: u64,
}

#[derive(Debug)]
struct TopicLedger {
    window: usize,
    /// Messages that pulls under way may bring.
    reserved: usize,
    held: usize,
    bytes: usize,
    /// Pulls that found no room since the client last got ahead.
    full: u32,
    pace: Pace,
    queues: HashMap<Queue, QueueLedger>,
    /// By broker.
    lines: HashMap<String, Line>,
}

/// In which a client's pulls of a topic from one broker wait for their turn to receive. So each client has one receive that
/// waits, however many queues it pulls, and messages that come one by one go to the clients in turn.
pub(super) type Line = Arc<Mutex<()>>;

/// A pull under way.
#[derive(Debug)]
pub(super) struct Pulling {
    pub(super) queue: ClientQueue,
    turn: u64,
    /// The line it waits in.
    pub(super) line: Line,
    /// How many messages it may bring: none until room is reserved.
    pub(super) room: usize,
    /// What did not reach the client before.
    pub(super) freed: Freed,
}

impl Default for TopicLedger {
    fn default() -> Self {
        Self {
            window: FIRST_WINDOW,
            reserved: 0,
            held: 0,
            bytes: 0,
            full: 0,
            pace: Pace::default(),
            queues: HashMap::new(),
            lines: HashMap::new(),
        }
    }
}

impl TopicLedger {
    /// How many messages a pull may bring. It leaves room for pulls of other queues: each may bring at least one, as they may
    /// be of other brokers.
    fn room(&self) -> usize {
        if self.bytes >= MAX_BYTES || self.held >= self.window {
            return 0;
        }
        (self.window.saturating_sub(self.held + self.reserved) / 2).max(1)
    }

    fn forget<'a>(&mut self, gone: impl IntoIterator<Item = &'a Held>) {
        for held in gone {
            self.held -= 1;
            self.bytes -= held.bytes;
        }
    }

    fn clear(&mut self) -> Freed {
        let mut freed = Freed::default();
        for (_, mut queue) in self.queues.drain() {
            freed.extend(queue.clear());
        }
        self.forget(freed.iter());
        freed
    }
}

impl Ledgers {
    /// A client begins with a queue. Returns the position to begin at, and what it held of the queue before.
    pub(super) fn start(&mut self, queue: &ClientQueue, fresh: i64, now: Instant) -> (i64, Freed) {
        let ClientQueue { at, queue } = queue;
        let Some(topic) = self.topics.get_mut(at) else { return (fresh, Freed::default()) };
        let Some(ledger) = topic.queues.get_mut(queue) else { return (fresh, Freed::default()) };
        let freed = ledger.clear();
        let next = ledger.next().max(fresh);
        *ledger = QueueLedger::new(next, now);
        topic.forget(freed.iter());
        (next, freed)
    }

    /// A pull begins at a position. `None` if the connection has too many queues.
    pub(super) fn begin(&mut self, pulled: &ClientQueue, position: i64, now: Instant) -> Option<Pulling> {
        let ClientQueue { at, queue } = pulled;
        let known = self.topics.get(at).is_some_and(|topic| topic.queues.contains_key(queue));
        if !known && self.topics.values().map(|topic| topic.queues.len()).sum::<usize>() >= MAX_QUEUES {
            return None;
        }
        let topic = self.topics.entry(at.clone()).or_default();
        let ledger = topic.queues.entry(queue.clone()).or_insert_with(|| QueueLedger::new(position, now));
        self.turns += 1;
        let turn = self.turns;
        let freed = ledger.begin(turn, position, now);
        topic.forget(freed.iter());
        let line = topic.lines.entry(queue.broker.clone()).or_default().clone();
        Some(Pulling { queue: pulled.clone(), turn, line, room: 0, freed })
    }

    /// Reserves room for a pull whose turn it is, for some messages at most. There is none if the client has to settle
    /// others first, or has begun another pull of the queue.
    pub(super) fn reserve(&mut self, pulling: &mut Pulling, wanted: usize) {
        let ClientQueue { at, queue } = &pulling.queue;
        let Some(topic) = self.topics.get_mut(at) else { return };
        let ledger = topic.queues.get(queue).filter(|ledger| ledger.is_current(pulling.turn));
        if ledger.is_some_and(|ledger| !ledger.is_full()) {
            pulling.room = topic.room().min(wanted);
            topic.reserved += pulling.room;
        }
    }

    /// A pull has brought these messages. Returns the position of the first; `None` if they are not for this client any
    /// more.
    pub(super) fn finish(&mut self, pulling: &Pulling, messages: Vec<Held>, now: Instant) -> Option<i64> {
        let ClientQueue { at, queue } = &pulling.queue;
        let topic = self.topics.get_mut(at)?;
        let ledger = topic.queues.get_mut(queue).filter(|ledger| ledger.is_current(pulling.turn))?;
        topic.held += messages.len();
        topic.bytes += messages.iter().map(|held| held.bytes).sum::<usize>();
        Some(ledger.hand_out(messages, now))
    }

    /// A pull ends, with or without messages.
    pub(super) fn end(&mut self, pulling: &Pulling, now: Instant) {
        let ClientQueue { at, queue } = &pulling.queue;
        let Some(topic) = self.topics.get_mut(at) else { return };
        topic.reserved = topic.reserved.saturating_sub(pulling.room);
        if let Some(ledger) = topic.queues.get_mut(queue) {
            ledger.end(now);
        }
    }

    /// Notes that a pull found no room. Returns how many did before, since the client last got ahead.
    pub(super) fn full(&mut self, at: &GroupTopic) -> u32 {
        let Some(topic) = self.topics.get_mut(at) else { return 0 };
        let before = topic.full;
        topic.full = topic.full.saturating_add(1);
        before
    }

    /// The client has consumed what is before this position. Returns what is to be acknowledged.
    pub(super) fn commit(&mut self, queue: &ClientQueue, before: i64, now: Instant) -> Vec<Held> {
        let ClientQueue { at, queue } = queue;
        let Some(topic) = self.topics.get_mut(at) else { return Vec::new() };
        let Some(ledger) = topic.queues.get_mut(queue) else { return Vec::new() };
        let consumed = ledger.commit(before, now);
        if !consumed.is_empty() {
            topic.pace.consumed(consumed.len(), now);
            let most = (topic.pace.per_second() / PARTS_OF_A_SECOND).clamp(PACED_WINDOW, MAX_WINDOW);
            topic.window = (topic.window + consumed.len()).min(most);
            topic.full = 0;
            topic.forget(&consumed);
        }
        consumed
    }

    /// Whether the client holds messages of this queue.
    pub(super) fn holds(&self, queue: &ClientQueue) -> bool {
        let ledger = self.topics.get(&queue.at).and_then(|topic| topic.queues.get(&queue.queue));
        ledger.is_some_and(|ledger| ledger.holds_any())
    }

    /// A message that the client holds, and its topic.
    pub(super) fn find(&self, group: &str, is_it: impl Fn(&Held) -> bool) -> Option<(GroupTopic, Held)> {
        let topics = self.topics.iter().filter(|(at, _)| at.group == group);
        let mut found = topics.filter_map(|(at, topic)| {
            let held = topic.queues.values().find_map(|queue| queue.find(&is_it))?;
            Some((at.clone(), held.clone()))
        });
        found.next()
    }

    /// Takes a message out that the client has sent back.
    pub(super) fn take(
        &mut self,
        at: &GroupTopic,
        now: Instant,
        is_it: impl Fn(&Held) -> bool,
    ) -> Option<Held> {
        let topic = self.topics.get_mut(at)?;
        let held = topic.queues.values_mut().find_map(|queue| queue.take(now, &is_it))?;
        topic.full = 0;
        topic.forget([&held]);
        Some(held)
    }

    /// Frees what the client does not get to, and forgets the queues that it does not use any more.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<(GroupTopic, Freed)> {
        let mut all = Vec::new();
        for (at, topic) in &mut self.topics {
            let mut freed = Freed::default();
            let gone = topic.queues.extract_if(|_, queue| queue.abandoned(SILENCE, now));
            let gone: Vec<_> = gone.collect();
            gone.into_iter().for_each(|(_, mut queue)| freed.extend(queue.clear()));
            // Clients name brokers as they like. A line in which nobody waits is made again when it is needed.
            topic.lines.retain(|_, line| Arc::strong_count(line) > 1);
            let mut queues: Vec<_> = topic.queues.values_mut().collect();
            let untouched = free_untouched(&mut queues, PATIENCE, now);
            if !untouched.is_empty() {
                topic.window = MAYBE_BEGUN;
                freed.untouched.extend(untouched);
            }
            topic.forget(freed.iter());
            if !freed.is_empty() {
                all.push((at.clone(), freed));
            }
        }
        self.topics.retain(|_, topic| !topic.queues.is_empty());
        all
    }

    /// Frees what a group holds here; all groups without one.
    pub(super) fn leave(&mut self, group: Option<&str>) -> Vec<(GroupTopic, Freed)> {
        let left = self.topics.extract_if(|at, _| group.is_none_or(|group| at.group == group));
        let left = left.map(|(at, mut topic)| (at, topic.clear()));
        left.filter(|(_, freed)| !freed.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests;
