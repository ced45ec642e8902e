//! Decides what to do with a message after its handler has returned.

use std::time::{Duration, Instant};

use crate::wire::Redelivery;

/// The maximum time that servers can hide a message.
const MAX_DELAY: Duration = Duration::from_secs(12 * 3600);

/// The result of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumeResult {
    /// The message was handled, and is acknowledged.
    Ack,
    /// Handling failed. The message is delivered again after the delay of the group's retry policy.
    Retry,
    /// Handling failed. The message is delivered again after this time, or after 12 h if it is longer.
    RetryAfter(Duration),
    /// The message moves to the dead-letter topic of the group, whose name is `%DLQ%` followed by the name of the group.
    DeadLetter,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ack,
    /// Return the message to the server, which delivers it again after this time.
    Return(Duration),
    /// Hand it out again at this time. It stays leased, and later messages of its group wait.
    HandOutAt(Instant),
    DeadLetter,
}

/// The result of a handler, and what else the next step depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandlingOutcome {
    pub(super) result: ConsumeResult,
    /// How many times the message was handed out, by this consumer and others.
    pub(super) attempt: u32,
    /// Whether later messages must wait for this one.
    pub(super) ordered: bool,
    /// Whether the subscription has ended, also by a close, so that its messages are not handed out any more.
    pub(super) unsubscribed: bool,
}

impl HandlingOutcome {
    /// Decides the next step at `now`.
    ///
    /// For messages that are returned to it, the server counts the attempts and moves a message that fails too often to
    /// the dead-letter topic. Ordered messages are retried by the client, so the client does this for them.
    pub(super) fn next_step(self, policy: &Redelivery, now: Instant) -> Step {
        let delay = match self.result {
            ConsumeResult::Ack => return Step::Ack,
            ConsumeResult::DeadLetter => return Step::DeadLetter,
            ConsumeResult::Retry => policy.delay(self.attempt),
            ConsumeResult::RetryAfter(delay) => delay,
        };
        let delay = delay.min(MAX_DELAY);
        if !self.ordered {
            return Step::Return(delay);
        }
        if self.attempt >= policy.max_attempts {
            return Step::DeadLetter;
        }
        if self.unsubscribed { Step::Return(delay) } else { Step::HandOutAt(now + delay) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_decides_the_next_step() {
        use ConsumeResult::*;
        let now = Instant::now();
        let policy = {
            let mut policy = Redelivery::default();
            policy.max_attempts = 3;
            policy
        };
        let seconds = Duration::from_secs;
        for (result, attempt, ordered, unsubscribed, step) in [
            (Ack, 1, false, false, Step::Ack),
            (Ack, 9, true, true, Step::Ack),
            (DeadLetter, 1, false, false, Step::DeadLetter),
            (DeadLetter, 1, true, false, Step::DeadLetter),
            (Retry, 1, false, false, Step::Return(seconds(1))),
            (Retry, 2, false, true, Step::Return(seconds(5))),
            // The server counts the attempts.
            (Retry, 3, false, false, Step::Return(seconds(10))),
            (RetryAfter(seconds(7)), 2, false, false, Step::Return(seconds(7))),
            (RetryAfter(Duration::MAX), 2, false, false, Step::Return(MAX_DELAY)),
            (Retry, 1, true, false, Step::HandOutAt(now + seconds(1))),
            (Retry, 2, true, false, Step::HandOutAt(now + seconds(5))),
            (Retry, 3, true, false, Step::DeadLetter),
            (Retry, 2, true, true, Step::Return(seconds(5))),
            (RetryAfter(seconds(7)), 2, true, false, Step::HandOutAt(now + seconds(7))),
            (RetryAfter(seconds(7)), 3, true, false, Step::DeadLetter),
        ] {
            let handled = HandlingOutcome { result, attempt, ordered, unsubscribed };
            assert_eq!(handled.next_step(&policy, now), step, "{handled:?}");
        }
    }
}
