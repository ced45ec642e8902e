//! Finds messages whose attempts are exhausted: the lease of their last attempt has expired.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::lease::Coordinates;
use super::progress::{Progress, ProgressState};
use crate::service::DeadLetter;

/// Messages whose attempts are exhausted and that wait to be moved to their dead-letter topic.
#[derive(Default)]
pub(super) struct ExhaustedMessages {
    waiting: Mutex<VecDeque<Waiting>>,
    added: Notify,
    watcher: Mutex<Option<mpsc::Sender<DeadLetter>>>,
}

/// A message whose attempts are exhausted. The reference prevents the progress from being unloaded.
pub(super) struct ExhaustedMessage {
    pub(super) progress: Arc<Progress>,
    pub(super) at: Coordinates,
}

/// An item of the queue that [`super::last_attempts`] handles.
pub(super) enum Waiting {
    /// A message to move.
    Message(ExhaustedMessage),
    /// The progress may have more such messages than were found at once.
    More(Arc<Progress>),
}

/// The most messages of a group in a topic that are found at once. More are looked for once these are moved.
pub(super) const MAX_FOUND: usize = 1024;
/// The capacity of the channel of dead letters.
const MAX_UNREAD: usize = 1024;

impl ExhaustedMessages {
    /// Queues the messages whose last lease has expired since the previous call for this progress.
    pub(super) fn queue_exhausted(&self, progress: &Arc<Progress>, state: &mut ProgressState, now: u64) {
        let max = progress.max_attempts();
        if max == u32::MAX || progress.is_deleted() || state.has_more_exhausted {
            return;
        }
        let from = state.examined_until;
        let (mut found, mut is_cut) = (Vec::new(), false);
        // The current millisecond is examined again next time, because more leases may still expire in it.
        let mut until = now.saturating_sub(1);
        for (queue, leases) in (0..).zip(state.queues().iter().map(|queue| queue.leases())) {
            for (offset, lease) in
                leases.expired_within(from, now).filter(|(_, lease)| lease.is_last_attempt(max))
            {
                if found.len() >= MAX_FOUND {
                    until = until.min(lease.visible_at.saturating_sub(1));
                    is_cut = true;
                    break;
                }
                let (topic, group) = (Some(progress.topic()), Some(progress.group()));
                let at = Coordinates { queue, offset, token: lease.token, topic, group };
                found.push(Waiting::Message(ExhaustedMessage { progress: progress.clone(), at }));
            }
        }
        state.examined_until = until.max(from);
        state.has_more_exhausted = is_cut;
        if is_cut {
            found.push(Waiting::More(progress.clone()));
        }
        if !found.is_empty() {
            self.waiting.lock().extend(found);
            self.added.notify_one();
        }
    }

    /// See [`crate::service::Messages::dead_letters`].
    pub(super) fn watch(&self) -> mpsc::Receiver<DeadLetter> {
        let (watcher, letters) = mpsc::channel(MAX_UNREAD);
        *self.watcher.lock() = Some(watcher);
        letters
    }

    /// Reports a dead letter to the receiver of [`ExhaustedMessages::watch`].
    pub(super) fn moved(&self, letter: DeadLetter) {
        if let Some(watcher) = &*self.watcher.lock() {
            // A receiver that reads too slowly misses dead letters.
            let _ = watcher.try_send(letter);
        }
    }

    /// Puts a message that could not be moved behind the others.
    pub(super) fn put_back(&self, message: ExhaustedMessage) {
        self.waiting.lock().push_back(Waiting::Message(message));
    }

    /// Waits for the next message.
    pub(super) async fn next(&self) -> Waiting {
        loop {
            let added = self.added.notified();
            if let Some(next) = self.waiting.lock().pop_front() {
                return next;
            }
            added.await;
        }
    }
}
