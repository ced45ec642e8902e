//! Random receives in order, settlements and restarts, compared with the rules of message groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::broker::Broker;
use super::chunk::Chunk;
use super::clock;
use super::codec;
use super::config::EmbeddedConfig;
use super::filter::Matcher;
use super::lease::{Coordinates, Lease};
use super::progress::Progress;
use super::progress_transaction::ProgressTransaction;
use super::queue::Queue;
use super::read_cache::ReadCache;
use super::settle::{EndedLeases, LeaseStatus, lease_status};
use super::take::{QueueOrder, TakeRequest, TakenBatch};
use crate::service::{GroupStart, Message};

const QUEUES: usize = 2;
/// The time between two steps, in ms: much longer than a test takes, because a restart reads the real clock.
const STEP: u64 = 10_000_000;
const NO_LIMIT: usize = 1000;

#[derive(Clone, Debug)]
enum Operation {
    /// Sends a message for each of these message groups. 0 means no message group.
    Send {
        queue: usize,
        groups: Vec<u8>,
    },
    Receive {
        max: usize,
        steps: u64,
        attempt_id: Option<u8>,
    },
    /// A receive whose write fails.
    FailToReceive {
        max: usize,
    },
    /// Acknowledges the delivery with this index, which may be an old one.
    Acknowledge(prop::sample::Index),
    Nack(prop::sample::Index),
    Extend(prop::sample::Index),
    Pass,
    Restart,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let index = any::<prop::sample::Index>;
    let operation = prop_oneof![
        3 => (0..QUEUES, prop::collection::vec(0u8..4, 1..6))
            .prop_map(|(queue, groups)| Operation::Send { queue, groups }),
        4 => (1usize..7, 1u64..4, prop::option::of(0u8..3))
            .prop_map(|(max, steps, attempt_id)| Operation::Receive { max, steps, attempt_id }),
        1 => (1usize..7).prop_map(|max| Operation::FailToReceive { max }),
        6 => index().prop_map(Operation::Acknowledge),
        2 => index().prop_map(Operation::Nack),
        1 => index().prop_map(Operation::Extend),
        2 => Just(Operation::Pass),
        1 => Just(Operation::Restart),
    ];
    prop::collection::vec(operation, 1..80)
}

/// A message that was sent.
struct Sent {
    group: u8,
    settled: bool,
    lease: Option<ModelLease>,
}

impl Sent {
    /// Whether its last lease is of a receive with this attempt id.
    fn is_of(&self, attempt_id: Option<u8>) -> bool {
        attempt_id.is_some() && self.lease.as_ref().is_some_and(|lease| lease.attempt_id == attempt_id)
    }
}

struct ModelLease {
    token: u64,
    until: u64,
    attempt: u32,
    attempt_id: Option<u8>,
}

struct Model<'a> {
    broker: &'a Broker,
    cache: ReadCache,
    topic: u32,
    queues: Vec<Arc<Queue>>,
    progress: Arc<Progress>,
    sent: Vec<Vec<Sent>>,
    deliveries: Vec<Coordinates>,
    now: u64,
    max_leases: usize,
    whole_queues: bool,
    next_token: u64,
    // Whether the last receive left no message that can be delivered.
    is_drained: bool,
}

impl<'a> Model<'a> {
    fn new(broker: &'a Broker, topic: u32, max_leases: usize) -> Self {
        let queue = |id| Arc::new(Queue::load(&broker.store, topic, id as u32).expect("an empty queue"));
        let queues: Vec<_> = (0..QUEUES).map(queue).collect();
        let progress = Arc::new(Progress::new(1, topic));
        progress.load(&broker.store, &queues, GroupStart::Default).expect("nothing");
        Self {
            broker,
            cache: ReadCache::default(),
            topic,
            queues,
            progress,
            sent: (0..QUEUES).map(|_| Vec::new()).collect(),
            deliveries: Vec::new(),
            now: clock::monotonic() + STEP / 2,
            max_leases,
            whole_queues: false,
            next_token: 1,
            is_drained: true,
        }
    }

    fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Send { queue, groups } => self.send(queue, &groups),
            Operation::Receive { max, steps, attempt_id } => {
                self.receive(max, steps, attempt_id);
            }
            Operation::FailToReceive { max } => {
                self.can_receive(max);
            }
            Operation::Acknowledge(index) => self.settle(index, None),
            Operation::Nack(index) => self.settle(index, Some(0)),
            Operation::Extend(index) => self.settle(index, Some(2)),
            Operation::Pass => self.pass(),
            Operation::Restart => self.restart(),
        }
    }

    fn send(&mut self, queue: usize, groups: &[u8]) {
        let encoded: Vec<_> = groups
            .iter()
            .map(|group| {
                let group = (*group > 0).then(|| format!("group {group}"));
                codec::encode(&Message { group, ..Message::default() }, 0)
            })
            .collect();
        self.queues[queue].publish(Chunk::build(self.queues[queue].end(), 0, encoded.iter()));
        let sent = groups.iter().map(|group| Sent { group: *group, settled: false, lease: None });
        self.sent[queue].extend(sent);
        self.is_drained = false;
    }

    /// Takes messages. The change is undone unless it is committed.
    fn take(
        &self,
        max: usize,
        visible_at: u64,
        attempt_id: Option<&str>,
    ) -> (ProgressTransaction<'_>, TakenBatch) {
        let request = TakeRequest {
            max,
            now: self.now,
            visible_at,
            token: self.next_token,
            fifo: true,
            whole_queues: self.whole_queues,
            attempt_id,
            filter: &Matcher::All,
            max_leases: self.max_leases,
            order: QueueOrder::From(self.next_token as usize),
            cache: &self.cache,
            read: None,
        };
        let mut transaction = self.progress.begin().expect("loaded");
        transaction.in_order = true;
        let batch = request.take(&mut transaction, &self.queues).expect("sound messages");
        assert!(batch.missing.is_none(), "all is in memory");
        (transaction, batch)
    }

    /// Whether a receive would get messages.
    fn can_receive(&self, max: usize) -> bool {
        let (_undone, batch) = self.take(max, self.now + STEP, None);
        !batch.taken.is_empty()
    }

    fn receive(&mut self, max: usize, steps: u64, attempt_id: Option<u8>) -> usize {
        let visible_at = self.now + steps * STEP - STEP / 4;
        let name = attempt_id.map(|id| id.to_string());
        let (mut transaction, batch) = self.take(max, visible_at, name.as_deref());
        transaction.commit(&self.broker.progress_writer).wait().expect("written");
        drop(transaction);
        let token = self.next_token;
        self.next_token += 1;
        assert!(batch.taken.len() <= max);
        let mut in_batch = BTreeSet::new();
        let (mut blocked, mut first) = (BTreeMap::new(), BTreeMap::new());
        for (queue, sent) in self.sent.iter().enumerate() {
            for sent in sent {
                let running = sent.lease.iter().filter(|lease| lease.until > self.now);
                let foreign = running.filter(|lease| attempt_id.is_none() || lease.attempt_id != attempt_id);
                *blocked.entry((queue, sent.group)).or_insert(false) |= foreign.count() > 0;
            }
        }
        let messages =
            batch.taken.iter().map(|taken| &self.sent[taken.queue as usize][taken.offset as usize]);
        let repeated = messages.filter(|sent| sent.is_of(attempt_id)).count();
        assert!(repeated >= self.repeatable(attempt_id, &blocked).min(max), "other messages came first");
        for taken in &batch.taken {
            let (queue, offset) = (taken.queue as usize, taken.offset as usize);
            let sent = &self.sent[queue];
            let group = sent[offset].group;
            assert!(!sent[offset].settled, "a settled message was delivered again");
            assert!(!blocked[&(queue, group)], "its message group is blocked");
            for (earlier, other) in sent[..offset].iter().enumerate() {
                let is_first = other.group != group || other.settled || in_batch.contains(&(queue, earlier));
                assert!(is_first, "{offset} was delivered before {earlier} of the same message group");
            }
            assert!(in_batch.insert((queue, offset)), "a message is twice in a batch");
            let attempt = sent[offset]
                .lease
                .as_ref()
                .map_or(1, |lease| if lease.until > self.now { lease.attempt } else { lease.attempt + 1 });
            assert_eq!(taken.attempt, attempt);
            let is_first = sent[offset].lease.is_none();
            let all_are_first = *first.entry((queue, group)).or_insert(is_first);
            assert_eq!(is_first, all_are_first, "a new message follows unsettled ones");
        }
        for taken in &batch.taken {
            let lease = ModelLease { token, until: visible_at, attempt: taken.attempt, attempt_id };
            self.sent[taken.queue as usize][taken.offset as usize].lease = Some(lease);
            self.deliveries.push(Coordinates {
                queue: taken.queue,
                offset: taken.offset,
                token,
                topic: None,
                group: None,
                until: None,
            });
        }
        self.is_drained = batch.taken.len() < max;
        if self.is_drained && self.max_leases == NO_LIMIT {
            self.assert_no_group_waits();
        }
        batch.taken.len()
    }

    /// The number of messages that a repeated attempt gets again before any others, whichever queue they are in.
    fn repeatable(&self, attempt_id: Option<u8>, blocked: &BTreeMap<(usize, u8), bool>) -> usize {
        let mut repeatable = 0;
        for (&(queue, group), _) in blocked.iter().filter(|(_, is_blocked)| !**is_blocked) {
            let unsettled = || self.sent[queue].iter().filter(|sent| sent.group == group && !sent.settled);
            let is_running = |sent: &Sent| sent.lease.as_ref().is_some_and(|lease| lease.until > self.now);
            if unsettled().any(is_running) {
                repeatable += unsettled().take_while(|sent| sent.is_of(attempt_id)).count();
            }
        }
        repeatable
    }

    /// Asserts that every message group with unsettled messages has a running lease.
    fn assert_no_group_waits(&self) {
        for sent in &self.sent {
            let of = |wanted: fn(&Sent, u64) -> bool| -> BTreeSet<u8> {
                sent.iter().filter(|sent| wanted(sent, self.now)).map(|sent| sent.group).collect()
            };
            let running = of(|sent, now| sent.lease.as_ref().is_some_and(|lease| lease.until > now));
            assert_eq!(of(|sent, _| !sent.settled), running);
        }
    }

    /// Acknowledges a delivery, or makes its lease expire after this many steps.
    fn settle(&mut self, index: prop::sample::Index, steps: Option<u64>) {
        if self.deliveries.is_empty() {
            return;
        }
        let at = *index.get(&self.deliveries);
        let (queue, offset) = (at.queue as usize, at.offset as usize);
        let until = steps.map(|steps| if steps == 0 { self.now } else { self.now + steps * STEP - STEP / 4 });
        let mut transaction = self.progress.begin().expect("loaded");
        let found = lease_status(&mut transaction, queue, at, self.now);
        let message = &mut self.sent[queue][offset];
        let lease = message.lease.as_mut().filter(|lease| lease.token == at.token && lease.until > self.now);
        let LeaseStatus::Running(old) = found else {
            assert!(lease.is_none(), "a lease is lost");
            return;
        };
        let lease = lease.expect("a running lease");
        self.next_token += 1;
        let deliverable = if let Some(until) = until {
            lease.until = until;
            lease.token = self.next_token;
            let group = old.group;
            transaction
                .queue(queue)
                .lease(at.offset, Lease { visible_at: until, token: self.next_token, ..old });
            transaction.commit(&self.broker.progress_writer).wait().expect("written");
            self.deliveries.push(Coordinates { token: self.next_token, ..at });
            usize::from(transaction.queue(queue).is_unblocked(group, self.now))
        } else {
            message.settled = true;
            message.lease = None;
            let mut ended = EndedLeases::new(self.max_leases);
            ended.end_lease(&mut transaction, queue, at.offset);
            transaction.commit(&self.broker.progress_writer).wait().expect("written");
            ended.deliverable(&mut transaction, self.now)
        };
        drop(transaction);
        self.assert_wakes(deliverable);
    }

    /// Asserts that waiting receives are woken if and only if there are messages for them.
    fn assert_wakes(&mut self, deliverable: usize) {
        if self.is_drained && self.max_leases == NO_LIMIT {
            assert_eq!(deliverable > 0, self.can_receive(1), "{deliverable}");
        }
        self.is_drained &= deliverable == 0;
    }

    fn pass(&mut self) {
        self.now += STEP;
        let transaction = self.progress.begin().expect("loaded");
        let deliverable = transaction.queues().iter().map(|queue| queue.count_unblocked(self.now, 9)).sum();
        drop(transaction);
        self.assert_wakes(deliverable);
    }

    fn restart(&mut self) {
        self.progress = Arc::new(Progress::new(1, self.topic));
        self.progress.load(&self.broker.store, &self.queues, GroupStart::Default).expect("what was written");
        self.pass();
    }

    /// Receives and acknowledges everything, and asserts that nothing was lost.
    fn drain(&mut self) {
        for _ in 0..4 {
            self.pass();
        }
        loop {
            let before = self.deliveries.len();
            if self.receive(5, 1, None) == 0 {
                break;
            }
            for delivery in before..self.deliveries.len() {
                let at = self.deliveries[delivery];
                let mut transaction = self.progress.begin().expect("loaded");
                transaction.queue(at.queue as usize).end_lease(at.offset);
                transaction.commit(&self.broker.progress_writer).wait().expect("written");
                let message = &mut self.sent[at.queue as usize][at.offset as usize];
                (message.settled, message.lease) = (true, None);
            }
        }
        assert!(self.sent.iter().flatten().all(|sent| sent.settled), "a message is lost");
    }
}

#[test]
fn message_groups_stay_in_order_and_do_not_wait_for_each_other() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
    let broker = Broker::open(config).expect("a fresh directory opens");
    let next_topic = std::cell::Cell::new(1000);
    let limits = prop_oneof![Just(NO_LIMIT), 1usize..4];
    let mut runner = TestRunner::new(Config::with_cases(512));
    let tested = runner.run(&(limits, operations()), |(max_leases, operations)| {
        next_topic.set(next_topic.get() + 1);
        let mut model = Model::new(&broker, next_topic.get(), max_leases);
        for operation in operations {
            model.run(operation);
        }
        model.drain();
        Ok(())
    });
    tested.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_repeated_attempt_does_not_overtake_messages_of_another_attempt() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
    let broker = Broker::open(config).expect("a fresh directory opens");
    for (topic, whole_queues) in [(1000, false), (1001, true)] {
        let mut model = Model::new(&broker, topic, NO_LIMIT);
        model.whole_queues = whole_queues;
        model.send(0, &[1, 1, 1]);
        assert_eq!(model.receive(3, 1, Some(1)), 3);
        model.pass();
        assert_eq!(model.receive(2, 1, Some(2)), 2);
        model.pass();
        assert_eq!(model.receive(1, 1, Some(1)), 1);
        // The second message, which is between the first and the third, belongs to the other attempt.
        assert_eq!(model.receive(3, 1, Some(1)), 1);
        model.drain();
    }
}
