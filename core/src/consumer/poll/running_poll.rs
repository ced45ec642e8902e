//! A poll that a receive has started, and those that no receive waits for.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::SHORTEST_POLL;
use crate::{error::Error, wire::Poll};

/// The maximum number of polls of one broker that no receive waits for. Beyond it the oldest is cancelled.
const MAX_IDLE: usize = 16;

/// A started poll.
pub(super) struct Running {
    pub(super) poll: Poll,
    /// Until when the receive that started it waits.
    pub(super) deadline: Instant,
    started: Instant,
    stop: CancellationToken,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    ended: bool,
    /// Why it ended, or the latest failure while it goes on.
    error: Option<Error>,
}

/// The running polls of one broker that no receive waits for.
#[derive(Default)]
pub(super) struct Idle(Mutex<Vec<Arc<Running>>>);

impl Running {
    pub(super) fn new(poll: Poll, deadline: Instant, stop: CancellationToken) -> Self {
        Self { poll, deadline, started: Instant::now(), stop, progress: Mutex::default() }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.progress.lock().ended
    }

    /// Whether it has found nothing and another poll may follow it. Polls that a server answers early are not
    /// followed at once: they could become many.
    pub(super) fn may_be_followed(&self) -> bool {
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

impl Idle {
    /// Takes an idle poll that asks for the same as `poll`.
    pub(super) fn claim(&self, poll: &Poll) -> Option<Arc<Running>> {
        let mut idle = self.0.lock();
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
        let mut idle = self.0.lock();
        idle.push(running);
        if idle.len() > MAX_IDLE {
            idle.remove(0).stop.cancel();
        }
    }
}
