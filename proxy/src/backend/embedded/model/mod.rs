//! Random operations on a broker, compared with a simple model of the rules. Time is controlled: no test waits.
//!
//! A failure names its seed: `MODEL_SEED` repeats a run. `MODEL_STEPS` makes it longer; `cargo x test` does.

mod operations;
mod rules;
mod subject;

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::service::{
    AckOutcome, Delay, Delivery, InvisibleOutcome, Message, NextAttempt, Settle, TopicKind, millis, time,
};
use rules::{
    Delivered, Group, Half, Handle, LeaseStatus, New, Number, Order, PendingMessages, ReceiveParams,
};
use subject::{BrokerUnderTest, CHECK_INTERVAL, CLASSES, Selection, Source, class_name, property_of, tag_of};

/// The topics and groups. Dead letters are consumed from [`DEAD`], in the same order.
const SOURCES: [Source; 8] = [
    source("mixed", "first", TopicKind::Mixed, Selection::All),
    source("mixed", "second", TopicKind::Mixed, Selection::All),
    source("mixed", "tagged", TopicKind::Mixed, Selection::Tags),
    source("mixed", "selected", TopicKind::Mixed, Selection::Sql),
    source("fifo", "fifo", TopicKind::Fifo, Selection::All),
    source("fifo", "fifo-selected", TopicKind::Fifo, Selection::Sql),
    source("priority", "priority", TopicKind::Priority, Selection::All),
    source("lite", "lite", TopicKind::Lite, Selection::All),
];
/// The groups that read the dead letters of the others.
const DEAD: [Source; 8] = [
    source("%DLQ%first", "dead", TopicKind::Normal, Selection::All),
    source("%DLQ%second", "dead", TopicKind::Normal, Selection::All),
    source("%DLQ%tagged", "dead", TopicKind::Normal, Selection::All),
    source("%DLQ%selected", "dead", TopicKind::Normal, Selection::All),
    source("%DLQ%fifo", "dead", TopicKind::Normal, Selection::All),
    source("%DLQ%fifo-selected", "dead", TopicKind::Normal, Selection::All),
    source("%DLQ%priority", "dead", TopicKind::Normal, Selection::All),
    source("%DLQ%lite", "dead", TopicKind::Normal, Selection::All),
];

const fn source(topic: &'static str, group: &'static str, kind: TopicKind, selection: Selection) -> Source {
    Source { topic, group, kind, selection }
}

const MIXED: &str = "mixed";
const FIFO: &str = "fifo";
/// The attempt ids of receives.
const ATTEMPTS: u8 = 3;
/// The age from which on messages may be removed, in ms.
const MIN_AGE_TO_EXPIRE: u64 = 60_000;
/// The maximum number of deliveries, half messages and delayed messages that are remembered, including old ones.
const MAX_REMEMBERED: usize = 60;
/// No messages are sent while there are more unsettled ones than this.
const MAX_UNSETTLED: usize = 150;
/// How long the broker remembers decisions, in ms.
const DECISION_AGE: u64 = 3_600_000;
/// The number of last steps that a failure prints.
const PRINTED_STEPS: usize = 25;

/// The broker under test and the model.
struct World {
    subject: BrokerUnderTest,
    groups: Vec<Group>,
    waiting: PendingMessages,
    handles: VecDeque<Handle>,
    transactions: VecDeque<(Number, &'static str, String)>,
    recalls: VecDeque<(Number, String)>,
    next: Number,
    random: StdRng,
    steps: VecDeque<String>,
    starts: usize,
    /// Messages that were stored before this time are removed.
    expired_before: u64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let orders = SOURCES.map(|source| match source.kind {
            TopicKind::Fifo | TopicKind::Lite => Order::ByClass,
            TopicKind::Priority => Order::HighestFirst,
            _ => Order::None,
        });
        let dead = DEAD.map(|_| Order::None);
        Self {
            subject: BrokerUnderTest::new(&SOURCES).await,
            groups: orders.into_iter().chain(dead).map(Group::new).collect(),
            waiting: PendingMessages::default(),
            handles: VecDeque::new(),
            transactions: VecDeque::new(),
            recalls: VecDeque::new(),
            next: 0,
            random: StdRng::seed_from_u64(seed),
            steps: VecDeque::new(),
            starts: 1,
            expired_before: 0,
        }
    }

    fn now(&self) -> u64 {
        self.subject.now()
    }

    fn note(&mut self, step: String) {
        self.steps.push_back(format!("{} {step}", self.now() % 100_000_000));
        if self.steps.len() > PRINTED_STEPS {
            self.steps.pop_front();
        }
    }

    async fn step(&mut self) {
        match self.random.random_range(0..4000) {
            0..1200 => self.send().await,
            1200..2000 => self.receive().await,
            2000..2900 => self.acknowledge().await,
            2900..3100 => self.change().await,
            3100..3160 => self.forward().await,
            3160..3400 => self.decide().await,
            3400..3460 => self.recall().await,
            3460..3500 => self.check().await,
            3500..3504 => self.expire(),
            3504..3998 => self.pass().await,
            3998 => self.start_again(false).await,
            _ => self.start_again(true).await,
        }
    }

    async fn send(&mut self) {
        if self.groups.iter().map(Group::count).sum::<usize>() > MAX_UNSETTLED {
            return;
        }
        let number = self.next;
        self.next += 1;
        let class = self.random.random_range(0..CLASSES);
        let length = if self.random.random_bool(0.1) { 3_000 } else { 20 };
        let mut message = Message {
            id: number.to_string(),
            body: vec![1; length].into(),
            tag: Some(tag_of(number)),
            properties: vec![("n".to_owned(), property_of(number).to_string())],
            ..Message::default()
        };
        let kind = self.random.random_range(0..8);
        self.note(format!("send {number}: kind {kind}, class {class}"));
        let now = self.now();
        match kind {
            0 | 1 => self.queue(number, MIXED, 0),
            2 => {
                message.group = Some(class_name(class));
                self.queue(number, FIFO, class);
            }
            3 => {
                message.priority = Some(class as i32);
                self.queue(number, "priority", class);
            }
            4 => {
                message.lite_topic = Some(class_name(class));
                self.queue(number, "lite", class);
            }
            5 => {
                let due = now + self.random.random_range(1..8_000);
                message.delay = Some(Delay::Until(time(due as i64)));
                self.waiting.delayed.insert(number, (due, false));
            }
            _ => {
                message.half = true;
                let class = (kind == 7).then_some(class);
                message.group = class.map(class_name);
                let half = Half { stored_at: now, class, check_at: now + CHECK_INTERVAL, checks: 0 };
                self.waiting.halves.insert(number, half);
            }
        }
        let topic = [MIXED, MIXED, FIFO, "priority", "lite", MIXED, MIXED, FIFO][kind];
        let sent = self.subject.send(topic, message).await;
        remember(&mut self.transactions, sent.transaction.map(|coordinates| (number, topic, coordinates)));
        remember(&mut self.recalls, sent.recall_handle.map(|handle| (number, handle)));
    }

    /// Adds a message to all groups of its topic.
    fn queue(&mut self, number: Number, topic: &str, class: u32) {
        let now = self.now();
        for (source, group) in SOURCES.iter().zip(&mut self.groups) {
            if source.topic == topic && source.selection.matches(number) {
                group.add(now, New { number, class, earlier_attempts: 0 });
            }
        }
    }

    fn source(index: usize) -> Source {
        SOURCES.iter().chain(&DEAD).copied().nth(index).expect("a source for each group")
    }

    async fn receive(&mut self) {
        let group = self.random.random_range(0..SOURCES.len() + DEAD.len());
        // Some receives ask for more messages than there are, and would find messages that must not be visible yet.
        let max = if self.random.random_bool(0.2) { MAX_UNSETTLED } else { self.random.random_range(1..8) };
        let invisible = self.random.random_range(1..20_000);
        let source = Self::source(group);
        let is_ordered = matches!(source.kind, TopicKind::Fifo | TopicKind::Lite);
        let attempt_id =
            (is_ordered && self.random.random_bool(0.5)).then(|| self.random.random_range(0..ATTEMPTS));
        self.receive_from(group, ReceiveParams { max, invisible, attempt_id }).await;
    }

    async fn receive_from(&mut self, group: usize, params: ReceiveParams) -> usize {
        let (source, ReceiveParams { invisible, .. }) = (Self::source(group), params);
        self.note(format!("{} receives: {params:?}", source.group));
        let deliveries = self.subject.receive(source, params).await.unwrap_or_default();
        let now = self.now();
        let batch: Vec<_> = deliveries.iter().map(delivered).collect();
        self.note(format!("-> {:?}", batch.iter().map(|one| (one.number, one.attempt)).collect::<Vec<_>>()));
        self.groups[group].receive(now, params, &batch);
        for Delivered { number, coordinates, .. } in batch {
            let handle = Handle { group, number, coordinates, received_at: now, invisible };
            remember(&mut self.handles, Some(handle));
        }
        deliveries.len()
    }

    /// Picks one of the remembered deliveries.
    fn any_handle(&mut self) -> Option<(Handle, LeaseStatus)> {
        let handle = pick(&mut self.random, &self.handles)?;
        let lease_status = self.groups[handle.group].lease_status(self.now(), &handle);
        Some((handle, lease_status))
    }

    async fn acknowledge(&mut self) {
        let Some((handle, lease_status)) = self.any_handle() else { return };
        self.note(format!("acknowledge {} of {}: {lease_status:?}", handle.number, handle.group));
        let outcome = self.subject.acknowledge(Self::source(handle.group), settle(&handle)).await;
        let expected = match lease_status {
            LeaseStatus::Running | LeaseStatus::Gone { is_past: false } => AckOutcome::Done,
            LeaseStatus::Expired | LeaseStatus::Gone { is_past: true } => AckOutcome::Expired,
        };
        assert_eq!(outcome, expected);
        if lease_status == LeaseStatus::Running {
            self.groups[handle.group].open.remove(&handle.number);
        }
    }

    async fn change(&mut self) {
        let Some((handle, lease_status)) = self.any_handle() else { return };
        let source = Self::source(handle.group);
        let invisible = if self.random.random() { 0 } else { self.random.random_range(1..20_000) };
        let next_attempt = match self.random.random_range(0..4) {
            0 => NextAttempt::Suspended,
            1 => NextAttempt::GivenBack,
            _ => NextAttempt::Counts,
        };
        let description = format!("{} of {}: {lease_status:?}", handle.number, handle.group);
        self.note(format!("change {description}, {invisible} ms, {next_attempt:?}"));
        let outcome = self.subject.change(source, settle(&handle), (invisible, next_attempt)).await;
        let is_removed = self.groups[handle.group].open.get(&handle.number).is_some_and(|open| open.removed);
        // If a receive repeats an attempt, the broker ends the leases of its removed messages.
        let lease_status = match (lease_status, &outcome) {
            (LeaseStatus::Running, InvisibleOutcome::Gone { .. }) if is_removed => {
                LeaseStatus::Gone { is_past: false }
            }
            (lease_status, _) => lease_status,
        };
        let (coordinates, received_at) = match (lease_status, outcome) {
            (LeaseStatus::Running, InvisibleOutcome::Changed { coordinates, received_at })
            | (LeaseStatus::Gone { is_past: false }, InvisibleOutcome::Gone { coordinates, received_at }) => {
                (coordinates, received_at)
            }
            (LeaseStatus::Running | LeaseStatus::Gone { is_past: false }, outcome) => {
                panic!("{lease_status:?}: {outcome:?}")
            }
            (_, outcome) => return assert_eq!(outcome, InvisibleOutcome::Expired, "{lease_status:?}"),
        };
        let now = self.now();
        assert_eq!(millis(received_at), now as i64);
        if lease_status == LeaseStatus::Running {
            let open = self.groups[handle.group].open.get_mut(&handle.number);
            let lease = open.and_then(|open| open.lease.as_mut()).expect("a running lease");
            lease.until = now + invisible;
            lease.coordinates.clone_from(&coordinates);
            lease.uncounted = match next_attempt {
                NextAttempt::Counts => false,
                NextAttempt::Suspended => source.kind != TopicKind::Fifo,
                NextAttempt::GivenBack => true,
            };
        }
        remember(&mut self.handles, Some(Handle { coordinates, received_at: now, invisible, ..handle }));
    }

    async fn forward(&mut self) {
        let Some((handle, lease_status)) = self.any_handle() else { return };
        // Dead letters are not forwarded, and removed messages can't be moved.
        let open = self.groups[handle.group].open.get(&handle.number);
        if handle.group >= SOURCES.len() || open.is_some_and(|open| open.removed) {
            return;
        }
        self.note(format!("forward {} of {}: {lease_status:?}", handle.number, handle.group));
        self.subject.forward(Self::source(handle.group), settle(&handle)).await;
        if matches!(lease_status, LeaseStatus::Running | LeaseStatus::Expired) {
            let open = self.groups[handle.group].open.remove(&handle.number).expect("it is open");
            let attempts = open.earlier_attempts + open.lease.map_or(0, |lease| lease.attempt);
            let now = self.now();
            let letter = New { number: handle.number, class: 0, earlier_attempts: attempts };
            self.groups[SOURCES.len() + handle.group].add(now, letter);
        }
    }

    async fn pass(&mut self) {
        let time = match self.random.random_range(0..100) {
            0 => self.random.random_range(1..120_000),
            1..20 => self.random.random_range(1..5_000),
            20..50 => self.until_change(),
            _ => self.random.random_range(1..300),
        };
        self.pass_exactly(time).await;
    }

    /// The time until a random lease expires or a random message is due, give or take a millisecond.
    fn until_change(&mut self) -> u64 {
        let leases =
            self.groups.iter().flat_map(|group| group.open.values()).filter_map(|open| open.lease.as_ref());
        let due = self.waiting.delayed.values().map(|(due, _)| *due);
        let now = self.now();
        let changes: Vec<u64> = leases.map(|lease| lease.until).chain(due).filter(|at| *at > now).collect();
        let at = changes.get(self.random.random_range(0..changes.len().max(1))).copied().unwrap_or(now);
        (at + self.random.random_range(0..3)).saturating_sub(now + 1).max(1)
    }

    async fn pass_exactly(&mut self, time: u64) {
        self.note(format!("{time} ms pass"));
        self.subject.pass(time).await;
        self.deliver_due();
    }

    async fn start_again(&mut self, kill: bool) {
        self.note(if kill { "kill" } else { "restart" }.to_owned());
        self.starts += 1;
        if kill {
            self.subject.kill(&SOURCES).await
        } else {
            self.subject.restart(&SOURCES).await
        }
        self.deliver_due();
        // The last message of a queue stays on the disk until another one follows, so it has to be removed again.
        self.subject.expire(self.expired_before);
    }

    /// Receives and acknowledges everything, and asserts that nothing is lost.
    async fn drain(&mut self) {
        self.pass_exactly(100_000).await;
        let all = ReceiveParams { max: 7, invisible: 1_000, attempt_id: None };
        for group in 0..self.groups.len() {
            while self.receive_from(group, all).await > 0 {
                let mut late: Vec<_> =
                    self.handles.iter().filter(|handle| handle.group == group).cloned().collect();
                late.retain(|handle| {
                    self.groups[group].lease_status(self.now(), handle) == LeaseStatus::Running
                });
                for handle in late {
                    let outcome = self.subject.acknowledge(Self::source(group), settle(&handle)).await;
                    assert_eq!(outcome, AckOutcome::Done);
                    self.groups[group].open.remove(&handle.number);
                }
            }
            assert_eq!(self.groups[group].count(), 0, "a message is lost");
        }
    }
}

/// Adds an item, and drops the oldest ones.
fn remember<T>(known: &mut VecDeque<T>, new: Option<T>) {
    known.extend(new);
    while known.len() > MAX_REMEMBERED {
        known.pop_front();
    }
}

fn pick<T: Clone>(random: &mut StdRng, known: &VecDeque<T>) -> Option<T> {
    (!known.is_empty()).then(|| known[random.random_range(0..known.len())].clone())
}

fn number(id: &str) -> Number {
    id.parse().expect("ids are numbers")
}

fn delivered(delivery: &Delivery) -> Delivered {
    Delivered {
        number: number(&delivery.message.id),
        attempt: delivery.attempt as u32,
        coordinates: delivery.coordinates.clone(),
    }
}

fn settle(handle: &Handle) -> Settle {
    Settle {
        coordinates: handle.coordinates.clone(),
        message_id: handle.number.to_string(),
        lite_topic: None,
        received_at: time(handle.received_at as i64),
        invisible: Duration::from_millis(handle.invisible),
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::panic::AssertUnwindSafe;

    use futures::FutureExt;

    use super::World;

    const STEPS: usize = 20_000;

    fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
        std::env::var(name).ok().and_then(|value| value.parse().ok())
    }

    fn text_of(panic: &(dyn Any + Send)) -> &str {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
    }

    #[tokio::test]
    async fn a_broker_keeps_the_rules() {
        let seed: u64 = from_environment("MODEL_SEED").unwrap_or_else(rand::random);
        let steps = from_environment("MODEL_STEPS").unwrap_or(STEPS);
        let mut world = World::new(seed).await;
        let mut done = 0;
        let run = async {
            while done < steps {
                world.step().await;
                done += 1;
            }
            world.drain().await;
        };
        if let Err(panic) = AssertUnwindSafe(run).catch_unwind().await {
            let last: Vec<_> = world.steps.into();
            panic!(
                "step {done} (start {}) of MODEL_SEED={seed} MODEL_STEPS={steps}: {}\nthe last steps:\n{}",
                world.starts,
                text_of(panic.as_ref()),
                last.join("\n")
            );
        }
    }
}
