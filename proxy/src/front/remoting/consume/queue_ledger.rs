//! The positions that one client has of one queue, and the messages at these positions with their receipt handles.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first position. Offsets of real queues are far below, so that any proxy can tell positions from offsets.
pub(super) const FIRST_POSITION: i64 = 1 << 60;
/// The end of positions, exclusive. A position far beyond the first one can't overflow.
const END_OF_POSITIONS: i64 = 3 << 60;
/// The number of messages at the head of a queue that a client may have begun to consume. A client usually has fewer
/// threads.
pub(super) const MAYBE_BEGUN: usize = 64;
/// The maximum number of positions between the first unsettled one and the next one of a queue, including settled ones.
const MAX_OPEN_POSITIONS: usize = 4096;

/// A message that a client has received and not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldMessage {
    /// The receipt handle.
    pub(super) handle: String,
    /// The message id.
    pub(super) message_id: String,
    /// The log position in the record that the client received.
    pub(super) log_position: i64,
    /// The number of this delivery of the message, beginning with 1.
    pub(super) attempt: i32,
    /// The length of the body in bytes.
    pub(super) bytes: usize,
    /// The number of the pull that returned the message.
    pub(super) pull: u64,
}

/// Messages that are taken from a client, to be acknowledged or given back to the broker.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FreedMessages {
    /// Messages that the client has consumed, whose acknowledgement failed before.
    pub(super) consumed: Vec<HeldMessage>,
    /// Messages that the client may have begun to consume.
    pub(super) maybe_begun: Vec<HeldMessage>,
    /// Messages that the client has not begun to consume.
    pub(super) untouched: Vec<HeldMessage>,
}

/// The ledger of one queue of one client.
#[derive(Debug)]
pub(super) struct QueueLedger {
    /// The position of the next message.
    next: i64,
    /// The messages at the positions before `next`. `None` for a message that is settled or freed.
    open: VecDeque<Option<HeldMessage>>,
    /// The number of unsettled messages.
    held: usize,
    /// The number of the newest pull.
    newest_pull: u64,
    /// The number of pulls in progress.
    waiting: usize,
    /// When the client last pulled or committed.
    last_request: Instant,
    /// When the client last settled a message, or received one while it held none.
    last_progress: Instant,
}

/// Whether this is a position of a ledger, not an offset of a real queue.
pub(super) fn is_position(offset: i64) -> bool {
    (FIRST_POSITION..END_OF_POSITIONS).contains(&offset)
}

impl FreedMessages {
    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HeldMessage> {
        self.consumed.iter().chain(&self.maybe_begun).chain(&self.untouched)
    }

    pub(super) fn into_messages(self) -> impl Iterator<Item = HeldMessage> {
        self.consumed.into_iter().chain(self.maybe_begun).chain(self.untouched)
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.consumed.extend(other.consumed);
        self.maybe_begun.extend(other.maybe_begun);
        self.untouched.extend(other.untouched);
    }
}

impl QueueLedger {
    pub(super) fn new(next: i64, now: Instant) -> Self {
        Self {
            next,
            open: VecDeque::new(),
            held: 0,
            newest_pull: 0,
            waiting: 0,
            last_request: now,
            last_progress: now,
        }
    }

    /// The position of the next message.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Whether the client must settle messages of this queue before it gets more.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= MAX_OPEN_POSITIONS
    }

    /// Whether the client holds unsettled messages of this queue.
    pub(super) fn holds_any(&self) -> bool {
        self.held > 0
    }

    /// Begins pull number `pull`, which asks for messages from position `at` on. Messages sent from this position on
    /// did not reach the client, and are freed.
    pub(super) fn begin_pull(&mut self, pull: u64, at: i64, now: Instant) -> FreedMessages {
        self.last_request = now;
        self.newest_pull = pull;
        self.waiting += 1;
        let first = self.first();
        if at > self.next || at < first {
            let freed = self.clear();
            self.next = at;
            freed
        } else {
            // The difference is an index into `open`.
            let lost = self.open.split_off((at - first) as usize);
            self.next = at;
            let untouched: Vec<_> = lost.into_iter().flatten().collect();
            self.held -= untouched.len();
            FreedMessages { untouched, ..FreedMessages::default() }
        }
    }

    /// Whether this is the newest pull. Older pulls of the queue hand out no messages.
    pub(super) fn is_newest_pull(&self, pull: u64) -> bool {
        self.newest_pull == pull
    }

    /// Ends a pull.
    pub(super) fn end_pull(&mut self, now: Instant) {
        self.last_request = now;
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Assigns positions to messages that are sent to the client. Returns the position of the first.
    pub(super) fn hand_out(&mut self, messages: Vec<HeldMessage>, now: Instant) -> i64 {
        if self.held == 0 {
            self.last_progress = now;
        }
        let first = self.next;
        self.next += messages.len() as i64;
        self.held += messages.len();
        self.open
            .extend(messages.into_iter().map(|held| Some(HeldMessage { pull: self.newest_pull, ..held })));
        first
    }

    /// Settles the messages before this position, which the client has consumed. Returns those to acknowledge.
    pub(super) fn commit(&mut self, before: i64, now: Instant) -> Vec<HeldMessage> {
        self.last_request = now;
        let count = usize::try_from(before.saturating_sub(self.first())).unwrap_or_default();
        let consumed: Vec<_> = self.open.drain(..count.min(self.open.len())).flatten().collect();
        if !consumed.is_empty() {
            self.last_progress = now;
            self.held -= consumed.len();
        }
        consumed
    }

    /// Finds a message that the client holds.
    pub(super) fn find(&self, matches: impl Fn(&HeldMessage) -> bool) -> Option<&HeldMessage> {
        self.open.iter().flatten().find(|held| matches(held))
    }

    /// Removes a message, so that a commit does not acknowledge it.
    pub(super) fn take(
        &mut self,
        now: Instant,
        matches: impl Fn(&HeldMessage) -> bool,
    ) -> Option<HeldMessage> {
        let slot = self.open.iter_mut().find(|slot| slot.as_ref().is_some_and(&matches))?;
        let taken = slot.take();
        self.held -= 1;
        self.last_progress = now;
        taken
    }

    /// Whether the client has made no progress for this long.
    fn is_stuck(&self, stuck_after: Duration, now: Instant) -> bool {
        now.duration_since(self.last_progress) >= stuck_after
    }

    /// Frees the messages that the client has not begun to consume, if it has made no progress for this long.
    fn free_untouched(&mut self, stuck_after: Duration, now: Instant) -> Vec<HeldMessage> {
        if self.held <= MAYBE_BEGUN || !self.is_stuck(stuck_after, now) {
            return Vec::new();
        }
        let behind = self.open.iter_mut().filter(|slot| slot.is_some()).skip(MAYBE_BEGUN);
        let freed: Vec<_> = behind.filter_map(Option::take).collect();
        self.held -= freed.len();
        freed
    }

    /// Frees the messages of pulls after this one.
    fn free_after(&mut self, pull: u64) -> Vec<HeldMessage> {
        let later = |slot: &&mut Option<HeldMessage>| slot.as_ref().is_some_and(|held| held.pull > pull);
        let freed: Vec<_> = self.open.iter_mut().filter(later).filter_map(Option::take).collect();
        self.held -= freed.len();
        freed
    }

    /// Whether the client has sent no request about this queue for this long.
    pub(super) fn is_abandoned(&self, after: Duration, now: Instant) -> bool {
        self.waiting == 0 && now.duration_since(self.last_request) >= after
    }

    /// Frees all messages.
    pub(super) fn clear(&mut self) -> FreedMessages {
        self.newest_pull = 0;
        self.held = 0;
        let mut maybe_begun: Vec<_> = self.open.drain(..).flatten().collect();
        let untouched = maybe_begun.split_off(MAYBE_BEGUN.min(maybe_begun.len()));
        FreedMessages { maybe_begun, untouched, ..FreedMessages::default() }
    }

    /// The position of the first message in `open`.
    fn first(&self) -> i64 {
        self.next - self.open.len() as i64
    }
}

/// Frees the messages of one topic that a client has not begun to consume, in the queues in which it has made no
/// progress for `stuck_after`. In each of these queues it keeps the first messages. If it is stuck in all queues, it
/// keeps only the first of all messages, because it begins them in the order in which it received them.
pub(super) fn free_untouched(
    queues: &mut [&mut QueueLedger],
    stuck_after: Duration,
    now: Instant,
) -> Vec<HeldMessage> {
    let mut freed: Vec<_> =
        queues.iter_mut().flat_map(|queue| queue.free_untouched(stuck_after, now)).collect();
    if queues.iter().all(|queue| queue.held == 0 || queue.is_stuck(stuck_after, now)) {
        let mut pulls: Vec<_> =
            queues.iter().flat_map(|queue| &queue.open).flatten().map(|held| held.pull).collect();
        pulls.sort_unstable();
        if let Some(last) = pulls.get(MAYBE_BEGUN - 1) {
            freed.extend(queues.iter_mut().flat_map(|queue| queue.free_after(*last)));
        }
    }
    freed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(count: usize) -> Vec<HeldMessage> {
        let one = |number: usize| HeldMessage {
            handle: format!("h{number}"),
            message_id: format!("m{number}"),
            log_position: number as i64,
            attempt: 1,
            bytes: 10,
            pull: 0,
        };
        (0..count).map(one).collect()
    }

    fn handles(held: &[HeldMessage]) -> Vec<&str> {
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
    fn messages_that_did_not_reach_the_client_are_freed_and_their_positions_are_reused() {
        let now = Instant::now();
        let mut ledger = ledger(3);
        let freed = ledger.begin_pull(1, FIRST_POSITION + 1, now);
        assert_eq!(handles(&freed.untouched), ["h1", "h2"]);
        assert!(ledger.is_newest_pull(1));
        assert_eq!(ledger.hand_out(held(1), now), FIRST_POSITION + 1);
        assert_eq!(ledger.held, 2);
    }

    #[test]
    fn a_pull_from_an_unknown_position_frees_all_messages() {
        let now = Instant::now();
        for at in [FIRST_POSITION - 1, FIRST_POSITION + 4] {
            let mut ledger = ledger(3);
            let freed = ledger.begin_pull(1, at, now);
            assert_eq!(handles(&freed.maybe_begun), ["h0", "h1", "h2"]);
            assert_eq!((ledger.next(), ledger.held), (at, 0));
        }
    }

    #[test]
    fn only_the_newest_pull_hands_out() {
        let now = Instant::now();
        let mut ledger = ledger(0);
        ledger.begin_pull(1, FIRST_POSITION, now);
        ledger.begin_pull(2, FIRST_POSITION, now);
        assert!(!ledger.is_newest_pull(1) && ledger.is_newest_pull(2));
        ledger.clear();
        assert!(!ledger.is_newest_pull(2));
    }

    #[test]
    fn a_stuck_client_keeps_the_messages_that_it_may_have_begun() {
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
    fn a_client_that_is_stuck_in_all_queues_keeps_the_first_messages() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let mut ledgers = [ledger(0), ledger(0), ledger(0)];
        for (pull, (queue, count)) in [(0, 40), (1, 30), (0, 20), (1, 9)].into_iter().enumerate() {
            let next = ledgers[queue].next();
            ledgers[queue].begin_pull(pull as u64 + 1, next, now);
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
        ledger.begin_pull(1, FIRST_POSITION + 1, now);
        assert!(!ledger.is_abandoned(minute, now + minute * 2));
        ledger.end_pull(now + minute);
        assert!(!ledger.is_abandoned(minute, now + minute));
        ledger.commit(FIRST_POSITION, now + minute);
        assert!(ledger.is_abandoned(minute, now + minute * 3));
    }

    #[test]
    fn positions_are_not_offsets() {
        for (offset, position) in
            [(0, false), (-1, false), (FIRST_POSITION - 1, false), (FIRST_POSITION, true), (i64::MAX, false)]
        {
            assert_eq!(is_position(offset), position, "{offset}");
        }
    }
}
