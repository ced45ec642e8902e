//! The polls of one topic at one broker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Polls;
use crate::{
    error::{Error, Result},
    message::Delivery,
    rpc::{Backoff, Link, Verdict, verdict},
    wire::{Attempt, Poll, Source, build_receive, process_receive},
};

/// The maximum number of polls that no receive waits for. Beyond it the oldest is cancelled.
const MAX_IDLE: usize = 16;

/// One topic at one broker.
pub(super) struct Poller {
    source: Arc<Source>,
    broker: Arc<str>,
    state: Mutex<State>,
}

struct State {
    /// Running polls that no receive waits for.
    idle: Vec<Arc<Running>>,
    /// Ids of attempts without an answer. The server may have reserved messages for them.
    open_attempts: Vec<String>,
    turn: usize,
    failures: Option<Failures>,
}

/// Consecutive failures. Attempts are paced until one succeeds.
struct Failures {
    backoff: Backoff,
    next: Instant,
}

/// A started poll.
pub(super) struct Running {
    poll: Poll,
    stop: CancellationToken,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    ended: bool,
    /// Why it ended, or the latest failure while it goes on.
    error: Option<Error>,
}

impl Poller {
    pub(super) fn new(source: Arc<Source>, broker: Arc<str>) -> Self {
        let turn = rand::random::<u16>().into();
        let state = State { idle: Vec::new(), open_attempts: Vec::new(), turn, failures: None };
        Self { source, broker, state: Mutex::new(state) }
    }

    /// Takes an idle poll that asks for the same as `poll`.
    pub(super) fn claim(&self, poll: &Poll) -> Option<Arc<Running>> {
        let idle = &mut self.state.lock().idle;
        idle.retain(|running| !running.has_ended());
        let at = idle.iter().position(|running| {
            running.poll.max_messages == poll.max_messages && running.poll.invisible == poll.invisible
        })?;
        Some(idle.remove(at))
    }

    /// Makes a poll idle, because its receive is over.
    pub(super) fn release(&self, running: Arc<Running>) {
        if running.has_ended() {
            return;
        }
        let idle = &mut self.state.lock().idle;
        idle.push(running);
        if idle.len() > MAX_IDLE {
            idle.remove(0).stop.cancel();
        }
    }

    /// Polls until there is an answer, or a failure that is permanent or lasts as long as the wait.
    pub(super) async fn poll(&self, polls: &Polls, running: &Running) -> Result<Vec<Delivery>> {
        let give_up = crate::options::deadline(Instant::now(), running.poll.wait);
        let mut attempt = self.open_attempt();
        loop {
            let error = match self.attempt(polls, running, &attempt).await {
                Ok(deliveries) => {
                    self.state.lock().failures = None;
                    return Ok(deliveries);
                }
                Err(error) => error,
            };
            let pause = self.after_failure();
            polls.routes.suspect(&self.source.topic);
            if verdict(&error) == Verdict::Fail || Instant::now() + pause >= give_up {
                self.state.lock().open_attempts.push(std::mem::take(&mut attempt));
                return Err(error);
            }
            running.set_error(Some(error));
            polls.prefetched.announce();
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, polls: &Polls, running: &Running, id: &str) -> Result<Vec<Delivery>> {
        let (session, poll) = (&polls.session, running.poll);
        let limit = poll.wait.saturating_add(session.options().request_timeout);
        let paced_until = self.paced_until();
        if let Some(time) = paced_until {
            tokio::time::sleep_until(time.into()).await;
        }
        let deadline = crate::options::deadline(Instant::now(), limit);
        let route = polls.routes.get(&self.source.topic, deadline).await?;
        let turn = self.next_turn();
        // The broker is no longer in the route.
        let Some(queue) = route.readable_at(&self.broker, turn) else { return Ok(Vec::new()) };
        let report = |error| running.set_error(Some(error));
        let link = session.ready_reporting(&queue.endpoints, deadline, report).await?;
        running.set_error(None);
        let attempt = Attempt { id, poll, source: &self.source, queue };
        let result = self.ask(polls, &link, &attempt).await;
        match &result {
            Err(error) if verdict(error) == Verdict::Replay => {
                let replayed = session.replay(&link, deadline).await.is_ok();
                // Repeated at once, unless the attempt before failed as well.
                if replayed && paced_until.is_none() {
                    return self.ask(polls, &link, &attempt).await;
                }
            }
            _ => {}
        }
        result
    }

    async fn ask(&self, polls: &Polls, link: &Link, attempt: &Attempt<'_>) -> Result<Vec<Delivery>> {
        let (session, rpc) = (&polls.session, polls.session.rpc());
        let (group, topic) = (rpc.resource(&*self.source.group.name), rpc.resource(&*self.source.topic));
        let request = build_receive(group, topic, attempt);
        let limit = attempt.poll.wait.saturating_add(session.options().request_timeout);
        let (origin, received) = rpc.receive(link, request, limit).await?;
        process_receive(&origin, received, attempt)
    }

    fn open_attempt(&self) -> String {
        self.state.lock().open_attempts.pop().unwrap_or_else(|| Uuid::new_v4().to_string())
    }

    fn next_turn(&self) -> usize {
        let mut state = self.state.lock();
        state.turn = state.turn.wrapping_add(1);
        state.turn
    }

    /// When the next attempt may start, if the last one failed.
    fn paced_until(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let failures = state.failures.as_mut()?;
        let start = failures.next.max(Instant::now());
        failures.next = start + failures.backoff.next();
        Some(start)
    }

    /// Counts a failure. Returns the pause before the next attempt.
    fn after_failure(&self) -> Duration {
        let now = Instant::now();
        let mut state = self.state.lock();
        let failures = state.failures.get_or_insert_with(|| {
            let mut backoff = Backoff::for_receiving();
            Failures { next: now + backoff.next(), backoff }
        });
        failures.next.saturating_duration_since(now)
    }
}

impl Running {
    pub(super) fn new(poll: Poll, stop: CancellationToken) -> Self {
        Self { poll, stop, progress: Mutex::default() }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.progress.lock().ended
    }

    pub(super) fn error(&self) -> Option<Error> {
        self.progress.lock().error.clone()
    }

    pub(super) fn end(&self, error: Option<Error>) {
        *self.progress.lock() = Progress { ended: true, error };
    }

    /// Sets the latest failure, or clears it.
    fn set_error(&self, error: Option<Error>) {
        self.progress.lock().error = error;
    }
}
