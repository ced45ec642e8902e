//! Sends answers and requests to the client of a connection.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::codec::Encoder;
use tokio_util::sync::CancellationToken;

use crate::front::port::Charge;
use crate::remoting::{CommandCodec, FrameError, RemotingCommand};

/// Bytes of requests and refusals that may be queued for a client that does not read.
const MAX_QUEUED_BYTES: usize = 8 << 20;
/// With more bytes than this queued, a client gets no notification that it can do without.
const BACKLOG_BYTES: usize = 64 << 10;
/// Requests to a client that may wait for its answers.
const MAX_PENDING_CALLS: usize = 256;
/// How many bytes and frames one write has at most.
const MAX_WRITE_BYTES: usize = 64 << 10;
const MAX_WRITE_FRAMES: usize = 128;

/// Queues the frames that are written to a connection, and matches the client's answers with the requests that wait for
/// them.
pub(super) struct ConnectionWriter {
    frames: mpsc::UnboundedSender<Frame>,
    finished: CancellationToken,
    /// Bytes of queued requests and refusals.
    queued_bytes: Arc<AtomicUsize>,
    next_opaque: AtomicI32,
    /// The requests that wait for an answer, by `opaque`.
    pending: Mutex<HashMap<i32, oneshot::Sender<RemotingCommand>>>,
}

/// The receiving end of a [`ConnectionWriter`], which writes the queued frames.
pub(super) struct WriteQueue {
    queued: mpsc::UnboundedReceiver<Frame>,
    finished: CancellationToken,
}

struct Frame {
    bytes: Bytes,
    _charge: FrameCharge,
}

/// The memory that a frame is charged for. Released when the frame is written or dropped.
enum FrameCharge {
    /// An answer is charged to the budget of the connection.
    Answer(#[expect(dead_code, reason = "releases the memory when dropped")] Charge),
    /// A request or refusal of this many bytes is charged to [`ConnectionWriter::queued_bytes`].
    Push(Arc<AtomicUsize>, usize),
}

impl Drop for FrameCharge {
    fn drop(&mut self) {
        if let Self::Push(queued_bytes, bytes) = self {
            queued_bytes.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

/// Why a request to a client has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum PushError {
    /// The client reads too slowly.
    #[error("the client reads too slowly")]
    Backlog,
    /// The request is too long, or its code does not fit into the header.
    #[error("the request can't be encoded")]
    Unsendable,
    /// The connection is closed.
    #[error("the client has disconnected")]
    Disconnected,
    /// The client did not answer in time.
    #[error("the client did not answer in time")]
    Timeout,
}

impl ConnectionWriter {
    pub(super) fn open() -> (Self, WriteQueue) {
        let (frames, queued) = mpsc::unbounded_channel();
        let finished = CancellationToken::new();
        let writer = Self {
            frames,
            finished: finished.clone(),
            queued_bytes: Arc::default(),
            next_opaque: AtomicI32::new(0),
            pending: Mutex::default(),
        };
        (writer, WriteQueue { queued, finished })
    }

    /// Queues an answer. Until it is written, it holds the charge of its request.
    ///
    /// # Errors
    /// The reason, if it can't be encoded, or the budget has no memory for it.
    pub(super) fn answer(&self, answer: &RemotingCommand, mut charge: Charge) -> Result<(), String> {
        let bytes = encode(answer).map_err(|error| error.to_string())?;
        charge.set(bytes.len()).map_err(|exhausted| exhausted.reason().to_owned())?;
        // Fails if the connection is closed. Then nobody waits for the answer.
        let _ = self.frames.send(Frame { bytes, _charge: FrameCharge::Answer(charge) });
        Ok(())
    }

    /// Queues a refusal, which needs no charge. A client that does not read its answers gets none.
    pub(super) fn refuse(&self, answer: &RemotingCommand) {
        if let Err(error) = self.push(answer) {
            tracing::debug!(%error, "failed to send a refusal");
        }
    }

    /// Ends [`WriteQueue::write_to`] as soon as all queued frames are written.
    pub(super) fn finish(&self) {
        self.finished.cancel();
    }

    /// Queues a one-way request.
    ///
    /// # Errors
    /// `Backlog`, `Unsendable`, `Disconnected`.
    pub(super) fn notify(&self, mut request: RemotingCommand) -> Result<(), PushError> {
        request.opaque = self.next_opaque.fetch_add(1, Ordering::Relaxed);
        self.push(&request.one_way())
    }

    /// Whether the client reads so slowly that it should get no notification that it can do without.
    pub(super) fn has_backlog(&self) -> bool {
        self.queued_bytes.load(Ordering::Relaxed) > BACKLOG_BYTES
    }

    /// Sends a request, and waits for its answer.
    ///
    /// # Errors
    /// [`PushError`].
    pub(super) async fn call(
        &self,
        mut request: RemotingCommand,
        within: Duration,
    ) -> Result<RemotingCommand, PushError> {
        let (answer, answered) = oneshot::channel();
        request.opaque = self.next_opaque.fetch_add(1, Ordering::Relaxed);
        {
            let mut pending = self.pending.lock();
            if pending.len() >= MAX_PENDING_CALLS {
                return Err(PushError::Backlog);
            }
            pending.insert(request.opaque, answer);
        }
        let guard = PendingCall { writer: self, opaque: request.opaque };
        self.push(&request)?;
        let answered = timeout(within, answered).await;
        drop(guard);
        answered.map_err(|_| PushError::Timeout)?.map_err(|_| PushError::Disconnected)
    }

    /// Passes the client's answer to the call that waits for it.
    pub(super) fn complete_call(&self, answer: RemotingCommand) {
        let waiting = self.pending.lock().remove(&answer.opaque);
        if let Some(waiting) = waiting {
            // Fails if the caller has just stopped waiting.
            let _ = waiting.send(answer);
        }
    }

    /// Fails all calls that wait for answers, because the connection is closed.
    pub(super) fn fail_pending(&self) {
        self.pending.lock().clear();
    }

    fn push(&self, request: &RemotingCommand) -> Result<(), PushError> {
        let bytes = encode(request).map_err(|_| PushError::Unsendable)?;
        let length = bytes.len();
        let before = self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let charge = FrameCharge::Push(self.queued_bytes.clone(), length);
        if before > 0 && before.saturating_add(length) > MAX_QUEUED_BYTES {
            return Err(PushError::Backlog);
        }
        self.frames.send(Frame { bytes, _charge: charge }).map_err(|_| PushError::Disconnected)
    }
}

fn encode(command: &RemotingCommand) -> Result<Bytes, FrameError> {
    let mut frame = BytesMut::new();
    CommandCodec.encode(command, &mut frame)?;
    Ok(frame.freeze())
}

/// Removes a call from the pending ones when dropped.
struct PendingCall<'a> {
    writer: &'a ConnectionWriter,
    opaque: i32,
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.writer.pending.lock().remove(&self.opaque);
    }
}

impl WriteQueue {
    /// Writes queued frames until [`ConnectionWriter::finish`] is called, and closes the stream. Frames that are ready
    /// at the same time share a write.
    ///
    /// # Errors
    /// `TimedOut` if the peer accepts nothing for `write_timeout`; errors of the stream.
    pub(super) async fn write_to(
        mut self,
        mut stream: impl AsyncWrite + Unpin,
        write_timeout: Duration,
    ) -> io::Result<()> {
        let mut frames = Vec::with_capacity(MAX_WRITE_FRAMES);
        let mut buffer = BytesMut::new();
        loop {
            tokio::select! {
                biased;
                _ = self.queued.recv_many(&mut frames, MAX_WRITE_FRAMES) => {}
                () = self.finished.cancelled() => {}
            }
            if frames.is_empty() {
                return timeout(write_timeout, stream.shutdown()).await.map_err(|_| timed_out())?;
            }
            // Lets other requests queue their answers for the same write.
            tokio::task::yield_now().await;
            while frames.len() < MAX_WRITE_FRAMES
                && let Ok(frame) = self.queued.try_recv()
            {
                frames.push(frame);
            }
            for frame in frames.drain(..) {
                if buffer.len() + frame.bytes.len() > MAX_WRITE_BYTES {
                    write(&mut stream, &buffer, write_timeout).await?;
                    buffer.clear();
                }
                if frame.bytes.len() >= MAX_WRITE_BYTES {
                    write(&mut stream, &frame.bytes, write_timeout).await?;
                } else {
                    buffer.extend_from_slice(&frame.bytes);
                }
            }
            write(&mut stream, &buffer, write_timeout).await?;
            buffer.clear();
            timeout(write_timeout, stream.flush()).await.map_err(|_| timed_out())??;
        }
    }
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    write_timeout: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match timeout(write_timeout, stream.write(bytes)).await.map_err(|_| timed_out())?? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

fn timed_out() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the peer did not read its answers within transport.answer_timeout",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_finds_its_request_and_a_lost_connection_fails_it() {
        let (writer, mut frames) = ConnectionWriter::open();
        let within = Duration::from_secs(60);
        let calling = async {
            let called = writer.call(RemotingCommand::request(307), within).await;
            called.expect("an answer").remark
        };
        let answering = async {
            let frame = frames.queued.recv().await.expect("a request");
            // Old clients can't read the names of newer languages.
            assert!(
                frame.bytes.windows(18).any(|bytes| bytes == br#""language":"OTHER""#),
                "{:?}",
                frame.bytes
            );
            writer.complete_call(RemotingCommand {
                remark: Some("later".to_owned()),
                opaque: 7,
                ..RemotingCommand::default()
            });
            writer.complete_call(RemotingCommand {
                remark: Some("x".to_owned()),
                ..RemotingCommand::default()
            });
        };
        assert_eq!(tokio::join!(calling, answering).0.as_deref(), Some("x"));
        let (lost, ()) =
            tokio::join!(writer.call(RemotingCommand::request(307), within), async { writer.fail_pending() });
        assert_eq!(lost.expect_err("disconnected"), PushError::Disconnected);
        drop(frames);
        assert_eq!(writer.notify(RemotingCommand::request(40)), Err(PushError::Disconnected));
        assert_eq!(writer.queued_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_client_that_does_not_read_is_sent_no_more() {
        let (writer, _frames) = ConnectionWriter::open();
        let push = || writer.notify(RemotingCommand::request(39).body(vec![0; 3 << 20]));
        assert_eq!([push(), push(), push()], [Ok(()), Ok(()), Err(PushError::Backlog)]);
    }
}
