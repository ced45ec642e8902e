//! A message to be stored, and where it was stored.

use std::time::Duration;

use super::codec::Encoded;
use super::half_message::HalfMessageId;
use super::timer::TimerKey;

/// A message and its queue.
pub(super) struct NewMessage {
    pub(super) message: Encoded,
    pub(super) queue: u32,
    /// When it may be delivered, in ms; `None` means at once.
    pub(super) due: Option<u64>,
    /// For a half message, the time until its first orphan check. `None` for other messages.
    pub(super) first_check_after: Option<Duration>,
}

/// Where a message was stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum StoredAt {
    /// In its queue.
    Queued {
        /// The queue.
        queue: u32,
        /// Its offset in the queue.
        offset: u64,
    },
    /// Among the delayed messages.
    Delayed {
        /// The queue that it will be moved to.
        queue: u32,
        /// Its timer.
        timer: TimerKey,
    },
    /// Among the half messages.
    Half {
        /// The queue that a commit moves it to.
        queue: u32,
        /// Its coordinates.
        id: HalfMessageId,
    },
}
