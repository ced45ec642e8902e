//! Decides whether and when a failed request is sent again.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use rocketmq_thin_proto::{Class, classify, v2};

use super::method::{RecallMessage, RpcMethod};
use crate::{
    error::{Error, ErrorKind},
    metrics::Recorder,
    options::{LONGEST_WAIT, RetryOptions},
};

/// Whether the same request may succeed when it is sent again. This is the only place that decides this.
///
/// If there is a code, the table of the wire contract decides. Without a code no server answered, which is usually
/// temporary.
pub(super) fn is_retryable(operation: &str, kind: ErrorKind, code: Option<i32>) -> bool {
    // With this code, Apache's servers refuse a recall that can't succeed, such as one that comes too late.
    if operation == RecallMessage::NAME && code == Some(v2::Code::InternalServerError.into()) {
        return false;
    }
    match code.map(classify) {
        Some(Class::Failure { retryable, .. }) => retryable,
        Some(Class::Success | Class::PerEntry) => false,
        None => matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Throttled),
    }
}

/// How to continue after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryDecision {
    /// Return the error to the caller.
    Fail,
    /// Pause and send the request again.
    Repeat,
    /// The server has lost the client's settings: send them, then the request again.
    Replay,
}

/// Decides how to continue after `error`, from the error alone.
pub(crate) fn retry_decision(error: &Error) -> RetryDecision {
    if !error.retryable() {
        return RetryDecision::Fail;
    }
    let forgotten = match error.code().and_then(|code| v2::Code::try_from(code).ok()) {
        Some(v2::Code::UnrecognizedClientType) => true,
        // Apache's proxy fails like this if it lacks the settings or the stream of a client.
        Some(v2::Code::InternalServerError) => error.message().contains("is null"),
        _ => false,
    };
    if forgotten { RetryDecision::Replay } else { RetryDecision::Repeat }
}

/// Sends the client's settings to a server that has lost them.
pub(crate) trait ReplaySettings {
    /// Sends the settings to the server that answered with `error`, and waits until it has them.
    fn replay_settings(
        &self,
        error: &Error,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The counters for retries, if they are counted.
    fn metrics(&self) -> Option<&Recorder> {
        None
    }
}

/// Replays nothing, for requests that need no settings on the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoSettings;

impl ReplaySettings for NoSettings {
    async fn replay_settings(&self, _: &Error, _: Instant) -> Result<(), Error> {
        Ok(())
    }
}

/// Exponential backoff with jitter: each pause is random below a limit that doubles.
#[derive(Debug)]
pub(crate) struct Backoff {
    limits: ExponentialBackoff,
    longest: Duration,
    /// The minimum pause, as a fraction of the limit.
    floor: f64,
}

impl Backoff {
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        let max = max.min(LONGEST_WAIT);
        let limits = ExponentialBuilder::new()
            .with_factor(2.0)
            .with_min_delay(initial.min(max))
            .with_max_delay(max)
            .without_max_times()
            .build();
        Self { limits, longest: max, floor: 0.0 }
    }

    /// For connecting when a client starts: fast at first, then about once per second.
    pub(crate) fn for_connecting() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// For a telemetry stream: after the first attempts less than one per second on average, and never more than 2.5 s
    /// apart.
    pub(crate) fn for_telemetry() -> Self {
        Self { floor: 0.5, ..Self::new(Duration::from_millis(250), Duration::from_millis(2500)) }
    }

    /// For a queue that can't be received from: at most five requests per second.
    pub(crate) fn for_receiving() -> Self {
        Self { floor: 0.8, ..Self::new(Duration::from_millis(250), Duration::from_secs(2)) }
    }

    /// For a queue whose polls return early without a message: at most four requests per second after the first ones.
    pub(crate) fn for_early_answers() -> Self {
        Self { floor: 0.5, ..Self::new(Duration::from_millis(10), Duration::from_millis(500)) }
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let limit = self.limits.next().unwrap_or(self.longest);
        limit.mul_f64(rand::random_range(self.floor..=1.0))
    }
}

/// The attempts of one call: how many, how far apart, and until when.
#[derive(Debug)]
pub(crate) struct Retry {
    operation: &'static str,
    backoff: Backoff,
    attempts_left: u32,
    request_timeout: Duration,
    deadline: Instant,
    /// Until when to retry while the server is absent (see [`Error::is_absent`]).
    absent_deadline: Instant,
    maybe_delivered: bool,
    /// Whether the settings were replayed after the latest failure.
    replayed: bool,
}

impl Retry {
    pub(crate) fn new(
        operation: &'static str,
        options: &RetryOptions,
        request_timeout: Duration,
        deadline: Instant,
    ) -> Self {
        Self {
            operation,
            backoff: Backoff::new(options.initial, options.max),
            attempts_left: options.max_attempts.max(1),
            request_timeout,
            deadline,
            absent_deadline: deadline,
            maybe_delivered: false,
            replayed: false,
        }
    }

    /// For connecting: attempts until `deadline`, each at most `request_timeout` long. If the server is absent, attempts
    /// end after `absent_timeout`.
    pub(crate) fn for_connecting(
        request_timeout: Duration,
        deadline: Instant,
        absent_timeout: Duration,
    ) -> Self {
        let options = RetryOptions { max_attempts: u32::MAX, ..RetryOptions::default() };
        let absent_deadline = crate::options::deadline(Instant::now(), absent_timeout).min(deadline);
        Self {
            backoff: Backoff::for_connecting(),
            absent_deadline,
            ..Self::new("connect", &options, request_timeout, deadline)
        }
    }

    /// Runs `attempt` until it succeeds, fails permanently, or the attempts or the time are used up.
    ///
    /// The argument of `attempt` is the time that it may take. If a server has lost the settings of the client,
    /// `settings` sends them again before the next attempt.
    ///
    /// # Errors
    ///
    /// The error of the last attempt.
    pub(crate) async fn run<T, F>(
        mut self,
        settings: &impl ReplaySettings,
        mut attempt: impl FnMut(Duration) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut last: Option<Error> = None;
        loop {
            let limit = time_left(self.deadline, self.request_timeout);
            if limit.is_zero() {
                // Replaying the settings may have taken the rest of the time.
                let error = last.unwrap_or_else(|| queued_too_long(self.operation));
                return Err(if self.maybe_delivered { error.with_maybe_delivered() } else { error });
            }
            let error = match attempt(limit).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            last = Some(error.clone());
            self.pause(error, settings).await?;
        }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// `error` itself if there is no further attempt.
    async fn pause(&mut self, error: Error, settings: &impl ReplaySettings) -> Result<(), Error> {
        let (decision, pause) = self.next(error.clone())?;
        if let Some(metrics) = settings.metrics() {
            metrics.count_retry(self.operation);
        }
        let replayed = decision == RetryDecision::Replay
            && settings.replay_settings(&error, self.deadline).await.is_ok();
        // Does not wait after a replay, unless the previous attempt also followed a replay.
        if !replayed || self.replayed {
            tokio::time::sleep(pause).await;
        }
        self.replayed = replayed;
        Ok(())
    }

    /// Decides how to continue after `error`, and how long to wait before the next attempt.
    fn next(&mut self, error: Error) -> Result<(RetryDecision, Duration), Error> {
        self.maybe_delivered |= error.maybe_delivered();
        // A server that can't be reached, for instance during its restart, is retried until the deadline.
        if !error.is_unreached() {
            self.attempts_left -= 1;
        }
        let decision = retry_decision(&error);
        let pause = self.backoff.next();
        let deadline = if error.is_absent() { self.absent_deadline } else { self.deadline };
        let too_late = Instant::now().checked_add(pause).is_none_or(|next| next >= deadline);
        if decision == RetryDecision::Fail || self.attempts_left == 0 || too_late {
            return Err(if self.maybe_delivered { error.with_maybe_delivered() } else { error });
        }
        Ok((decision, pause))
    }
}

/// How long a request may take that starts now: `limit`, but not beyond `deadline`.
///
/// # Errors
///
/// `Timeout` if no time is left.
pub(crate) fn time_for_request(
    operation: &'static str,
    deadline: Instant,
    limit: Duration,
) -> Result<Duration, Error> {
    let left = time_left(deadline, limit);
    if left.is_zero() { Err(queued_too_long(operation)) } else { Ok(left) }
}

fn time_left(deadline: Instant, limit: Duration) -> Duration {
    deadline.saturating_duration_since(Instant::now()).min(limit)
}

/// The error of what was not sent before its deadline.
pub(super) fn queued_too_long(operation: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, operation, "deadline expired while queued").with_retryable(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_does_not_outlast_the_deadline() {
        let second = Duration::from_secs(1);
        assert_eq!(time_left(Instant::now(), second), Duration::ZERO);
        assert!(time_left(Instant::now() + second, Duration::MAX) <= second);
        assert_eq!(time_left(Instant::now() + 60 * second, second), second);
    }

    fn refused(code: i32, message: &str) -> Error {
        let Class::Failure { kind, .. } = classify(code) else { panic!("{code} is no failure") };
        let retryable = is_retryable("send", kind, Some(code));
        Error::new(kind, "send", message).with_code(code).with_retryable(retryable)
    }

    #[test]
    fn the_error_decides_what_to_do() {
        for (error, expected) in [
            (refused(40100, ""), RetryDecision::Fail),
            (refused(40402, ""), RetryDecision::Fail),
            (refused(42900, ""), RetryDecision::Repeat),
            (refused(50001, "disk is full"), RetryDecision::Repeat),
            (refused(50001, "Cannot invoke \"x\" because \"settings\" is null"), RetryDecision::Replay),
            (refused(40015, ""), RetryDecision::Replay),
            (Error::new(ErrorKind::Tls, "send", ""), RetryDecision::Fail),
            (Error::closed("send"), RetryDecision::Fail),
        ] {
            assert_eq!(retry_decision(&error), expected, "{error}");
        }
        assert!(is_retryable("send", ErrorKind::Unavailable, None));
        assert!(!is_retryable("send", ErrorKind::Protocol, None));
        assert!(!is_retryable("recall", ErrorKind::Unavailable, Some(50001)));
    }

    fn retry(max_attempts: u32, deadline: Instant) -> Retry {
        let options = RetryOptions { max_attempts, initial: Duration::ZERO, max: Duration::ZERO };
        Retry::new("send", &options, Duration::from_secs(3), deadline)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn attempts_end_with_their_number_and_with_the_deadline() {
        let mut few = retry(3, later());
        assert!(few.next(refused(50001, "")).is_ok());
        assert!(few.next(refused(50001, "")).is_ok());
        assert_eq!(few.next(refused(50001, "last")).unwrap_err().message(), "last");
        assert!(retry(3, Instant::now()).next(refused(50001, "")).is_err());
    }

    #[test]
    fn an_unreachable_server_is_retried_until_the_deadline() {
        let mut retry = retry(1, later());
        let unreached = || {
            Error::new(ErrorKind::Unavailable, "send", "connection refused").with_retryable(true).unreached()
        };
        assert!((0..100).all(|_| retry.next(unreached()).is_ok()));
        assert!(retry.next(refused(50001, "")).is_err());
    }

    #[test]
    fn an_absent_server_is_retried_until_the_absent_timeout() {
        let absent = || {
            let error = Error::new(ErrorKind::Unavailable, "connect", "connection refused");
            error.with_retryable(true).unreached().absent()
        };
        let for_connecting =
            |absent_timeout| Retry::for_connecting(Duration::from_secs(3), later(), absent_timeout);
        assert!(for_connecting(Duration::ZERO).next(absent()).is_err());
        assert!(for_connecting(Duration::ZERO).next(refused(50001, "")).is_ok());
        assert!(for_connecting(Duration::MAX).next(absent()).is_ok());
    }

    #[test]
    fn one_lost_answer_marks_the_error_of_the_whole_call() {
        let mut retry = retry(16, later());
        retry.next(refused(50401, "slow").with_maybe_delivered()).unwrap();
        assert!(retry.next(refused(40402, "")).unwrap_err().maybe_delivered());
    }

    #[test]
    fn the_longest_duration_does_not_overflow() {
        let options = RetryOptions { max_attempts: 9, initial: Duration::MAX, max: Duration::MAX };
        let mut retry = Retry::new("send", &options, Duration::MAX, later());
        assert!(retry.next(refused(50001, "")).is_err());
        assert!((0..10).all(|_| retry.backoff.next() <= LONGEST_WAIT));
    }

    /// Counts how often the settings were replayed.
    #[derive(Default)]
    struct Replays(std::sync::atomic::AtomicUsize);

    impl ReplaySettings for Replays {
        async fn replay_settings(&self, _: &Error, _: Instant) -> Result<(), Error> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test]
    async fn lost_settings_are_replayed_before_the_next_attempt() {
        let replays = Replays::default();
        let mut attempts = 0;
        let result = retry(16, later()).run(&replays, |_| {
            attempts += 1;
            std::future::ready(match attempts {
                1 => Err(refused(40015, "unknown client")),
                2 => Err(refused(50001, "disk is full")),
                _ => Ok(attempts),
            })
        });
        assert_eq!(result.await.unwrap(), 3);
        assert_eq!(replays.0.into_inner(), 1);
    }

    #[tokio::test]
    async fn nothing_is_attempted_after_the_deadline() {
        let result = retry(16, Instant::now()).run(&NoSettings, async |_| Ok(()));
        let error = result.await.unwrap_err();
        assert_eq!((error.kind(), error.retryable()), (ErrorKind::Timeout, true));
    }

    /// Takes all the time there is.
    struct SlowReplay;

    impl ReplaySettings for SlowReplay {
        async fn replay_settings(&self, _: &Error, deadline: Instant) -> Result<(), Error> {
            tokio::time::sleep_until(deadline.into()).await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_replay_that_takes_the_rest_of_the_time_does_not_hide_the_cause() {
        let deadline = Instant::now() + Duration::from_millis(50);
        let result = retry(16, deadline)
            .run(&SlowReplay, async |_| Err::<(), _>(refused(40015, "who?").with_maybe_delivered()));
        let error = result.await.unwrap_err();
        assert_eq!((error.code(), error.maybe_delivered()), (Some(40015), true));
    }

    proptest! {
        #[test]
        fn no_pause_exceeds_the_maximum(initial in 0u64..5000, max in 0u64..5000, rounds in 1usize..40) {
            let max = Duration::from_millis(max);
            let mut backoff = Backoff::new(Duration::from_millis(initial), max);
            for _ in 0..rounds {
                prop_assert!(backoff.next() <= max);
            }
        }

        #[test]
        fn polls_that_end_early_become_few(rounds in 7usize..40) {
            let mut backoff = Backoff::for_early_answers();
            let pauses: Vec<_> = (0..rounds).map(|_| backoff.next()).collect();
            prop_assert!(pauses[0] <= Duration::from_millis(10));
            prop_assert!(pauses[6..].iter().all(|pause| *pause >= Duration::from_millis(250)));
        }

        #[test]
        fn a_failing_queue_is_polled_at_most_five_times_per_second(rounds in 1usize..40) {
            let mut backoff = Backoff::for_receiving();
            for _ in 0..rounds {
                prop_assert!(backoff.next() >= Duration::from_millis(200));
            }
        }
    }
}
