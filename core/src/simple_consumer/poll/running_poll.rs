//! Polls that receives have started, and which of them no receive waits for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    consumer::SHORTEST_POLL,
    error::Error,
    rpc::{RetryDecision, retry_decision},
    wire::Poll,
};

/// How many polls of one broker may run without a receive that waits for them. Beyond that, the oldest is cancelled.
const MAX_IDLE: usize = 16;

/// A request is answered at once, or the server holds it for longer than this.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// A server that holds a request for longer than this is not about to refuse it, even if it broke an earlier one after a longer
/// time.
const MAX_REFUSAL: Duration = Duration::from_secs(3);

/// A poll that was started, and its result once it has ended.
pub(super) struct RunningPoll {
    pub(super) poll: Poll,
    /// How long the receive that waits for the poll, or did so last, waits.
    deadline: Mutex<Instant>,
    started: Instant,
    pub(super) stop: CancellationToken,
    progress: Mutex<PollProgress>,
}

#[derive(Default)]
struct PollProgress {
    ended: bool,
    /// Why the next attempt can't be made yet.
    delay: Option<Error>,
    /// Why the latest attempt failed, or why the poll ended.
    failure: Option<Error>,
    /// How long the attempt took that failed.
    failed_after: Duration,
    /// When the server became ready for the attempt in flight.
    attempted_at: Option<Instant>,
}

/// The running polls of one broker that no receive waits for. A later receive can take them over.
#[derive(Default)]
pub(super) struct IdlePolls(Mutex<Vec<Arc<RunningPoll>>>);

impl RunningPoll {
    pub(super) fn new(poll: Poll, deadline: Instant, stop: CancellationToken) -> Self {
        let deadline = Mutex::new(deadline);
        Self { poll, deadline, started: Instant::now(), stop, progress: Mutex::default() }
    }

    pub(super) fn deadline(&self) -> Instant {
        *self.deadline.lock()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.progress.lock().ended
    }

    /// Whether the poll found no message and a receive may start another one. Not after an early answer: a receive
    /// would send one request after the other.
    pub(super) fn may_poll_again(&self) -> bool {
        let progress = self.progress.lock();
        progress.ended && progress.failure.is_none() && self.started.elapsed() >= SHORTEST_POLL
    }

    /// Why the server refused the poll, which ends it; `None` if it did not. The refusal of an earlier poll does not count:
    /// it only delays this one.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.progress.lock().failure.clone().filter(|error| retry_decision(error) == RetryDecision::Fail)
    }

    /// Why the poll ended, or why it has no answer yet.
    pub(super) fn error(&self) -> Option<Error> {
        self.progress.lock().error(Instant::now())
    }

    pub(super) fn end(&self, failure: Option<Error>) {
        *self.progress.lock() = PollProgress { ended: true, failure, ..PollProgress::default() };
    }

    /// Records why the next attempt can't be made yet; `None` when it is made.
    pub(super) fn report_delay(&self, error: Option<Error>) {
        self.progress.lock().report_delay(error, Instant::now());
    }

    /// Records that an attempt failed. Another one follows.
    pub(super) fn record_failure(&self, error: Error) {
        self.progress.lock().record_failure(error, Instant::now());
    }
}

impl PollProgress {
    fn error(&self, now: Instant) -> Option<Error> {
        // A server that holds a request for longer than it took to refuse the previous one waits for messages.
        let is_waiting = self.attempted_at.is_some_and(|at| now > at + self.failed_after + MIN_WAIT);
        self.delay.as_ref().or(self.failure.as_ref().filter(|_| !is_waiting)).cloned()
    }

    fn report_delay(&mut self, error: Option<Error>, now: Instant) {
        self.attempted_at = error.is_none().then_some(now);
        self.delay = error;
    }

    fn record_failure(&mut self, error: Error, now: Instant) {
        self.failed_after = self.attempted_at.take().map_or(Duration::ZERO, |at| now - at).min(MAX_REFUSAL);
        (self.delay, self.failure) = (None, Some(error));
    }
}

impl IdlePolls {
    /// Takes over an idle poll with the same parameters as `poll`, for a receive that waits until `deadline`.
    pub(super) fn claim(&self, poll: &Poll, deadline: Instant) -> Option<Arc<RunningPoll>> {
        let mut idle = self.0.lock();
        idle.retain(|running| !running.has_ended());
        let at = idle.iter().position(|running| {
            running.poll.max_messages == poll.max_messages && running.poll.invisible == poll.invisible
        })?;
        let running = idle.remove(at);
        // The poll must not give up while the receive still waits.
        let mut until = running.deadline.lock();
        *until = deadline.max(*until);
        drop(until);
        Some(running)
    }

    /// Marks a poll as idle, because its receive has returned or was cancelled.
    pub(super) fn release(&self, running: Arc<RunningPoll>) {
        if running.has_ended() {
            return;
        }
        let mut idle = self.0.lock();
        idle.push(running);
        if idle.len() > MAX_IDLE {
            idle.remove(0).stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_poll_that_is_taken_over_lasts_as_long_as_the_receive() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let poll = Poll { max_messages: 1, invisible: second, wait: second };
        let idle = IdlePolls::default();
        idle.release(Arc::new(RunningPoll::new(poll, now, CancellationToken::new())));
        let running = idle.claim(&poll, now + second).unwrap();
        assert_eq!(running.deadline(), now + second);
        idle.release(running);
        assert_eq!(idle.claim(&poll, now).unwrap().deadline(), now + second);
    }

    #[test]
    fn a_failure_counts_until_the_server_waits_for_messages() {
        let error = |message: &str| Error::new(ErrorKind::Unavailable, "receive", message);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut progress = PollProgress::default();
        let message =
            |progress: &PollProgress, now| progress.error(now).map(|error| error.message().to_owned());
        progress.report_delay(Some(error("no connection")), start);
        assert_eq!(message(&progress, start).as_deref(), Some("no connection"));
        progress.report_delay(None, start);
        assert_eq!(message(&progress, start), None);
        progress.record_failure(error("no broker"), after(3));
        // The next attempt is in flight.
        progress.report_delay(None, after(4));
        assert_eq!(message(&progress, after(8)).as_deref(), Some("no broker"));
        assert_eq!(message(&progress, after(9)), None);
        progress.record_failure(error("no broker again"), after(10));
        assert_eq!(message(&progress, after(10)).as_deref(), Some("no broker again"));
    }
}
