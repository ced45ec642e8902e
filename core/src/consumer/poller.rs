//! Sends the long polls for one topic to one broker, and spaces them out when they fail or return early.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    error::{Error, Result},
    interceptor::ReceiveInfo,
    message::Delivery,
    route::Routes,
    rpc::{Backoff, Channel, ReceiveEnd, RetryDecision, new_id, retry_decision},
    session::Session,
    wire::{Attempt, Poll, Source, build_receive, process_receive},
};

/// Servers clamp the duration of a poll to this range.
pub(crate) const SHORTEST_POLL: Duration = Duration::from_secs(5);
pub(crate) const LONGEST_POLL: Duration = Duration::from_secs(20);

/// A server that returns no message within less than this time did not wait for one.
const EARLY_ANSWER: Duration = Duration::from_secs(1);

/// Polls one topic at one broker. Several polls may run concurrently.
pub(crate) struct Poller {
    session: Arc<Session>,
    routes: Arc<Routes>,
    source: Arc<Source>,
    broker: Arc<str>,
    state: Mutex<PollerState>,
    /// Notified when a server has answered, so that polls that wait because of earlier failures continue.
    answered: Notify,
}

struct PollerState {
    /// Ids of attempts that got no answer. The server may hold messages for them, so later attempts reuse the ids.
    open_attempts: Vec<String>,
    /// Counts polls, to choose the queues by round robin.
    queue_counter: usize,
    /// Set after a failure, until a poll succeeds.
    failures: Option<Pace>,
    /// The latest failure. Set as long as `failures`.
    last_failure: Option<Error>,
    /// Set after an early answer without a message, until a poll waits or returns a message.
    early_answers: Option<Pace>,
}

/// Spaces polls out, with growing intervals.
struct Pace {
    backoff: Backoff,
    next: Instant,
}

impl Pace {
    fn new(mut backoff: Backoff, now: Instant) -> Self {
        Self { next: now + backoff.next(), backoff }
    }

    /// Starts a poll if one may start now. Otherwise returns when to try again.
    ///
    /// No time is reserved for a poll that waits, because it may be cancelled.
    fn try_start(&mut self, now: Instant) -> std::result::Result<(), Instant> {
        if self.next > now {
            return Err(self.next);
        }
        self.next = now + self.backoff.next();
        Ok(())
    }
}

/// What one poll requests, and when it stops.
struct PollRequest<'a, F> {
    poll: Poll,
    id: &'a str,
    stopped: Pin<&'a mut F>,
}

/// The id of an attempt. Dropping it leaves the id to a later attempt, unless the server has answered.
struct AttemptId<'a> {
    poller: &'a Poller,
    id: String,
}

impl Poller {
    pub(crate) fn new(
        session: Arc<Session>,
        routes: Arc<Routes>,
        source: Arc<Source>,
        broker: Arc<str>,
    ) -> Self {
        let queue_counter = rand::random::<u16>().into();
        let state = Mutex::new(PollerState {
            open_attempts: Vec::new(),
            queue_counter,
            failures: None,
            last_failure: None,
            early_answers: None,
        });
        Self { session, routes, source, broker, state, answered: Notify::new() }
    }

    /// Polls once. After a failure, or an early answer without a message, it first waits, so that a failing broker gets
    /// at most five requests a second.
    ///
    /// Calls `report` with each error that delays the poll, such as that of an earlier poll, and with `None` when the
    /// server is ready. Returns an empty list if the broker is no longer in the route.
    ///
    /// Once `stopped` is ready, returns the messages that have arrived. If there are none, it never returns: the caller
    /// polls this future first, then sees that it is stopped itself, and drops it.
    pub(crate) async fn poll(
        &self,
        poll: Poll,
        report: impl Fn(Option<Error>),
        stopped: impl Future<Output = ()> + Send,
    ) -> Result<Vec<Delivery>> {
        let attempt = self.open_attempt();
        self.wait_to_start(|state| &mut state.early_answers).await;
        let mut stopped = pin!(stopped);
        // No request is sent for a poll that is stopped already.
        if (&mut stopped).now_or_never().is_some() {
            return std::future::pending().await;
        }
        let start = Instant::now();
        let request = PollRequest { poll, id: &attempt.id, stopped };
        let result = match self.attempt(request, report).await {
            Ok(Some(deliveries)) => Ok(deliveries),
            Ok(None) => std::future::pending().await,
            Err(error) => Err(error),
        };
        match &result {
            Ok(deliveries) => {
                attempt.discard();
                let now = Instant::now();
                self.state.lock().record_answer(deliveries.is_empty() && now < start + EARLY_ANSWER, now);
                self.answered.notify_waiters();
            }
            Err(error) => {
                self.session.metrics().count_failure("receive", error.kind());
                self.count_failure(error);
                self.routes.refresh(&self.source.topic);
            }
        }
        result
    }

    /// How long the next poll waits because of earlier failures.
    pub(crate) fn pause(&self) -> Duration {
        let state = self.state.lock();
        let next = state.failures.as_ref().map(|failures| failures.next);
        next.map_or(Duration::ZERO, |next| next.saturating_duration_since(Instant::now()))
    }

    async fn attempt(
        &self,
        request: PollRequest<'_, impl Future<Output = ()> + Send>,
        report: impl Fn(Option<Error>),
    ) -> Result<Option<Vec<Delivery>>> {
        let PollRequest { poll, id, mut stopped } = request;
        let session = &self.session;
        let last_failure = self.state.lock().last_failure.clone();
        if last_failure.is_some() {
            report(last_failure);
        }
        let after_failure = self.wait_to_start(|state| &mut state.failures).await;
        let limit = poll.wait.saturating_add(session.options().request_timeout);
        let deadline = crate::options::deadline(Instant::now(), limit);
        let route = self.routes.get(&self.source.topic, deadline).await?;
        let Some(queue) = route.readable_at(&self.broker, self.next_queue()) else {
            return Ok(Some(Vec::new()));
        };
        let channel =
            session.ready_reporting(&queue.endpoints, deadline, |error| report(Some(error))).await?;
        report(None);
        let attempt = Attempt { id, poll, source: &self.source, queue };
        let result = self.receive(&channel, &attempt, stopped.as_mut()).await;
        match &result {
            Err(error) if retry_decision(error) == RetryDecision::Replay => {
                let replayed = session.replay(&channel, deadline).await.is_ok();
                // Retries at once, unless the previous attempt failed as well.
                if replayed && !after_failure {
                    return self.receive(&channel, &attempt, stopped).await;
                }
            }
            _ => {}
        }
        result
    }

    async fn receive(
        &self,
        channel: &Channel,
        attempt: &Attempt<'_>,
        stopped: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<Option<Vec<Delivery>>> {
        let rpc = self.session.rpc();
        let (group, topic) = (rpc.resource(&*self.source.group.name), rpc.resource(&*self.source.topic));
        let request = build_receive(group, topic, attempt);
        let limit = attempt.poll.wait.saturating_add(self.session.options().request_timeout);
        let Source { group, topic, .. } = &*self.source;
        let info = ReceiveInfo { group: &group.name, topic, max_messages: attempt.poll.max_messages };
        self.session.interceptors().before_receive(&info);
        let answer = match rpc.receive(channel, request, ReceiveEnd { limit, stopped }).await {
            Ok(None) => return Ok(None),
            Ok(Some(answer)) => Ok(answer),
            Err(error) => Err(error),
        };
        let delivered_at = answer.as_ref().ok().and_then(|(_, received)| received.delivered_at);
        let result = answer.and_then(|(call, received)| process_receive(&call, received, attempt));
        self.session.record_receive(&info, delivered_at, result.as_deref());
        result.map(Some)
    }

    fn open_attempt(&self) -> AttemptId<'_> {
        let open = self.state.lock().open_attempts.pop();
        AttemptId { poller: self, id: open.unwrap_or_else(new_id) }
    }

    fn next_queue(&self) -> usize {
        let mut state = self.state.lock();
        state.queue_counter = state.queue_counter.wrapping_add(1);
        state.queue_counter
    }

    /// Waits until this poll may start. Returns whether polls are spaced out.
    async fn wait_to_start(&self, pace: impl Fn(&mut PollerState) -> &mut Option<Pace>) -> bool {
        loop {
            let answered = self.answered.notified();
            let next = match pace(&mut self.state.lock()) {
                None => return false,
                Some(pace) => match pace.try_start(Instant::now()) {
                    Ok(()) => return true,
                    Err(next) => next,
                },
            };
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = answered => {}
            }
        }
    }

    fn count_failure(&self, error: &Error) {
        let mut state = self.state.lock();
        state.failures.get_or_insert_with(|| Pace::new(Backoff::for_receiving(), Instant::now()));
        state.last_failure = Some(error.clone());
    }
}

impl PollerState {
    /// Records an answer. `early` is whether the server returned no message without waiting for one.
    fn record_answer(&mut self, early: bool, now: Instant) {
        (self.failures, self.last_failure) = (None, None);
        if !early {
            self.early_answers = None;
        } else if self.early_answers.is_none() {
            self.early_answers = Some(Pace::new(Backoff::for_early_answers(), now));
        }
    }
}

impl AttemptId<'_> {
    /// Discards the id, because the server has answered.
    fn discard(mut self) {
        self.id.clear();
    }
}

impl Drop for AttemptId<'_> {
    fn drop(&mut self) {
        if !self.id.is_empty() {
            let id = std::mem::take(&mut self.id);
            self.poller.state.lock().open_attempts.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_kept_apart_while_answers_come_early() {
        let mut state = PollerState {
            open_attempts: Vec::new(),
            queue_counter: 0,
            failures: None,
            last_failure: None,
            early_answers: None,
        };
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            state.record_answer(true, now);
            let pace = state.early_answers.as_mut().unwrap();
            if let Err(next) = pace.try_start(now) {
                now = next;
                pace.try_start(now).unwrap();
            }
        }
        assert!(now - start > Duration::from_secs(20));
        state.record_answer(false, now);
        assert!(state.early_answers.is_none());
    }

    #[test]
    fn polls_that_wait_do_not_delay_later_ones() {
        let now = Instant::now();
        let mut pace = Pace::new(Backoff::for_receiving(), now);
        let next: Vec<_> = (0..50).map(|_| pace.try_start(now).unwrap_err()).collect();
        assert!(next.iter().all(|it| *it == next[0]));
        assert!(next[0] <= now + Duration::from_secs(2));
        pace.try_start(next[0]).unwrap();
        assert!(pace.try_start(next[0]).unwrap_err() <= next[0] + Duration::from_secs(2));
    }
}
