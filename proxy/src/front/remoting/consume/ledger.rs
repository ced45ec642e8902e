//! The unsettled messages of one connection's classic push consumers: a ledger per queue, and a window per group and
//! topic that bounds them.
//!
//! The client reads queues by offset. Instead of offsets it gets positions, which rise without gaps, and its commits
//! become acknowledgements. Each pull may return messages of any queue of the topic, so a queue is only a name here.
//!
//! The window is small at first, so that a client that is stuck from the start holds few messages, and grows as the
//! client settles messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::consume_rate::ConsumeRate;
use super::queue_ledger::{FreedMessages, HeldMessage, MAYBE_BEGUN, QueueLedger, free_untouched};

/// The window: how many messages of one topic a client may hold. It begins with `INITIAL_WINDOW`, and grows to the
/// number of messages that the client consumes in a quarter of a second, but at least to `SLOW_CLIENT_WINDOW` and at
/// most to `MAX_WINDOW`. If the proxy fails, up to a window of messages is consumed and delivered again nevertheless.
/// Clients pull, and thereby commit, several times in a quarter of a second.
const INITIAL_WINDOW: usize = 32;
const SLOW_CLIENT_WINDOW: usize = 128;
const MAX_WINDOW: usize = 1024;
const WINDOWS_PER_SECOND: usize = 4;
/// The body bytes of one topic that a client may hold. One answer may exceed them.
const MAX_BYTES: usize = 64 << 20;
/// The maximum number of queues of one connection, in all groups and topics.
const MAX_QUEUES: usize = 8192;
/// A client that has made no progress for this long is stuck. It keeps only the messages that it may have begun to
/// consume.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// After this time without a request about a queue, the client has abandoned the queue. Clients commit their offsets
/// every five seconds, even if they pull nothing.
const ABANDONED_AFTER: Duration = Duration::from_secs(40);

/// A group and a topic from which it consumes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct GroupTopic {
    pub(in super::super) group: String,
    pub(in super::super) topic: String,
}

/// A queue, as the client names it. The broker is empty for older clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BrokerQueue {
    pub(super) broker: String,
    pub(super) id: i32,
}

/// A queue that a client consumes in a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientQueue {
    pub(super) at: GroupTopic,
    pub(super) queue: BrokerQueue,
}

/// The ledgers of one connection.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    topics: HashMap<GroupTopic, TopicLedger>,
    /// The number of the newest pull.
    newest_pull: u64,
}

#[derive(Debug)]
struct TopicLedger {
    window: usize,
    /// Messages that pulls in progress may return.
    reserved: usize,
    /// Messages that the client holds no more, but that could not be settled so far.
    unsettled: FreedMessages,
    /// Unsettled messages, and the bytes of their bodies.
    held: usize,
    bytes: usize,
    /// Pulls that found the window full since the client last settled a message.
    full_pulls: u32,
    rate: ConsumeRate,
    queues: HashMap<BrokerQueue, QueueLedger>,
    /// By broker.
    receive_locks: HashMap<String, ReceiveLock>,
}

/// Held by the one pull of a client that receives messages of a topic from a broker. A client that pulls many queues
/// therefore has one waiting receive, and single messages go to all clients in turn.
pub(super) type ReceiveLock = Arc<Mutex<()>>;

/// A pull in progress.
#[derive(Debug)]
pub(super) struct PendingPull {
    pub(super) queue: ClientQueue,
    number: u64,
    /// The lock that it needs in order to receive.
    pub(super) receive_lock: ReceiveLock,
    /// How many messages it may return. Zero until [`Ledgers::reserve`] is called.
    pub(super) reserved: usize,
    /// Messages that did not reach the client, and are to be given back.
    pub(super) freed: FreedMessages,
}

impl Default for TopicLedger {
    fn default() -> Self {
        Self {
            window: INITIAL_WINDOW,
            reserved: 0,
            unsettled: FreedMessages::default(),
            held: 0,
            bytes: 0,
            full_pulls: 0,
            rate: ConsumeRate::default(),
            queues: HashMap::new(),
            receive_locks: HashMap::new(),
        }
    }
}

impl TopicLedger {
    /// How many messages the next pull may return. That is half of what is left of the window, so that pulls of other
    /// queues get some, too, but at least one: the pulls may be of different brokers.
    fn available(&self) -> usize {
        if self.bytes >= MAX_BYTES || self.held >= self.window {
            return 0;
        }
        (self.window.saturating_sub(self.held + self.reserved) / 2).max(1)
    }

    /// Subtracts messages that the client does not hold any more.
    fn subtract<'a>(&mut self, gone: impl IntoIterator<Item = &'a HeldMessage>) {
        for held in gone {
            self.held -= 1;
            self.bytes -= held.bytes;
        }
    }

    fn clear(&mut self) -> FreedMessages {
        let mut freed = std::mem::take(&mut self.unsettled);
        for (_, mut queue) in self.queues.drain() {
            freed.extend(queue.clear());
        }
        self.subtract(freed.iter());
        freed
    }
}

impl Ledgers {
    /// Begins a queue anew for a client. Returns the position from which the client shall pull, and the messages of the
    /// queue that it held before.
    pub(super) fn start_queue(
        &mut self,
        queue: &ClientQueue,
        fresh: i64,
        now: Instant,
    ) -> (i64, FreedMessages) {
        let ClientQueue { at, queue } = queue;
        let Some(topic) = self.topics.get_mut(at) else { return (fresh, FreedMessages::default()) };
        let Some(ledger) = topic.queues.get_mut(queue) else { return (fresh, FreedMessages::default()) };
        let freed = ledger.clear();
        let next = ledger.next().max(fresh);
        *ledger = QueueLedger::new(next, now);
        topic.subtract(freed.iter());
        (next, freed)
    }

    /// Begins a pull from this position on. `None` if the connection has too many queues.
    pub(super) fn begin_pull(
        &mut self,
        pulled: &ClientQueue,
        position: i64,
        now: Instant,
    ) -> Option<PendingPull> {
        let ClientQueue { at, queue } = pulled;
        let known = self.topics.get(at).is_some_and(|topic| topic.queues.contains_key(queue));
        if !known && self.topics.values().map(|topic| topic.queues.len()).sum::<usize>() >= MAX_QUEUES {
            return None;
        }
        let topic = self.topics.entry(at.clone()).or_default();
        let ledger = topic.queues.entry(queue.clone()).or_insert_with(|| QueueLedger::new(position, now));
        self.newest_pull += 1;
        let number = self.newest_pull;
        let freed = ledger.begin_pull(number, position, now);
        topic.subtract(freed.iter());
        let receive_lock = topic.receive_locks.entry(queue.broker.clone()).or_default().clone();
        Some(PendingPull { queue: pulled.clone(), number, receive_lock, reserved: 0, freed })
    }

    /// Reserves a part of the window for a pull, for `wanted` messages at most. Reserves nothing if the client must
    /// settle messages first, or has begun a newer pull of the queue.
    pub(super) fn reserve(&mut self, pull: &mut PendingPull, wanted: usize) {
        let ClientQueue { at, queue } = &pull.queue;
        let Some(topic) = self.topics.get_mut(at) else { return };
        let ledger = topic.queues.get(queue).filter(|ledger| ledger.is_newest_pull(pull.number));
        if ledger.is_some_and(|ledger| !ledger.is_full()) {
            pull.reserved = topic.available().min(wanted);
            topic.reserved += pull.reserved;
        }
    }

    /// Adds the messages that a pull has received. Returns the position of the first. `None` if the client must not get
    /// them, because it has begun a newer pull of the queue.
    pub(super) fn hand_out(
        &mut self,
        pull: &PendingPull,
        messages: Vec<HeldMessage>,
        now: Instant,
    ) -> Option<i64> {
        let ClientQueue { at, queue } = &pull.queue;
        let topic = self.topics.get_mut(at)?;
        let ledger = topic.queues.get_mut(queue).filter(|ledger| ledger.is_newest_pull(pull.number))?;
        topic.held += messages.len();
        topic.bytes += messages.iter().map(|held| held.bytes).sum::<usize>();
        Some(ledger.hand_out(messages, now))
    }

    /// Ends a pull, with or without messages, and releases its reservation.
    pub(super) fn end_pull(&mut self, pull: &PendingPull, now: Instant) {
        let ClientQueue { at, queue } = &pull.queue;
        let Some(topic) = self.topics.get_mut(at) else { return };
        topic.reserved = topic.reserved.saturating_sub(pull.reserved);
        if let Some(ledger) = topic.queues.get_mut(queue) {
            ledger.end_pull(now);
        }
    }

    /// Counts a pull that found the window full. Returns how many did before, since the client last settled a message.
    pub(super) fn count_full_pull(&mut self, at: &GroupTopic) -> u32 {
        let Some(topic) = self.topics.get_mut(at) else { return 0 };
        let before = topic.full_pulls;
        topic.full_pulls = topic.full_pulls.saturating_add(1);
        before
    }

    /// Takes messages back that could not be settled. They count as held until the next attempt, which a commit, a
    /// sweep or the end of the group brings.
    pub(super) fn put_back(&mut self, at: GroupTopic, messages: FreedMessages) {
        let topic = self.topics.entry(at).or_default();
        topic.held += messages.iter().count();
        topic.bytes += messages.iter().map(|held| held.bytes).sum::<usize>();
        topic.unsettled.extend(messages);
    }

    /// Takes out all messages that were put back.
    pub(super) fn take_unsettled(&mut self) -> Vec<HeldMessage> {
        let mut all = FreedMessages::default();
        for topic in self.topics.values_mut() {
            let unsettled = std::mem::take(&mut topic.unsettled);
            topic.subtract(unsettled.iter());
            all.extend(unsettled);
        }
        all.into_messages().collect()
    }

    /// Settles the messages before this position, which the client has consumed. Returns those to acknowledge.
    pub(super) fn commit(&mut self, queue: &ClientQueue, before: i64, now: Instant) -> Vec<HeldMessage> {
        let ClientQueue { at, queue } = queue;
        let Some(topic) = self.topics.get_mut(at) else { return Vec::new() };
        let Some(ledger) = topic.queues.get_mut(queue) else { return Vec::new() };
        let mut consumed = ledger.commit(before, now);
        if !consumed.is_empty() {
            topic.rate.add(consumed.len(), now);
            let limit = (topic.rate.per_second() / WINDOWS_PER_SECOND).clamp(SLOW_CLIENT_WINDOW, MAX_WINDOW);
            topic.window = (topic.window + consumed.len()).min(limit);
            topic.full_pulls = 0;
        }
        consumed.append(&mut topic.unsettled.consumed);
        topic.subtract(&consumed);
        consumed
    }

    /// Whether messages of this queue, or of any queue of the topic whose acknowledgement failed, are unsettled.
    pub(super) fn holds(&self, queue: &ClientQueue) -> bool {
        let Some(topic) = self.topics.get(&queue.at) else { return false };
        !topic.unsettled.is_empty() || topic.queues.get(&queue.queue).is_some_and(QueueLedger::holds_any)
    }

    /// Finds a message that the client holds in a group, in any topic.
    pub(super) fn find(
        &self,
        group: &str,
        matches: impl Fn(&HeldMessage) -> bool,
    ) -> Option<(GroupTopic, HeldMessage)> {
        let topics = self.topics.iter().filter(|(at, _)| at.group == group);
        let mut found = topics.filter_map(|(at, topic)| {
            let held = topic.queues.values().find_map(|queue| queue.find(&matches))?;
            Some((at.clone(), held.clone()))
        });
        found.next()
    }

    /// Removes a message that the client has sent back.
    pub(super) fn take(
        &mut self,
        at: &GroupTopic,
        now: Instant,
        matches: impl Fn(&HeldMessage) -> bool,
    ) -> Option<HeldMessage> {
        let topic = self.topics.get_mut(at)?;
        let held = topic.queues.values_mut().find_map(|queue| queue.take(now, &matches))?;
        topic.full_pulls = 0;
        topic.subtract([&held]);
        Some(held)
    }

    /// Frees the messages that a stuck client has not begun to consume, and those that could not be settled so far.
    /// Removes abandoned queues.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<(GroupTopic, FreedMessages)> {
        let mut all = Vec::new();
        for (at, topic) in &mut self.topics {
            let mut freed = std::mem::take(&mut topic.unsettled);
            let gone = topic.queues.extract_if(|_, queue| queue.is_abandoned(ABANDONED_AFTER, now));
            let gone: Vec<_> = gone.collect();
            gone.into_iter().for_each(|(_, mut queue)| freed.extend(queue.clear()));
            // Bounds the locks, as clients may send any broker names. An unused lock is created again when it is
            // needed.
            topic.receive_locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            let mut queues: Vec<_> = topic.queues.values_mut().collect();
            let untouched = free_untouched(&mut queues, STUCK_AFTER, now);
            if !untouched.is_empty() {
                topic.window = MAYBE_BEGUN;
                freed.untouched.extend(untouched);
            }
            topic.subtract(freed.iter());
            if !freed.is_empty() {
                all.push((at.clone(), freed));
            }
        }
        self.topics.retain(|_, topic| !topic.queues.is_empty());
        all
    }

    /// Frees all messages of a group, or of all groups if none is given.
    pub(super) fn free_group(&mut self, group: Option<&str>) -> Vec<(GroupTopic, FreedMessages)> {
        let left = self.topics.extract_if(|at, _| group.is_none_or(|group| at.group == group));
        let left = left.map(|(at, mut topic)| (at, topic.clear()));
        left.filter(|(_, freed)| !freed.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests;
