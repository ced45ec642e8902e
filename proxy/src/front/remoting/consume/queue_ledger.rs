//! The queue positions that one client was given for one queue, and the handles of the messages behind them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Positions begin here. Offsets of real queues are far below, so each position tells what it is, to any proxy.
pub(super) const FIRST_POSITION: i64 = 1 << 60;
/// Positions end before this, which leaves room to count on.
const END_OF_POSITIONS: i64 = 3 << 60;
/// Messages at the head of a queue that a client may have begun to consume: no more than it has threads, usually.
pub(super) const MAYBE_BEGUN: usize = 64;
/// Positions of one queue that may be open at once, settled ones between others included.
const MAX_SPAN: usize = 4096;

/// A message that a client was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Its receipt handle.
    pub(super) handle: String,
    /// Its id.
    pub(super) message_id: String,
    /// The position in the commit log that its record named.
    pub(super) log_position: i64,
    /// The number of this delivery, beginning with 1.
    pub(super) attempt: i32,
    /// The length of its body.
    pub(super) bytes: usize,
    /// The number of the pull that brought it.
    pub(super) turn: u64,
}

/// Messages that a client does not consume any more, to be delivered to others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Freed {
    /// The client may have begun to consume these.
    pub(super) maybe_begun: Vec<Held>,
    /// The client has not got to these.
    pub(super) untouched: Vec<Held>,
}

/// One queue of one client.
#[derive(Debug)]
pub(super) struct QueueLedger {
    /// The position that the next message gets.
    next: i64,
    /// The messages before `next`, in order of their positions. `None` for those that are settled or freed.
    open: VecDeque<Option<Held>>,
    /// How many are not settled.
    held: usize,
    /// The newest pull.
    turn: u64,
    /// Pulls that wait.
    waiting: usize,
    /// When the client last pulled or committed.
    heard: Instant,
    /// When the client last got ahead, or began.
    progressed: Instant,
}

/// Whether a position is one of a ledger, and no offset of a real queue.
pub(super) fn is_position(offset: i64) -> bool {
    (FIRST_POSITION..END_OF_POSITIONS).contains(&offset)
}

impl Freed {
    pub(super) fn is_empty(&self) -> bool {
        self.maybe_begun.is_empty() && self.untouched.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.maybe_begun.iter().chain(&self.untouched)
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.maybe_begun.extend(other.maybe_begun);
        self.untouched.extend(other.untouched);
    }
}

impl QueueLedger {
    pub(super) fn new(next: i64, now: Instant) -> Self {
        Self { next, open: VecDeque::new(), held: 0, turn: 0, waiting: 0, heard: now, progressed: now }
    }

    /// The position that the next message gets.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Whether the client has to settle messages before it gets more.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= MAX_SPAN
    }

    /// Whether the client holds messages that are not settled.
    pub(super) fn holds_any(&self) -> bool {
        self.held > 0
    }

    /// A pull begins, for messages from this position on. Whatever the client was given from there on did not reach it,
    /// and is freed. `turn` is the pull's own number.
    pub(super) fn begin(&mut self, turn: u64, at: i64, now: Instant) -> Freed {
        self.heard = now;
        self.turn = turn;
        self.waiting += 1;
        let first = self.first();
        if at > self.next || at < first {
            let freed = self.clear();
            self.next = at;
            freed
        } else {
            // An index in memory.
            let lost = self.open.split_off((at - first) as usize);
            self.next = at;
            let untouched: Vec<_> = lost.into_iter().flatten().collect();
            self.held -= untouched.len();
            Freed { maybe_begun: Vec::new(), untouched }
        }
    }

    /// Whether a pull may hand out messages: a newer pull of the same queue takes over.
    pub(super) fn is_current(&self, turn: u64) -> bool {
        self.turn == turn
    }

    /// A pull ends.
    pub(super) fn end(&mut self, now: Instant) {
        self.heard = now;
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// The client gets these messages. Returns the position of the first.
    pub(super) fn hand_out(&mut self, messages: Vec<Held>, now: Instant) -> i64 {
        if self.held == 0 {
            self.progressed = now;
        }
        let first = self.next;
        self.next += messages.len() as i64;
        self.held += messages.len();
        self.open.extend(messages.into_iter().map(|held| Some(Held { turn: self.turn, ..held })));
        first
    }

    /// The client has consumed what is before this position. Returns what is to be acknowledged.
    pub(super) fn commit(&mut self, before: i64, now: Instant) -> Vec<Held> {
        self.heard = now;
        let count = usize::try_from(before.saturating_sub(self.first())).unwrap_or_default();
        let consumed: Vec<_> = self.open.drain(..count.min(self.open.len())).flatten().collect();
        if !consumed.is_empty() {
            self.progressed = now;
            self.held -= consumed.len();
        }
        consumed
    }

    /// A message that the client holds.
    pub(super) fn find(&self, is_it: impl Fn(&Held) -> bool) -> Option<&Held> {
        self.open.iter().flatten().find(|held| is_it(held))
    }

    /// Takes a message out: it will not be acknowledged by a commit.
    pub(super) fn take(&mut self, now: Instant, is_it: impl Fn(&Held) -> bool) -> Option<Held> {
        let place = self.open.iter_mut().find(|place| place.as_ref().is_some_and(&is_it))?;
        let taken = place.take();
        self.held -= 1;
        self.progressed = now;
        taken
    }

    /// Whether the client has not got ahead for so long.
    fn is_stuck(&self, patience: Duration, now: Instant) -> bool {
        now.duration_since(self.progressed) >= patience
    }

    /// Frees what the client has not got to, if it has not got ahead for so long.
    fn free_untouched(&mut self, patience: Duration, now: Instant) -> Vec<Held> {
        if self.held <= MAYBE_BEGUN || !self.is_stuck(patience, now) {
            return Vec::new();
        }
        let behind = self.open.iter_mut().filter(|place| place.is_some()).skip(MAYBE_BEGUN);
        let freed: Vec<_> = behind.filter_map(Option::take).collect();
        self.held -= freed.len();
        freed
    }

    /// Frees what came with later pulls than this one.
    fn free_after(&mut self, turn: u64) -> Vec<Held> {
        let later = |place: &&mut Option<Held>| place.as_ref().is_some_and(|held| held.turn > turn);
        let freed: Vec<_> = self.open.iter_mut().filter(later).filter_map(Option::take).collect();
        self.held -= freed.len();
        freed
    }

    /// Whether the client does nothing with this queue any more.
    pub(super) fn abandoned(&self, patience: Duration, now: Instant) -> bool {
        self.waiting == 0 && now.duration_since(self.heard) >= patience
    }

    /// Frees everything.
    pub(super) fn clear(&mut self) -> Freed {
        self.turn = 0;
        self.held = 0;
        let mut maybe_begun: Vec<_> = self.open.drain(..).flatten().collect();
        let untouched = maybe_begun.split_off(MAYBE_BEGUN.min(maybe_begun.len()));
        Freed { maybe_begun, untouched }
    }

    fn first(&self) -> i64 {
        self.next - self.open.len() as i64
    }
}

/// Frees what a client has not got to in queues of one topic. One that is stuck in some of them keeps the first messages of
/// these. One that is stuck in all of them keeps the first of all: it begins messages in the order in which they came.
pub(super) fn free_untouched(queues: &mut [&mut QueueLedger], patience: Duration, now: Instant) -> Vec<Held> {
    let mut freed: Vec<_> = queues.iter_mut().flat_map(|queue| queue.free_untouched(patience, now)).collect();
    if queues.iter().all(|queue| queue.held == 0 || queue.is_stuck(patience, now)) {
        let mut turns: Vec<_> =
            queues.iter().flat_map(|queue| &queue.open).flatten().map(|held| held.turn).collect();
        turns.sort_unstable();
        if let Some(last) = turns.get(MAYBE_BEGUN - 1) {
            freed.extend(queues.iter_mut().flat_map(|queue| queue.free_after(*last)));
        }
    }
    freed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(count: usize) -> Vec<Held> {
        let one = |number: usize| Held {
            handle: format!("h{number}"),
            message_id: format!("m{number}"),
            log_position: number as i64,
            attempt: 1,
            bytes: 10,
            turn: 0,
        };
        (0..count).map(one).collect()
    }

    fn handles(held: &[Held]) -> Vec<&str> {
        held.iter().map(|held| held.handle.as_str()).collect()
    }

    fn ledger(count: usize) -> QueueLedger {
        let now = Instant::now();
        let mut ledger = QueueLedger::new(FIRST_POSITION, now);
        assert_eq!(ledger.hand_out(held(count), now), FIRST_POSITION);
        ledger
    }

    #[test]
    fn positions_rise_without_gaps_and_a_commit_acknowledges_what_is_before_it() {
        let now = Instant::now();
        let mut ledger = ledger(3);
        assert_eq!(ledger.hand_out(held(2), now), FIRST_POSITION + 3);
        assert_eq!(ledger.commit(FIRST_POSITION, now), []);
        assert_eq!(handles(&ledger.commit(FIRST_POSITION + 4, now)), ["h0", "h1", "h2", "h0"]);
        assert_eq!(ledger.commit(FIRST_POSITION + 2, now), []);
        assert_eq!(handles(&ledger.commit(i64::MAX, now)), ["h1"]);
        assert_eq!((ledger.held, ledger.next()), (0, FIRST_POSITION + 5));
    }

    #[test]
    fn a_commit_does_not_acknowledge_what_was_sent_back() {
        let now = Instant::now();
        let mut ledger = ledger(3);
        let taken = ledger.take(now, |held| held.message_id == "m1").expect("held");
        assert_eq!(taken.handle, "h1");
        assert!(ledger.take(now, |held| held.message_id == "m1").is_none());
        assert_eq!(handles(&ledger.commit(FIRST_POSITION + 3, now)), ["h0", "h2"]);
        assert_eq!(ledger.held, 0);
    }

    #[test]
    fn what_did_not_reach_the_client_is_freed_and_its_positions_are_given_again() {
        let now = Instant::now();
        let mut ledger = ledger(3);
        let freed = ledger.begin(1, FIRST_POSITION + 1, now);
        assert_eq!(handles(&freed.untouched), ["h1", "h2"]);
        assert!(ledger.is_current(1));
        assert_eq!(ledger.hand_out(held(1), now), FIRST_POSITION + 1);
        assert_eq!(ledger.held, 2);
    }

    #[test]
    fn a_client_that_goes_on_elsewhere_has_lost_what_it_held() {
        let now = Instant::now();
        for at in [FIRST_POSITION - 1, FIRST_POSITION + 4] {
            let mut ledger = ledger(3);
            let freed = ledger.begin(1, at, now);
            assert_eq!(handles(&freed.maybe_begun), ["h0", "h1", "h2"]);
            assert_eq!((ledger.next(), ledger.held), (at, 0));
        }
    }

    #[test]
    fn only_the_newest_pull_hands_out() {
        let now = Instant::now();
        let mut ledger = ledger(0);
        ledger.begin(1, FIRST_POSITION, now);
        ledger.begin(2, FIRST_POSITION, now);
        assert!(!ledger.is_current(1) && ledger.is_current(2));
        ledger.clear();
        assert!(!ledger.is_current(2));
    }

    #[test]
    fn a_client_that_gets_stuck_keeps_what_it_may_have_begun() {
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        let mut ledger = ledger(MAYBE_BEGUN + 2);
        assert_eq!(ledger.free_untouched(minute, now), []);
        let late = now + minute * 2;
        assert_eq!(ledger.free_untouched(minute, late).len(), 2);
        assert_eq!(ledger.held, MAYBE_BEGUN);
        assert_eq!(ledger.free_untouched(minute, late), []);
        assert_eq!(ledger.commit(i64::MAX, late).len(), MAYBE_BEGUN);
    }

    #[test]
    fn a_client_that_is_stuck_in_all_queues_keeps_what_came_first() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let mut ledgers = [ledger(0), ledger(0), ledger(0)];
        for (turn, (queue, count)) in [(0, 40), (1, 30), (0, 20), (1, 9)].into_iter().enumerate() {
            let next = ledgers[queue].next();
            ledgers[queue].begin(turn as u64 + 1, next, now);
            ledgers[queue].hand_out(held(count), now);
        }
        let late = now + minute;
        ledgers[2].hand_out(held(1), late);
        let [first, second, third] = &mut ledgers;
        assert_eq!(free_untouched(&mut [&mut *first, &mut *second, third], minute, late), []);
        assert_eq!(free_untouched(&mut [&mut *first, &mut *second], minute, late).len(), 29);
        assert_eq!((first.held, second.held), (40, 30));
    }

    #[test]
    fn a_queue_is_abandoned_without_pulls_and_commits() {
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        let mut ledger = ledger(1);
        ledger.begin(1, FIRST_POSITION + 1, now);
        assert!(!ledger.abandoned(minute, now + minute * 2));
        ledger.end(now + minute);
        assert!(!ledger.abandoned(minute, now + minute));
        ledger.commit(FIRST_POSITION, now + minute);
        assert!(ledger.abandoned(minute, now + minute * 3));
    }

    #[test]
    fn positions_are_no_offsets() {
        for (offset, position) in
            [(0, false), (-1, false), (FIRST_POSITION - 1, false), (FIRST_POSITION, true), (i64::MAX, false)]
        {
            assert_eq!(is_position(offset), position, "{offset}");
        }
    }
}
