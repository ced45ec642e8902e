//! Where polls of one topic from one broker run.

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

/// Polls that nobody waits for; beyond that many, the oldest is given up.
const MOST_IDLE: usize = 16;

/// One topic at one broker.
pub(super) struct Poller {
    source: Arc<Source>,
    broker: Arc<str>,
    state: Mutex<State>,
}

struct State {
    /// Polls that run without a receive that waits for them.
    idle: Vec<Arc<Running>>,
    /// Ids of attempts whose answer never came: the server may hold messages for them.
    open_attempts: Vec<String>,
    turn: usize,
    trouble: Option<Trouble>,
}

/// A row of failures, through which attempts keep their distance.
struct Trouble {
    backoff: Backoff,
    next: Instant,
}

/// A poll that was started.
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
        let state = State { idle: Vec::new(), open_attempts: Vec::new(), turn, trouble: None };
        Self { source, broker, state: Mutex::new(state) }
    }

    /// A running poll that asks for the same and that nobody waits for.
    pub(super) fn claim(&self, poll: &Poll) -> Option<Arc<Running>> {
        let idle = &mut self.state.lock().idle;
        idle.retain(|running| !running.has_ended());
        let at = idle.iter().position(|running| {
            running.poll.max_messages == poll.max_messages && running.poll.invisible == poll.invisible
        })?;
        Some(idle.remove(at))
    }

    /// Takes back a poll whose receive is over.
    pub(super) fn hand_back(&self, running: Arc<Running>) {
        if running.has_ended() {
            return;
        }
        let idle = &mut self.state.lock().idle;
        idle.push(running);
        if idle.len() > MOST_IDLE {
            idle.remove(0).stop.cancel();
        }
    }

    /// Polls until there is an answer, or an error that lasts as long as the wait.
    pub(super) async fn poll(&self, polls: &Polls, running: &Running) -> Result<Vec<Delivery>> {
        let give_up = crate::options::deadline(Instant::now(), running.poll.wait);
        let mut attempt = self.open_attempt();
        loop {
            let error = match self.attempt(polls, running, &attempt).await {
                Ok(deliveries) => {
                    self.state.lock().trouble = None;
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
            running.troubled(Some(error));
            polls.prefetched.announce();
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, polls: &Polls, running: &Running, id: &str) -> Result<Vec<Delivery>> {
        let (session, poll) = (&polls.session, running.poll);
        let limit = poll.wait.saturating_add(session.options().request_timeout);
        let turn_in_trouble = self.turn_in_trouble();
        if let Some(turn) = turn_in_trouble {
            tokio::time::sleep_until(turn.into()).await;
        }
        let deadline = crate::options::deadline(Instant::now(), limit);
        let route = polls.routes.get(&self.source.topic, deadline).await?;
        let turn = self.next_turn();
        // A broker that left the route has nothing for us any more.
        let Some(queue) = route.readable_at(&self.broker, turn) else { return Ok(Vec::new()) };
        let tell = |error| running.troubled(Some(error));
        let link = session.ready_reporting(&queue.endpoints, deadline, tell).await?;
        running.troubled(None);
        let attempt = Attempt { id, poll, source: &self.source, queue };
        let result = self.ask(polls, &link, &attempt).await;
        match &result {
            Err(error) if verdict(error) == Verdict::Replay => {
                let replayed = session.replay(&link, deadline).await.is_ok();
                // At once, unless that didn't help the last time.
                if replayed && turn_in_trouble.is_none() {
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

    /// When the next attempt may go out, if the last one failed.
    fn turn_in_trouble(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let trouble = state.trouble.as_mut()?;
        let turn = trouble.next.max(Instant::now());
        trouble.next = turn + trouble.backoff.next();
        Some(turn)
    }

    /// Counts a failure; returns how long until the next attempt's turn.
    fn after_failure(&self) -> Duration {
        let now = Instant::now();
        let mut state = self.state.lock();
        let trouble = state.trouble.get_or_insert_with(|| {
            let mut backoff = Backoff::for_receiving();
            Trouble { next: now + backoff.next(), backoff }
        });
        trouble.next.saturating_duration_since(now)
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

    /// Notes what keeps the poll from running, or that nothing does any more.
    fn troubled(&self, error: Option<Error>) {
        self.progress.lock().error = error;
    }
}
