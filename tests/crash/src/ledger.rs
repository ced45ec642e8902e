//! What was sent and settled, and what must hold of every delivery.

use std::collections::HashMap;
use std::time::SystemTime;

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Normal,
    Fifo,
    Delay,
    Transaction,
    Priority,
    Lite,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Normal, Self::Fifo, Self::Delay, Self::Transaction, Self::Priority, Self::Lite];

    /// Its name, as in the configuration. Topic and group have it as their name, too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Fifo => "fifo",
            Self::Delay => "delay",
            Self::Transaction => "transaction",
            Self::Priority => "priority",
            Self::Lite => "lite",
        }
    }
}

/// How far a request has got. Without an answer the server may have carried it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Asked,
    Answered,
}

/// How a delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    Acknowledged,
    DeadLetter,
}

/// A message before it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// Its message group or lite topic, within which messages are in order.
    pub(crate) group: Option<u32>,
    /// When it may be delivered at the earliest.
    pub(crate) due: Option<SystemTime>,
    /// The length of its body, at least.
    pub(crate) length: usize,
}

/// What is known about a message.
#[derive(Debug)]
struct Entry {
    plan: Plan,
    sent: Step,
    /// Whether its transaction is to be committed.
    decision: Option<(bool, Step)>,
    recall: Option<Step>,
    settled: Option<(Settlement, Step)>,
    /// Whether it may have become a dead letter, and whether it was received as one.
    dead_letter: (bool, bool),
    deliveries: u32,
    attempt: u32,
}

/// What is expected after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// SIGKILL. All that was answered is kept.
    Kill,
    /// What was not synced may be lost: settlements and attempts.
    PowerLoss,
}

/// What was sent and settled, and the rules that were broken.
#[derive(Debug)]
pub(crate) struct Ledger {
    crash: Crash,
    entries: Vec<Entry>,
    groups: HashMap<(Kind, u32), Vec<usize>>,
    faults: Vec<String>,
}

/// A delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) attempt: u32,
    pub(crate) now: SystemTime,
}

/// Numbers for the report.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: usize,
    pub(crate) settled: usize,
    pub(crate) deliveries: usize,
}

impl Ledger {
    /// An empty ledger.
    pub(crate) fn new(crash: Crash) -> Self {
        Self { crash, entries: Vec::new(), groups: HashMap::new(), faults: Vec::new() }
    }

    /// Adds a message that will be sent. Returns its number and its body.
    pub(crate) fn plan(&mut self, plan: Plan) -> (usize, Vec<u8>) {
        let number = self.entries.len();
        if let Some(group) = plan.group {
            self.groups.entry((plan.kind, group)).or_default().push(number);
        }
        self.entries.push(Entry {
            plan,
            sent: Step::Asked,
            decision: None,
            recall: None,
            settled: None,
            dead_letter: (false, false),
            deliveries: 0,
            attempt: 0,
        });
        (number, body(number, plan.length))
    }

    /// Its send was answered.
    pub(crate) fn sent(&mut self, number: usize) {
        self.entries[number].sent = Step::Answered;
    }

    /// Its transaction is about to be committed or rolled back, or was.
    pub(crate) fn decide(&mut self, number: usize, commit: bool, step: Step) {
        self.entries[number].decision = Some((commit, step));
    }

    /// It is about to be recalled, or was.
    pub(crate) fn recall(&mut self, number: usize, step: Step) {
        self.entries[number].recall = Some(step);
    }

    /// A recall was refused: it will be delivered.
    pub(crate) fn recall_refused(&mut self, number: usize) {
        self.entries[number].recall = None;
    }

    /// Notes a delivery and checks the rules. `before` are the numbers that came before it in the same answer. Returns
    /// its number.
    pub(crate) fn received(&mut self, received: Received<'_>, before: &[usize]) -> Option<usize> {
        let Received { bytes, attempt, now } = received;
        let number = self.number_of(bytes)?;
        let entry = &self.entries[number];
        let mut faults = Vec::new();
        if let (Kind::Transaction, None | Some((false, _))) = (entry.plan.kind, entry.decision) {
            faults.push("a message that was not committed was delivered");
        }
        if entry.plan.due.is_some_and(|due| now < due) {
            faults.push("a delayed message was delivered early");
        }
        if entry.recall == Some(Step::Answered) {
            faults.push("a recalled message was delivered");
        }
        if self.crash == Crash::Kill {
            if matches!(entry.settled, Some((_, Step::Answered))) {
                faults.push("a settled message came again");
            }
            if attempt <= entry.attempt {
                faults.push("an attempt was not counted");
            }
        }
        let told = format!("attempt {attempt}, {}", self.describe(number));
        self.faults.extend(faults.into_iter().map(|fault| format!("{fault}: {told}")));
        if let Some(earlier) = self.overtaken(number, before) {
            let earlier = self.describe(earlier);
            self.faults.push(format!("it came before an earlier one of its group: {told}; {earlier}"));
        }
        let entry = &mut self.entries[number];
        entry.deliveries += 1;
        entry.attempt = attempt;
        entry.settled = None;
        Some(number)
    }

    /// An earlier message of its group that is neither settled nor came with it.
    fn overtaken(&self, number: usize, before: &[usize]) -> Option<usize> {
        let plan = self.entries[number].plan;
        let of_group = self.groups.get(&(plan.kind, plan.group?))?;
        let mut earlier = of_group.iter().take_while(|other| **other < number);
        let is_open = |other: &&usize| {
            let entry = &self.entries[**other];
            entry.sent == Step::Answered && entry.settled.is_none() && !before.contains(other)
        };
        earlier.find(is_open).copied()
    }

    /// Notes a dead letter.
    pub(crate) fn received_dead_letter(&mut self, bytes: &[u8]) {
        let Some(number) = self.number_of(bytes) else { return };
        if !self.entries[number].dead_letter.0 {
            self.faults.push(format!("message {number} became a dead letter, but nobody asked for it"));
        }
        self.entries[number].dead_letter.1 = true;
    }

    fn number_of(&mut self, bytes: &[u8]) -> Option<usize> {
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&bytes[..digits]).ok().and_then(|text| text.parse().ok());
        let entry = number.and_then(|number: usize| self.entries.get(number));
        match (number, entry) {
            (Some(number), Some(entry)) if body(number, entry.plan.length) == bytes => Some(number),
            _ => {
                self.faults.push(format!("a message of {} bytes is not as it was sent", bytes.len()));
                None
            }
        }
    }

    /// A delivery is about to be settled. Returns the number of its delivery, for [`Ledger::settle_refused`].
    pub(crate) fn settle(&mut self, number: usize, how: Settlement) -> u32 {
        let entry = &mut self.entries[number];
        entry.settled = Some((how, Step::Asked));
        entry.dead_letter.0 |= how == Settlement::DeadLetter;
        entry.deliveries
    }

    /// The settlement was answered.
    pub(crate) fn settled(&mut self, number: usize) {
        if let Some((_, step)) = &mut self.entries[number].settled {
            *step = Step::Answered;
        }
    }

    /// The settlement was refused because the lease was over: the message comes again.
    pub(crate) fn settle_refused(&mut self, number: usize, delivery: u32) {
        let entry = &mut self.entries[number];
        if entry.deliveries == delivery {
            entry.settled = None;
        }
    }

    /// Messages that must still come.
    pub(crate) fn missing(&self) -> Vec<usize> {
        (0..self.entries.len()).filter(|number| self.entries[*number].is_missing()).collect()
    }

    /// A description of a message, for an error.
    pub(crate) fn describe(&self, number: usize) -> String {
        format!("message {number}: {:?}", self.entries[number])
    }

    /// The rules that were broken.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Numbers for the report.
    pub(crate) fn counts(&self) -> Counts {
        let count = |is: fn(&Entry) -> bool| self.entries.iter().filter(|entry| is(entry)).count();
        Counts {
            sent: count(|entry| entry.sent == Step::Answered),
            settled: count(|entry| matches!(entry.settled, Some((_, Step::Answered)))),
            deliveries: self.entries.iter().map(|entry| entry.deliveries as usize).sum(),
        }
    }
}

impl Entry {
    fn is_missing(&self) -> bool {
        let was_committed = match self.plan.kind {
            Kind::Transaction => self.decision == Some((true, Step::Answered)),
            _ => true,
        };
        let is_expected = self.sent == Step::Answered && was_committed && self.recall.is_none();
        is_expected
            && match self.settled {
                Some((Settlement::Acknowledged, _)) => false,
                // Without an answer it is a dead letter, or comes again.
                Some((Settlement::DeadLetter, _)) | None => !self.dead_letter.1,
            }
    }
}

/// The body of a message: its number, and bytes that depend on it.
fn body(number: usize, length: usize) -> Vec<u8> {
    let mut body = format!("{number} ").into_bytes();
    let filler = |index: usize| (index.wrapping_mul(7) ^ number.wrapping_mul(31) ^ (index >> 8)) as u8;
    body.extend((body.len()..length).map(filler));
    body
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn received(bytes: &[u8], attempt: u32) -> Received<'_> {
        Received { bytes, attempt, now: SystemTime::now() }
    }

    const PLAN: Plan = Plan { kind: Kind::Normal, group: None, due: None, length: 300 };

    fn faults_after(plan: Plan, steps: impl FnOnce(&mut Ledger, usize, &[u8])) -> usize {
        let mut ledger = Ledger::new(Crash::Kill);
        let (number, body) = ledger.plan(plan);
        steps(&mut ledger, number, &body);
        ledger.faults().len()
    }

    #[test]
    fn a_message_is_missing_until_it_is_settled() {
        let mut ledger = Ledger::new(Crash::Kill);
        let (number, body) = ledger.plan(PLAN);
        assert!(ledger.missing().is_empty());
        ledger.sent(number);
        assert_eq!(ledger.missing(), [number]);
        assert_eq!(ledger.received(received(&body, 1), &[]), Some(number));
        assert_eq!(ledger.missing(), [number]);
        ledger.settle(number, Settlement::Acknowledged);
        assert!(ledger.missing().is_empty());
        let delivery = ledger.settle(number, Settlement::Acknowledged);
        ledger.settle_refused(number, delivery);
        assert_eq!(ledger.missing(), [number]);
        ledger.settle(number, Settlement::DeadLetter);
        assert_eq!(ledger.missing(), [number]);
        ledger.received_dead_letter(&body);
        assert_eq!((ledger.missing().len(), ledger.faults().len()), (0, 0));
    }

    #[test]
    fn broken_rules_are_found() {
        let now = SystemTime::now();
        let late = Plan { due: Some(now + Duration::from_secs(600)), ..PLAN };
        for (plan, skipped) in [(late, 0), (PLAN, 1)] {
            let faults = faults_after(plan, |ledger, _, body| {
                ledger.received(received(&body[skipped..], 1), &[]);
            });
            assert_eq!(faults, 1);
        }
        assert_eq!(faults_after(PLAN, |ledger, _, body| ledger.received_dead_letter(body)), 1);
        let half = Plan { kind: Kind::Transaction, ..PLAN };
        for (decision, faults) in [(None, 1), (Some(false), 1), (Some(true), 0)] {
            let found = faults_after(half, |ledger, number, body| {
                if let Some(commit) = decision {
                    ledger.decide(number, commit, Step::Answered);
                }
                ledger.received(received(body, 1), &[]);
            });
            assert_eq!(found, faults);
        }
        let again = |answered: bool, attempt| {
            faults_after(PLAN, |ledger, number, body| {
                ledger.received(received(body, 1), &[]);
                ledger.settle(number, Settlement::Acknowledged);
                if answered {
                    ledger.settled(number);
                }
                ledger.received(received(body, attempt), &[]);
            })
        };
        assert_eq!([again(false, 2), again(false, 1), again(true, 2)], [0, 1, 1]);
    }

    #[test]
    fn a_group_is_in_order() {
        for (settle_first, together, faults) in [(false, false, 1), (true, false, 0), (false, true, 0)] {
            let mut ledger = Ledger::new(Crash::Kill);
            let plan = Plan { kind: Kind::Fifo, group: Some(1), ..PLAN };
            let [(first, _), (second, body)] = [ledger.plan(plan), ledger.plan(plan)];
            ledger.sent(first);
            ledger.sent(second);
            if settle_first {
                ledger.settle(first, Settlement::Acknowledged);
            }
            let before = if together { vec![first] } else { Vec::new() };
            ledger.received(received(&body, 1), &before);
            assert_eq!(ledger.faults().len(), faults);
        }
    }
}
