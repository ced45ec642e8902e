//! What becomes of a message once its handler is done.

use std::time::{Duration, Instant};

use crate::wire::Redelivery;

/// The longest time that servers hide a message.
const LONGEST_DELAY: Duration = Duration::from_secs(12 * 3600);

/// What a handler says about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumeResult {
    /// It is done, and does not come again.
    Ack,
    /// It failed, and comes again after the time that the group's policy says.
    Retry,
    /// It failed, and comes again after this time. Servers allow up to 12 h; a longer time is cut.
    RetryAfter(Duration),
    /// It moves to the dead-letter topic of the group, `%DLQ%` and the name of the group.
    DeadLetter,
}

/// What to do about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ack,
    /// Return it to the server, which delivers it again after this time.
    Return(Duration),
    /// Hand it out again then. It stays leased, and the later ones of its group wait.
    HandOutAt(Instant),
    DeadLetter,
}

/// How a message was handled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handled {
    pub(super) result: ConsumeResult,
    /// How many times it has been handed out and delivered.
    pub(super) attempt: u32,
    /// Whether later messages have to wait for it.
    pub(super) ordered: bool,
    /// Whether the consumer is being closed, so that nothing is handed out any more.
    pub(super) closed: bool,
}

impl Handled {
    /// Decides what to do now, at `now`.
    ///
    /// A server counts the attempts of messages that are returned to it, and moves those that fail too often to the
    /// dead-letter topic. Ordered messages are retried here, so they are counted and moved here.
    pub(super) fn next_step(self, policy: &Redelivery, now: Instant) -> Step {
        let delay = match self.result {
            ConsumeResult::Ack => return Step::Ack,
            ConsumeResult::DeadLetter => return Step::DeadLetter,
            ConsumeResult::Retry => policy.delay(self.attempt),
            ConsumeResult::RetryAfter(delay) => delay,
        };
        let delay = delay.min(LONGEST_DELAY);
        if !self.ordered {
            return Step::Return(delay);
        }
        if self.attempt >= policy.max_attempts {
            return Step::DeadLetter;
        }
        if self.closed { Step::Return(delay) } else { Step::HandOutAt(now + delay) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_decides_what_becomes_of_a_message() {
        use ConsumeResult::*;
        let now = Instant::now();
        let policy = {
            let mut policy = Redelivery::default();
            policy.max_attempts = 3;
            policy
        };
        let seconds = Duration::from_secs;
        for (result, attempt, ordered, closed, step) in [
            (Ack, 1, false, false, Step::Ack),
            (Ack, 9, true, true, Step::Ack),
            (DeadLetter, 1, false, false, Step::DeadLetter),
            (DeadLetter, 1, true, false, Step::DeadLetter),
            (Retry, 1, false, false, Step::Return(seconds(1))),
            (Retry, 2, false, true, Step::Return(seconds(5))),
            // The server counts.
            (Retry, 3, false, false, Step::Return(seconds(10))),
            (RetryAfter(seconds(7)), 2, false, false, Step::Return(seconds(7))),
            (RetryAfter(Duration::MAX), 2, false, false, Step::Return(LONGEST_DELAY)),
            (Retry, 1, true, false, Step::HandOutAt(now + seconds(1))),
            (Retry, 2, true, false, Step::HandOutAt(now + seconds(5))),
            (Retry, 3, true, false, Step::DeadLetter),
            (Retry, 2, true, true, Step::Return(seconds(5))),
            (RetryAfter(seconds(7)), 2, true, false, Step::HandOutAt(now + seconds(7))),
            (RetryAfter(seconds(7)), 3, true, false, Step::DeadLetter),
        ] {
            let handled = Handled { result, attempt, ordered, closed };
            assert_eq!(handled.next_step(&policy, now), step, "{handled:?}");
        }
    }
}
