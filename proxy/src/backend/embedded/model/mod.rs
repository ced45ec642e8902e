//! Random operations on a broker, compared with a simple model of the rules. Time is controlled: no test waits.
//!
//! A failure names its seed: `MODEL_SEED` repeats a run. `MODEL_STEPS` makes it longer; `cargo x test` does.

mod rules;
mod subject;

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::service::{
    AckOutcome, Delay, Delivery, InvisibleOutcome, Message, NextAttempt, Resolution, Settle, TopicKind,
    millis, time,
};
use rules::{Delivered, Group, Half, Handle, Number, Order, Referent, Waiting};
use subject::{CHECK_INTERVAL, CLASSES, MAX_CHECKS, Source, Subject, class_name};

/// The topics and groups. Dead letters are consumed from [`DEAD`], in the same order.
const SOURCES: [Source; 5] = [
    Source { topic: "mixed", group: "first", kind: TopicKind::Mixed },
    Source { topic: "mixed", group: "second", kind: TopicKind::Mixed },
    Source { topic: "fifo", group: "fifo", kind: TopicKind::Fifo },
    Source { topic: "priority", group: "priority", kind: TopicKind::Priority },
    Source { topic: "lite", group: "lite", kind: TopicKind::Lite },
];
/// The groups that read the dead letters of the others.
const DEAD: [Source; 5] = [
    Source { topic: "%DLQ%first", group: "dead", kind: TopicKind::Normal },
    Source { topic: "%DLQ%second", group: "dead", kind: TopicKind::Normal },
    Source { topic: "%DLQ%fifo", group: "dead", kind: TopicKind::Normal },
    Source { topic: "%DLQ%priority", group: "dead", kind: TopicKind::Normal },
    Source { topic: "%DLQ%lite", group: "dead", kind: TopicKind::Normal },
];
const MIXED: &str = "mixed";
/// The deliveries, half messages and delayed messages that are known, old ones among them.
const KNOWN: usize = 60;
/// With more unsettled messages than this, no more are sent.
const MAX_OPEN: usize = 100;
/// How long decisions are remembered, in ms.
const REMEMBERED: u64 = 3_600_000;
/// The steps that a failure shows.
const SHOWN: usize = 25;

/// The broker and the model.
struct World {
    subject: Subject,
    groups: Vec<Group>,
    waiting: Waiting,
    handles: VecDeque<Handle>,
    transactions: VecDeque<(Number, String)>,
    recalls: VecDeque<(Number, String)>,
    next: Number,
    random: StdRng,
    steps: VecDeque<String>,
    starts: usize,
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
            subject: Subject::new(&SOURCES).await,
            groups: orders.into_iter().chain(dead).map(Group::new).collect(),
            waiting: Waiting::default(),
            handles: VecDeque::new(),
            transactions: VecDeque::new(),
            recalls: VecDeque::new(),
            next: 0,
            random: StdRng::seed_from_u64(seed),
            steps: VecDeque::new(),
            starts: 1,
        }
    }

    fn now(&self) -> u64 {
        self.subject.now()
    }

    fn note(&mut self, step: String) {
        self.steps.push_back(format!("{} {step}", self.now() % 100_000_000));
        if self.steps.len() > SHOWN {
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
            3500..3998 => self.pass().await,
            3998 => self.start_again(false).await,
            _ => self.start_again(true).await,
        }
    }

    async fn send(&mut self) {
        if self.groups.iter().map(|group| group.open.len()).sum::<usize>() > MAX_OPEN {
            return;
        }
        let number = self.next;
        self.next += 1;
        let class = self.random.random_range(0..CLASSES);
        let length = if self.random.random_bool(0.1) { 3_000 } else { 20 };
        let mut message =
            Message { id: number.to_string(), body: vec![1; length].into(), ..Message::default() };
        let kind = self.random.random_range(0..7);
        self.note(format!("send {number}: kind {kind}, class {class}"));
        let now = self.now();
        match kind {
            0 | 1 => self.queue(number, MIXED, 0),
            2 => {
                message.group = Some(class_name(class));
                self.queue(number, "fifo", class);
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
                self.waiting.halves.insert(number, Half { check_at: now + CHECK_INTERVAL, checks: 0 });
            }
        }
        let topic = ["mixed", "mixed", "fifo", "priority", "lite", "mixed", "mixed"][kind];
        let sent = self.subject.send(topic, message).await;
        remember(&mut self.transactions, sent.transaction.map(|coordinates| (number, coordinates)));
        remember(&mut self.recalls, sent.recall_handle.map(|handle| (number, handle)));
    }

    /// Adds a message to all groups of its topic.
    fn queue(&mut self, number: Number, topic: &str, class: u32) {
        for (source, group) in SOURCES.iter().zip(&mut self.groups) {
            if source.topic == topic {
                group.add(number, class, 0);
            }
        }
    }

    fn source(index: usize) -> Source {
        SOURCES.iter().chain(&DEAD).copied().nth(index).expect("a source for each group")
    }

    async fn receive(&mut self) {
        let group = self.random.random_range(0..SOURCES.len() + DEAD.len());
        // Some receives ask for more than there is, and find what should not be there yet.
        let max = if self.random.random_bool(0.2) { MAX_OPEN } else { self.random.random_range(1..8) };
        let invisible = self.random.random_range(1..20_000);
        self.receive_from(group, max, invisible).await;
    }

    async fn receive_from(&mut self, group: usize, max: usize, invisible: u64) -> usize {
        let source = Self::source(group);
        self.note(format!("receive {max} from {source:?} for {invisible} ms"));
        let deliveries = self.subject.receive(source, max, invisible).await.unwrap_or_default();
        let now = self.now();
        let batch: Vec<_> = deliveries.iter().map(delivered).collect();
        self.note(format!("-> {:?}", batch.iter().map(|one| (one.number, one.attempt)).collect::<Vec<_>>()));
        self.groups[group].receive(now, (max, now + invisible), &batch);
        for Delivered { number, coordinates, .. } in batch {
            let handle = Handle { group, number, coordinates, received_at: now, invisible };
            remember(&mut self.handles, Some(handle));
        }
        deliveries.len()
    }

    /// One of the deliveries that are known, most often a late one.
    fn any_handle(&mut self) -> Option<(Handle, Referent)> {
        let handle = pick(&mut self.random, &self.handles)?;
        let referent = self.groups[handle.group].referent(self.now(), &handle);
        Some((handle, referent))
    }

    async fn acknowledge(&mut self) {
        let Some((handle, referent)) = self.any_handle() else { return };
        self.note(format!("acknowledge {} of {}: {referent:?}", handle.number, handle.group));
        let outcome = self.subject.acknowledge(Self::source(handle.group), settle(&handle)).await;
        let expected = match referent {
            Referent::Running | Referent::Nothing { is_past: false } => AckOutcome::Done,
            Referent::Over | Referent::Nothing { is_past: true } => AckOutcome::Expired,
        };
        assert_eq!(outcome, expected);
        if referent == Referent::Running {
            self.groups[handle.group].open.remove(&handle.number);
        }
    }

    async fn change(&mut self) {
        let Some((handle, referent)) = self.any_handle() else { return };
        let source = Self::source(handle.group);
        let invisible = if self.random.random() { 0 } else { self.random.random_range(1..20_000) };
        let next_attempt = match self.random.random_range(0..4) {
            0 => NextAttempt::Suspended,
            1 => NextAttempt::GivenBack,
            _ => NextAttempt::Counts,
        };
        let told = format!("{} of {}: {referent:?}", handle.number, handle.group);
        self.note(format!("change {told}, {invisible} ms, {next_attempt:?}"));
        let outcome = self.subject.change(source, settle(&handle), (invisible, next_attempt)).await;
        let is_changed = matches!(referent, Referent::Running | Referent::Nothing { is_past: false });
        let InvisibleOutcome::Changed { coordinates, received_at } = outcome else {
            assert!(!is_changed, "not changed");
            return;
        };
        assert!(is_changed, "changed");
        let now = self.now();
        assert_eq!(millis(received_at), now as i64);
        if referent == Referent::Running {
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
        let Some((handle, referent)) = self.any_handle() else { return };
        // Dead letters stay where they are.
        if handle.group >= SOURCES.len() {
            return;
        }
        self.note(format!("forward {} of {}: {referent:?}", handle.number, handle.group));
        self.subject.forward(Self::source(handle.group), settle(&handle)).await;
        if matches!(referent, Referent::Running | Referent::Over) {
            let open = self.groups[handle.group].open.remove(&handle.number).expect("it is open");
            let attempts = open.earlier_attempts + open.lease.map_or(0, |lease| lease.attempt);
            self.groups[SOURCES.len() + handle.group].add(handle.number, 0, attempts);
        }
    }

    async fn decide(&mut self) {
        let Some((number, coordinates)) = pick(&mut self.random, &self.transactions) else { return };
        let now = self.now();
        // The broker may have forgotten what was decided long ago.
        if self.waiting.decided.get(&number).is_some_and(|(_, at)| at + REMEMBERED <= now) {
            return;
        }
        let commit = self.random.random_bool(0.6);
        let resolution = if commit { Resolution::Commit } else { Resolution::Rollback };
        self.note(format!("decide {number}: {resolution:?}"));
        let outcome = self.subject.end(MIXED, &coordinates, resolution).await;
        let (is_known, is_delivered) = self.waiting.decide(number, resolution, now);
        assert_eq!(outcome.is_ok(), is_known, "{outcome:?}");
        if is_delivered {
            self.queue(number, MIXED, 0);
        }
    }

    async fn recall(&mut self) {
        let Some((number, handle)) = pick(&mut self.random, &self.recalls) else { return };
        self.note(format!("recall {number}"));
        let outcome = self.subject.recall(MIXED, &handle).await;
        match self.waiting.delayed.get_mut(&number) {
            Some((_, recalled)) => {
                assert_eq!(outcome, Ok(number.to_string()));
                *recalled = true;
            }
            None => assert!(outcome.is_err(), "{outcome:?}"),
        }
    }

    async fn check(&mut self) {
        let expected = self.waiting.take_checks(self.now(), CHECK_INTERVAL, MAX_CHECKS);
        self.note(format!("check {expected:?}"));
        let mut asked: Vec<Number> = self.subject.checks().await.iter().map(|id| number(id)).collect();
        asked.sort_unstable();
        assert_eq!(asked, expected.into_iter().collect::<Vec<_>>());
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

    /// The time until a lease ends or a message is due, give or take a millisecond.
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

    fn deliver_due(&mut self) {
        for number in self.waiting.take_due(self.now()) {
            self.queue(number, MIXED, 0);
        }
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
    }

    /// Receives and acknowledges everything: nothing is lost.
    async fn drain(&mut self) {
        self.pass_exactly(100_000).await;
        for group in 0..self.groups.len() {
            while self.receive_from(group, 7, 1_000).await > 0 {
                let mut late: Vec<_> =
                    self.handles.iter().filter(|handle| handle.group == group).cloned().collect();
                late.retain(|handle| self.groups[group].referent(self.now(), handle) == Referent::Running);
                for handle in late {
                    let outcome = self.subject.acknowledge(Self::source(group), settle(&handle)).await;
                    assert_eq!(outcome, AckOutcome::Done);
                    self.groups[group].open.remove(&handle.number);
                }
            }
            assert!(self.groups[group].open.is_empty(), "a message is lost");
        }
    }
}

/// Keeps the latest ones.
fn remember<T>(known: &mut VecDeque<T>, new: Option<T>) {
    known.extend(new);
    while known.len() > KNOWN {
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
