//! A model of the broker in memory: which messages a receive may get, and which handles settle them.

use std::collections::{BTreeMap, BTreeSet};

use crate::service::Resolution;

/// The number of a message, in the order in which messages were sent. It is the message's id, too.
pub(super) type Number = u32;

/// How a group consumes a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// In any order.
    None,
    /// The highest class first.
    HighestFirst,
    /// The messages of a class in order, and only while none of them has a running lease.
    ByClass,
}

/// A message that a group has not settled.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// Its position in the group. A message gets it when it is sent, committed or due.
    pub(super) position: u64,
    /// When it was sent, committed or due, in ms.
    pub(super) stored_at: u64,
    /// Whether retention has removed it. It may still be delivered: the last message of a queue stays on the disk until
    /// another one follows.
    pub(super) removed: bool,
    /// The message group, the lite topic or the priority.
    pub(super) class: u32,
    /// Its attempts before it became a dead letter.
    pub(super) earlier_attempts: u32,
    pub(super) lease: Option<Lease>,
}

/// The last lease on a message, which may have expired.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) until: u64,
    pub(super) attempt: u32,
    /// Whether the next delivery has the same attempt number.
    pub(super) uncounted: bool,
    pub(super) coordinates: String,
    /// The attempt id of the receive.
    pub(super) attempt_id: Option<u8>,
}

/// A delivery from the point of view of the client.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) group: usize,
    pub(super) number: Number,
    pub(super) coordinates: String,
    pub(super) received_at: u64,
    pub(super) invisible: u64,
}

/// The state of the lease that a handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseStatus {
    Running,
    /// The lease has expired, and the message was not delivered again.
    Expired,
    /// The message is settled, or has another lease.
    Gone {
        /// Whether the lease has expired from the point of view of the client.
        is_past: bool,
    },
}

/// A message that a receive returned.
#[derive(Clone, Debug)]
pub(super) struct Delivered {
    pub(super) number: Number,
    pub(super) attempt: u32,
    pub(super) coordinates: String,
}

/// The effect of the running lease of a removed message on its class. The broker ends such a lease when it finds that the
/// message is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removed {
    Blocks,
    Frees,
}

/// A group that consumes a topic.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) order: Order,
    pub(super) open: BTreeMap<Number, Open>,
    next: u64,
}

/// A message to add to a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct New {
    pub(super) number: Number,
    /// As in [`Open`].
    pub(super) class: u32,
    pub(super) earlier_attempts: u32,
}

/// The parameters of a receive.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveParams {
    pub(super) max: usize,
    /// The duration of the leases, in ms.
    pub(super) invisible: u64,
    pub(super) attempt_id: Option<u8>,
}

impl Group {
    pub(super) fn new(order: Order) -> Self {
        Self { order, open: BTreeMap::new(), next: 0 }
    }

    /// Adds a message that is sent, committed or due now.
    pub(super) fn add(&mut self, now: u64, new: New) {
        let New { number, class, earlier_attempts } = new;
        let (position, stored_at) = (self.next, now);
        self.next += 1;
        let open = Open { position, stored_at, removed: false, class, earlier_attempts, lease: None };
        self.open.insert(number, open);
    }

    /// Removes messages that were stored before this time. Their leases continue.
    pub(super) fn expire(&mut self, before: u64) {
        self.open.values_mut().for_each(|open| open.removed |= open.stored_at < before);
    }

    /// The number of messages that are neither settled nor removed.
    pub(super) fn count(&self) -> usize {
        self.open.values().filter(|open| !open.removed).count()
    }

    /// The messages that a receive with this attempt id may get now, including removed ones.
    fn visible(&self, now: u64, attempt_id: Option<u8>, removed: Removed) -> BTreeSet<Number> {
        let is_running = |open: &Open| open.lease.as_ref().is_some_and(|lease| lease.until > now);
        let is_own = |open: &Open| {
            attempt_id.is_some() && open.lease.as_ref().is_some_and(|lease| lease.attempt_id == attempt_id)
        };
        let blocks = |open: &&Open| is_running(open) && (!open.removed || removed == Removed::Blocks);
        let running = || self.open.values().filter(blocks);
        let classes: BTreeSet<_> = running().map(|open| open.class).collect();
        let foreign: BTreeSet<_> = running().filter(|open| !is_own(open)).map(|open| open.class).collect();
        let is_visible = |open: &Open| match self.order {
            // While all leases of a class are of the same attempt, that attempt gets its messages again, and no others.
            Order::ByClass if classes.contains(&open.class) => !foreign.contains(&open.class) && is_own(open),
            Order::ByClass => true,
            Order::None | Order::HighestFirst => !is_running(open),
        };
        self.open.iter().filter(|(_, open)| is_visible(open)).map(|(number, _)| *number).collect()
    }

    /// Checks the messages that a receive returned, and adds their leases.
    pub(super) fn receive(&mut self, now: u64, asked: ReceiveParams, batch: &[Delivered]) {
        let ReceiveParams { max, invisible, attempt_id } = asked;
        let until = now + invisible;
        let visible = self.visible(now, attempt_id, Removed::Frees);
        assert!(batch.len() <= max, "more messages than requested");
        // The broker forgets the lite topics of an attempt sooner than the leases.
        let mut due = self.visible(now, None, Removed::Blocks);
        due.retain(|number| !self.open[number].removed);
        assert!(!batch.is_empty() || due.is_empty(), "no messages, although {due:?} are visible");
        let mut received = BTreeSet::new();
        for delivered in batch {
            let number = delivered.number;
            assert!(self.open.contains_key(&number), "{number} was settled, or never stored");
            assert!(visible.contains(&number), "{number} is leased or blocked: {:?}", self.open);
            let class = self.open[&number].class;
            if self.order == Order::ByClass {
                let position = self.open[&number].position;
                let before = |open: &Open| open.class == class && open.position < position && !open.removed;
                let mut earlier = self.open.iter().filter(|(_, open)| before(open));
                let is_first = earlier.all(|(earlier, _)| received.contains(earlier));
                assert!(is_first, "{number} was delivered before an earlier one of class {class}");
            }
            assert!(received.insert(number), "{number} was delivered twice");
            let open = self.open.get_mut(&number).expect("checked above");
            // A running lease is of the same attempt.
            let attempt = open
                .lease
                .as_ref()
                .map_or(1, |lease| lease.attempt + u32::from(!lease.uncounted && lease.until <= now));
            assert_eq!(delivered.attempt, attempt + open.earlier_attempts, "the attempt of {number}");
            let coordinates = delivered.coordinates.clone();
            open.lease = Some(Lease { until, attempt, uncounted: false, coordinates, attempt_id });
        }
        if let (Order::HighestFirst, Some(first)) = (self.order, batch.first()) {
            let kept = visible.iter().filter(|number| !self.open[*number].removed);
            let highest = kept.map(|number| self.open[number].class).max();
            let candidates = || visible.iter().map(|number| (number, &self.open[number])).collect::<Vec<_>>();
            let class = self.open[&first.number].class;
            assert!(Some(class) >= highest, "there is a higher priority: {:?}", candidates());
        }
    }

    pub(super) fn lease_status(&self, now: u64, handle: &Handle) -> LeaseStatus {
        let lease = self.open.get(&handle.number).and_then(|open| open.lease.as_ref());
        match lease.filter(|lease| lease.coordinates == handle.coordinates) {
            Some(lease) if lease.until > now => LeaseStatus::Running,
            Some(_) => LeaseStatus::Expired,
            None => LeaseStatus::Gone { is_past: handle.received_at + handle.invisible <= now },
        }
    }
}

/// An undecided half message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    pub(super) stored_at: u64,
    /// Its message group, in a FIFO topic.
    pub(super) class: Option<u32>,
    pub(super) check_at: u64,
    pub(super) checks: u32,
}

/// Transactions and delayed messages.
#[derive(Debug, Default)]
pub(super) struct PendingMessages {
    pub(super) halves: BTreeMap<Number, Half>,
    /// The decisions, and when they were taken.
    pub(super) decided: BTreeMap<Number, (Resolution, u64)>,
    /// The due time of each delayed message, and whether it was recalled.
    pub(super) delayed: BTreeMap<Number, (u64, bool)>,
}

impl PendingMessages {
    /// Decides about a half message. Returns whether the broker knows it, and the message if it is committed now.
    pub(super) fn decide(
        &mut self,
        number: Number,
        resolution: Resolution,
        now: u64,
    ) -> (bool, Option<Half>) {
        let Some(half) = self.halves.remove(&number) else {
            return (self.decided.contains_key(&number), None);
        };
        self.decided.insert(number, (resolution, now));
        (true, Some(half).filter(|_| resolution == Resolution::Commit))
    }

    /// Discards half messages that were stored, or whose check was due, before this time.
    pub(super) fn expire(&mut self, before: u64) {
        self.halves.retain(|_, half| half.stored_at >= before && half.check_at >= before);
    }

    /// The delayed messages that are delivered now.
    pub(super) fn take_due(&mut self, now: u64) -> Vec<Number> {
        let due: Vec<_> =
            self.delayed.iter().filter(|(_, (due, _))| *due < now).map(|(number, _)| *number).collect();
        let delivered = |number: &Number| matches!(self.delayed.remove(number), Some((_, false)));
        due.into_iter().filter(delivered).collect()
    }

    /// The half messages that are checked now. Those that are undecided after all their checks are discarded.
    pub(super) fn take_checks(&mut self, now: u64, interval: u64, max: u32) -> BTreeSet<Number> {
        self.halves.retain(|_, half| half.check_at > now || half.checks < max);
        let mut asked = BTreeSet::new();
        for (number, half) in &mut self.halves {
            if half.check_at <= now {
                *half = Half { check_at: now + interval, checks: half.checks + 1, ..*half };
                asked.insert(*number);
            }
        }
        asked
    }
}
