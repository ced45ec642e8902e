//! What the tasks and calls of a connection share: the calls in flight, the queue of frames, and whether the peer answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::error::CallError;
use crate::remoting::RemotingCommand;

/// An encoded request or response.
pub(super) struct Frame {
    /// The number of a request; `None` for a response to the peer.
    pub(super) opaque: Option<i32>,
    pub(super) bytes: Bytes,
}

pub(super) struct ConnectionState {
    pub(super) address: String,
    /// The number of the next request.
    pub(super) next: AtomicI32,
    /// The calls that wait for a response; `None` once the connection is closed.
    pub(super) waiting: Mutex<Option<HashMap<i32, oneshot::Sender<RemotingCommand>>>>,
    /// Bytes that are queued to be written.
    pub(super) queued_bytes: AtomicUsize,
    pub(super) liveness: Mutex<Liveness>,
    /// Cancelled when the peer is considered dead.
    pub(super) dead: CancellationToken,
}

/// The last sign of life of a peer.
#[derive(Default)]
pub(super) struct Liveness {
    /// When something was last read; `None` if nothing was.
    pub(super) last_read: Option<Instant>,
    /// The start of the first call that timed out since `last_read`.
    silent_since: Option<Instant>,
}

/// How long a peer may stay silent before its connection is closed. It is longer than a usual garbage collection.
const MAX_SILENCE: Duration = Duration::from_secs(8);
/// How many bytes may be queued for a peer that does not read. A larger frame is accepted if nothing else is
/// queued.
const MAX_QUEUED_BYTES: usize = 64 << 20;

impl ConnectionState {
    /// The state of a connection that was just opened.
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            next: AtomicI32::new(0),
            waiting: Mutex::new(Some(HashMap::new())),
            queued_bytes: AtomicUsize::new(0),
            liveness: Mutex::default(),
            dead: CancellationToken::new(),
        }
    }

    /// Reserves space in the queue for a frame.
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), CallError> {
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before.saturating_add(bytes) > MAX_QUEUED_BYTES {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(CallError::Backlog { address: self.address.clone() });
        }
        Ok(())
    }

    /// Moves a frame from the queue to the write buffer. Drops it if its call has ended; otherwise a stalled peer
    /// would later execute requests that nobody waits for.
    pub(super) fn dequeue(&self, frame: &Frame, buffer: &mut BytesMut) {
        self.queued_bytes.fetch_sub(frame.bytes.len(), Ordering::Relaxed);
        let is_waiting =
            |opaque| self.waiting.lock().as_ref().is_some_and(|waiting| waiting.contains_key(&opaque));
        if frame.opaque.is_none_or(is_waiting) {
            buffer.extend_from_slice(&frame.bytes);
        }
    }

    /// Records that something was read.
    pub(super) fn record_read(&self) {
        *self.liveness.lock() = Liveness { last_read: Some(Instant::now()), silent_since: None };
    }

    /// Records that the call which began at this time got no answer. Closes the connection after a long silence.
    pub(super) fn call_timed_out(&self, begin: Instant) {
        let mut liveness = self.liveness.lock();
        if liveness.last_read.is_some_and(|last_read| last_read >= begin) {
            return;
        }
        if liveness.silent_since.get_or_insert(begin).elapsed() >= MAX_SILENCE {
            self.dead.cancel();
        }
    }
}
