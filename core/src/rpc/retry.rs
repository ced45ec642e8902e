//! Whether, and when, a failed request goes out again.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use rocketmq_thin_proto::{Class, classify, v2};

use crate::{
    error::{Error, ErrorKind},
    options::RetryOptions,
};

/// Whether the same request may succeed when it is sent again: the one place that says so.
///
/// A server's code decides by the table of the wire contract. Without a code it is the way to the server
/// that failed, and that heals.
pub(super) fn is_retryable(kind: ErrorKind, code: Option<i32>) -> bool {
    match code.map(classify) {
        Some(Class::Failure { retryable, .. }) => retryable,
        Some(Class::Success | Class::PerEntry) => false,
        None => matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Throttled),
    }
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Hand it to the caller.
    Fail,
    /// Pause and send again.
    Repeat,
    /// The server forgot our settings: send them, then the request again.
    Replay,
}

/// What to do about `error`, as far as the error itself can tell.
pub(crate) fn verdict(error: &Error) -> Verdict {
    if !error.retryable() {
        return Verdict::Fail;
    }
    let forgotten = match error.code().and_then(|code| v2::Code::try_from(code).ok()) {
        Some(v2::Code::UnrecognizedClientType) => true,
        // Apache's proxy stumbles over the settings or the stream that it no longer has.
        Some(v2::Code::InternalServerError) => error.message().contains("is null"),
        _ => false,
    };
    if forgotten { Verdict::Replay } else { Verdict::Repeat }
}

/// Pauses with full jitter: random between nothing and a limit that doubles.
#[derive(Debug)]
pub(crate) struct Pauses {
    limits: ExponentialBackoff,
    longest: Duration,
    /// The part of each limit that is waited in any case.
    floor: f64,
}

impl Pauses {
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        let limits = ExponentialBuilder::new()
            .with_factor(2.0)
            .with_min_delay(initial.min(max))
            .with_max_delay(max)
            .without_max_times()
            .build();
        Self { limits, longest: max, floor: 0.0 }
    }

    /// For a first connection: quick at first, then once a second.
    pub(crate) fn of_connecting() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// For a telemetry stream: back within three seconds, also after many failures.
    pub(crate) fn of_reconnecting() -> Self {
        Self { floor: 0.25, ..Self::new(Duration::from_millis(100), Duration::from_secs(2)) }
    }

    /// For a queue that can't be received from: five requests a second at most.
    pub(crate) fn of_receiving() -> Self {
        Self { floor: 0.8, ..Self::new(Duration::from_millis(250), Duration::from_secs(2)) }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let limit = self.limits.next().unwrap_or(self.longest);
        limit.mul_f64(rand::random_range(self.floor..=1.0))
    }
}

/// The attempts of one call, under one deadline.
#[derive(Debug)]
pub(crate) struct Retry {
    pauses: Pauses,
    left: u32,
    deadline: Instant,
    maybe_delivered: bool,
}

impl Retry {
    pub(crate) fn new(options: &RetryOptions, deadline: Instant) -> Self {
        Self {
            pauses: Pauses::new(options.initial, options.max),
            left: options.max_attempts.max(1),
            deadline,
            maybe_delivered: false,
        }
    }

    /// How long the next attempt may take, or nothing when there is no time left.
    pub(crate) fn limit(&self, request_timeout: Duration) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).min(request_timeout)
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// `error` itself, when no further attempt is worthwhile.
    pub(crate) async fn after(&mut self, error: Error) -> Result<Verdict, Error> {
        let (verdict, pause) = self.next(error)?;
        tokio::time::sleep(pause).await;
        Ok(verdict)
    }

    /// The decision behind [`after`](Self::after), without the waiting.
    fn next(&mut self, error: Error) -> Result<(Verdict, Duration), Error> {
        self.maybe_delivered |= error.maybe_delivered();
        // Knocking at a closed door is no attempt: a server that restarts is waited for until the deadline.
        if error.code().is_some() || error.maybe_delivered() {
            self.left -= 1;
        }
        let verdict = verdict(&error);
        let pause = self.pauses.next();
        if verdict == Verdict::Fail || self.left == 0 || Instant::now() + pause >= self.deadline {
            return Err(if self.maybe_delivered { error.maybe() } else { error });
        }
        Ok((verdict, pause))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(code: i32, message: &str) -> Error {
        let Class::Failure { kind, .. } = classify(code) else { panic!("{code} is no failure") };
        Error::new(kind, "send", message).with_code(code).with_retryable(is_retryable(kind, Some(code)))
    }

    #[test]
    fn the_error_decides_what_comes_next() {
        for (error, expected) in [
            (refused(40100, ""), Verdict::Fail),
            (refused(40402, ""), Verdict::Fail),
            (refused(42900, ""), Verdict::Repeat),
            (refused(50001, "disk is full"), Verdict::Repeat),
            (refused(50001, "Cannot invoke \"x\" because \"settings\" is null"), Verdict::Replay),
            (refused(40015, ""), Verdict::Replay),
            (Error::new(ErrorKind::Tls, "send", ""), Verdict::Fail),
            (Error::closed("send"), Verdict::Fail),
        ] {
            assert_eq!(verdict(&error), expected, "{error}");
        }
        assert!(is_retryable(ErrorKind::Unavailable, None));
        assert!(!is_retryable(ErrorKind::Protocol, None));
    }

    #[test]
    fn attempts_end_with_their_number_and_with_the_deadline() {
        let options = RetryOptions { max_attempts: 3, initial: Duration::ZERO, max: Duration::ZERO };
        let mut retry = Retry::new(&options, Instant::now() + Duration::from_secs(60));
        assert!(retry.next(refused(50001, "")).is_ok());
        assert!(retry.next(refused(50001, "")).is_ok());
        assert_eq!(retry.next(refused(50001, "last")).unwrap_err().message(), "last");
        assert!(Retry::new(&options, Instant::now()).next(refused(50001, "")).is_err());
    }

    #[test]
    fn a_server_that_cannot_be_reached_is_waited_for_until_the_deadline() {
        let options = RetryOptions { max_attempts: 1, initial: Duration::ZERO, max: Duration::ZERO };
        let mut retry = Retry::new(&options, Instant::now() + Duration::from_secs(60));
        let refused =
            || Error::new(ErrorKind::Unavailable, "send", "connection refused").with_retryable(true);
        assert!((0..100).all(|_| retry.next(refused()).is_ok()));
        assert!(retry.next(refused().maybe()).is_err());
    }

    #[test]
    fn one_lost_answer_marks_the_error_of_the_whole_call() {
        let options =
            RetryOptions { initial: Duration::ZERO, max: Duration::ZERO, ..RetryOptions::default() };
        let mut retry = Retry::new(&options, Instant::now() + Duration::from_secs(60));
        retry.next(refused(50401, "slow").maybe()).unwrap();
        assert!(retry.next(refused(40402, "")).unwrap_err().maybe_delivered());
    }

    proptest! {
        #[test]
        fn no_pause_is_longer_than_the_longest(initial in 0u64..5000, max in 0u64..5000, rounds in 1usize..40) {
            let max = Duration::from_millis(max);
            let mut pauses = Pauses::new(Duration::from_millis(initial), max);
            for _ in 0..rounds {
                prop_assert!(pauses.next() <= max);
            }
        }

        #[test]
        fn a_broken_queue_is_asked_five_times_a_second_at_most(rounds in 1usize..40) {
            let mut pauses = Pauses::of_receiving();
            for _ in 0..rounds {
                prop_assert!(pauses.next() >= Duration::from_millis(200));
            }
        }
    }
}
