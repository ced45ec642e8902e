//! The rules of a broker, in memory: which messages a receive may get, and what settles them.

use std::collections::{BTreeMap, BTreeSet};

use crate::service::Resolution;

/// The number of a message, in the order in which messages were sent. It is the message's id, too.
pub(super) type Number = u32;

/// How a group consumes a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// In no order.
    None,
    /// The highest class first.
    HighestFirst,
    /// The messages of a class in order, while no other of them is under a lease.
    ByClass,
}

/// A message that a group has not settled.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// Where it is among the messages of its class: a message comes when it is sent, committed or due.
    pub(super) position: u64,
    /// When it came.
    pub(super) stored_at: u64,
    /// Retention has removed it. It may still come: the last one of a queue stays on the disk until another one follows.
    pub(super) removed: bool,
    /// The message group, the lite topic or the priority.
    pub(super) class: u32,
    /// Its attempts before it became a dead letter.
    pub(super) earlier_attempts: u32,
    pub(super) lease: Option<Lease>,
}

/// The last lease on a message, which may be over.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) until: u64,
    pub(super) attempt: u32,
    /// The next delivery has the same attempt.
    pub(super) uncounted: bool,
    pub(super) coordinates: String,
    /// The attempt id of the receive.
    pub(super) attempt_id: Option<u8>,
}

/// A delivery, as the one who got it knows it.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) group: usize,
    pub(super) number: Number,
    pub(super) coordinates: String,
    pub(super) received_at: u64,
    pub(super) invisible: u64,
}

/// What a handle refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Referent {
    Running,
    /// Its lease is over, but nobody has got the message since.
    Over,
    /// The message is settled, or has another lease.
    Nothing {
        /// Whether the lease is over by what its owner knows.
        is_past: bool,
    },
}

/// What was delivered.
#[derive(Clone, Debug)]
pub(super) struct Delivered {
    pub(super) number: Number,
    pub(super) attempt: u32,
    pub(super) coordinates: String,
}

/// What the running lease of a removed message does to its class. The broker ends it when it finds that the message is gone.
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

/// A message that a group gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct New {
    pub(super) number: Number,
    /// As in [`Open`].
    pub(super) class: u32,
    pub(super) earlier_attempts: u32,
}

/// What a receive asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) max: usize,
    /// How long the leases are, in ms.
    pub(super) invisible: u64,
    pub(super) attempt_id: Option<u8>,
}

impl Group {
    pub(super) fn new(order: Order) -> Self {
        Self { order, open: BTreeMap::new(), next: 0 }
    }

    /// Adds a message that comes now.
    pub(super) fn add(&mut self, now: u64, new: New) {
        let New { number, class, earlier_attempts } = new;
        let (position, stored_at) = (self.next, now);
        self.next += 1;
        let open = Open { position, stored_at, removed: false, class, earlier_attempts, lease: None };
        self.open.insert(number, open);
    }

    /// Removes what came before this time. Leases go on.
    pub(super) fn expire(&mut self, before: u64) {
        self.open.values_mut().for_each(|open| open.removed |= open.stored_at < before);
    }

    /// How many messages are neither settled nor removed.
    pub(super) fn count(&self) -> usize {
        self.open.values().filter(|open| !open.removed).count()
    }

    /// What may be delivered now to a receive with this attempt id, with what is removed.
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
            // While the leases of a class are those of the same attempt, what it got comes again, and nothing else.
            Order::ByClass if classes.contains(&open.class) => !foreign.contains(&open.class) && is_own(open),
            Order::ByClass => true,
            Order::None | Order::HighestFirst => !is_running(open),
        };
        self.open.iter().filter(|(_, open)| is_visible(open)).map(|(number, _)| *number).collect()
    }

    /// Checks what a receive got, and leases it.
    pub(super) fn receive(&mut self, now: u64, asked: Asked, batch: &[Delivered]) {
        let Asked { max, invisible, attempt_id } = asked;
        let until = now + invisible;
        let visible = self.visible(now, attempt_id, Removed::Frees);
        assert!(batch.len() <= max, "more than were asked for");
        // Which lite topics an attempt got messages from is forgotten sooner than the leases.
        let mut due = self.visible(now, None, Removed::Blocks);
        due.retain(|number| !self.open[number].removed);
        assert!(!batch.is_empty() || due.is_empty(), "visible are {due:?}");
        let mut came = BTreeSet::new();
        for delivered in batch {
            let number = delivered.number;
            assert!(self.open.contains_key(&number), "{number} was settled, or never stored");
            assert!(visible.contains(&number), "{number} is under a lease, or behind one: {:?}", self.open);
            let class = self.open[&number].class;
            if self.order == Order::ByClass {
                let position = self.open[&number].position;
                let before = |open: &Open| open.class == class && open.position < position && !open.removed;
                let mut earlier = self.open.iter().filter(|(_, open)| before(open));
                let is_first = earlier.all(|(earlier, _)| came.contains(earlier));
                assert!(is_first, "{number} came before an earlier one of {class}");
            }
            assert!(came.insert(number), "{number} came twice");
            let open = self.open.get_mut(&number).expect("checked above");
            // A lease that is not over is of the same attempt.
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
            let told = || visible.iter().map(|number| (number, &self.open[number])).collect::<Vec<_>>();
            let class = self.open[&first.number].class;
            assert!(Some(class) >= highest, "a higher priority is left: {:?}", told());
        }
    }

    pub(super) fn referent(&self, now: u64, handle: &Handle) -> Referent {
        let lease = self.open.get(&handle.number).and_then(|open| open.lease.as_ref());
        match lease.filter(|lease| lease.coordinates == handle.coordinates) {
            Some(lease) if lease.until > now => Referent::Running,
            Some(_) => Referent::Over,
            // Clocks may differ by a millisecond.
            None => Referent::Nothing { is_past: handle.received_at + handle.invisible <= now + 1 },
        }
    }
}

/// A half message that nobody has decided about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    pub(super) stored_at: u64,
    /// Its message group, in a topic with message groups.
    pub(super) class: Option<u32>,
    pub(super) check_at: u64,
    pub(super) checks: u32,
}

/// Transactions and delayed messages.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) halves: BTreeMap<Number, Half>,
    /// The decisions, and when they were taken.
    pub(super) decided: BTreeMap<Number, (Resolution, u64)>,
    /// When each is due, and whether it was recalled.
    pub(super) delayed: BTreeMap<Number, (u64, bool)>,
}

impl Waiting {
    /// Decides about a half message. Returns whether the broker knows it, and the message if it comes now.
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

    /// The half messages whose producer is asked now. Those that had all their checks are discarded.
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
