//! Polls that receives have started, and which of them no receive waits for.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{consumer::SHORTEST_POLL, error::Error, wire::Poll};

/// How many polls of one broker may run without a receive that waits for them. Beyond that, the oldest is cancelled.
const MAX_IDLE: usize = 16;

/// A poll that was started, and its result once it has ended.
pub(super) struct RunningPoll {
    pub(super) poll: Poll,
    /// How long the receive that started the poll waits.
    pub(super) deadline: Instant,
    started: Instant,
    pub(super) stop: CancellationToken,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    ended: bool,
    /// Why the poll ended, or its latest failure while it runs.
    error: Option<Error>,
}

/// The running polls of one broker that no receive waits for. A later receive can take them over.
#[derive(Default)]
pub(super) struct IdlePolls(Mutex<Vec<Arc<RunningPoll>>>);

impl RunningPoll {
    pub(super) fn new(poll: Poll, deadline: Instant, stop: CancellationToken) -> Self {
        Self { poll, deadline, started: Instant::now(), stop, progress: Mutex::default() }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.progress.lock().ended
    }

    /// Whether the poll found no message and a receive may start another one. Not after an early answer: a receive
    /// would send one request after the other.
    pub(super) fn may_poll_again(&self) -> bool {
        let progress = self.progress.lock();
        progress.ended && progress.error.is_none() && self.started.elapsed() >= SHORTEST_POLL
    }

    pub(super) fn error(&self) -> Option<Error> {
        self.progress.lock().error.clone()
    }

    pub(super) fn end(&self, error: Option<Error>) {
        *self.progress.lock() = Progress { ended: true, error };
    }

    /// Sets the latest failure, or clears it.
    pub(super) fn set_error(&self, error: Option<Error>) {
        self.progress.lock().error = error;
    }
}

impl IdlePolls {
    /// Takes over an idle poll with the same parameters as `poll`.
    pub(super) fn claim(&self, poll: &Poll) -> Option<Arc<RunningPoll>> {
        let mut idle = self.0.lock();
        idle.retain(|running| !running.has_ended());
        let at = idle.iter().position(|running| {
            running.poll.max_messages == poll.max_messages && running.poll.invisible == poll.invisible
        })?;
        Some(idle.remove(at))
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
