//! The way to a client: answers, and requests to it.

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
use crate::remoting::{Command, CommandCodec, FrameError};

/// Bytes of requests that may wait for a client that does not read.
const MAX_PUSHED: usize = 8 << 20;
/// Requests to a client that may wait for its answers.
const MAX_UNANSWERED: usize = 256;
/// The most bytes and frames that are written together.
const WRITE_BYTES: usize = 64 << 10;
const WRITE_FRAMES: usize = 128;

/// The sending end of a connection.
pub(super) struct Link {
    frames: mpsc::UnboundedSender<Frame>,
    finished: CancellationToken,
    pushed: Arc<AtomicUsize>,
    next: AtomicI32,
    unanswered: Mutex<HashMap<i32, oneshot::Sender<Command>>>,
}

/// The other end: what is to be written.
pub(super) struct Frames {
    queued: mpsc::UnboundedReceiver<Frame>,
    finished: CancellationToken,
}

struct Frame {
    bytes: Bytes,
    _held: Held,
}

/// What is given back when a frame is written, or given up.
enum Held {
    /// An answer's part of the memory for requests and answers.
    Answer(#[expect(dead_code, reason = "given back when dropped")] Charge),
    Push(Arc<AtomicUsize>, usize),
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Self::Push(pushed, bytes) = self {
            pushed.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

/// Why a client did not answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum PushError {
    /// The client reads too slowly.
    #[error("the client reads too slowly")]
    Backlog,
    /// The request is too long, or its code does not fit.
    #[error("the request can't be encoded")]
    Unsendable,
    /// The connection is gone.
    #[error("the client is gone")]
    Gone,
    /// No answer in time.
    #[error("the client did not answer in time")]
    Timeout,
}

impl Link {
    pub(super) fn open() -> (Self, Frames) {
        let (frames, queued) = mpsc::unbounded_channel();
        let finished = CancellationToken::new();
        let link = Self {
            frames,
            finished: finished.clone(),
            pushed: Arc::default(),
            next: AtomicI32::new(0),
            unanswered: Mutex::default(),
        };
        (link, Frames { queued, finished })
    }

    /// Sends an answer. It counts as its request's memory until it is written.
    ///
    /// # Errors
    /// The reason, if it can't be encoded, or there is no memory for it.
    pub(super) fn answer(&self, answer: &Command, mut charge: Charge) -> Result<(), String> {
        let bytes = encode(answer).map_err(|error| error.to_string())?;
        charge.set(bytes.len()).map_err(|exhausted| exhausted.reason().to_owned())?;
        // Nobody waits for it if the connection is gone.
        let _ = self.frames.send(Frame { bytes, _held: Held::Answer(charge) });
        Ok(())
    }

    /// Refuses a request that gets no memory of its own. A client that does not read gets no refusal, either.
    pub(super) fn refuse(&self, answer: &Command) {
        if let Err(error) = self.push(answer) {
            tracing::debug!(%error, "a refusal is not sent");
        }
    }

    /// Has the writer end once everything is written that is queued by now.
    pub(super) fn finish(&self) {
        self.finished.cancel();
    }

    /// Sends a request that is not answered.
    ///
    /// # Errors
    /// `Backlog`, `Unsendable`, `Gone`.
    pub(super) fn notify(&self, mut request: Command) -> Result<(), PushError> {
        request.opaque = self.next.fetch_add(1, Ordering::Relaxed);
        self.push(&request.one_way())
    }

    /// Sends a request, and waits for its answer.
    ///
    /// # Errors
    /// [`PushError`].
    pub(super) async fn call(&self, mut request: Command, within: Duration) -> Result<Command, PushError> {
        let (answer, answered) = oneshot::channel();
        request.opaque = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut unanswered = self.unanswered.lock();
            if unanswered.len() >= MAX_UNANSWERED {
                return Err(PushError::Backlog);
            }
            unanswered.insert(request.opaque, answer);
        }
        let waiting = Unanswered { link: self, opaque: request.opaque };
        self.push(&request)?;
        let answered = timeout(within, answered).await;
        drop(waiting);
        answered.map_err(|_| PushError::Timeout)?.map_err(|_| PushError::Gone)
    }

    /// Takes the client's answer to a request.
    pub(super) fn answered(&self, answer: Command) {
        let waiting = self.unanswered.lock().remove(&answer.opaque);
        if let Some(waiting) = waiting {
            // Fails if the caller gave up just now.
            let _ = waiting.send(answer);
        }
    }

    /// Fails the requests that wait for answers: the connection is gone.
    pub(super) fn lost(&self) {
        self.unanswered.lock().clear();
    }

    fn push(&self, request: &Command) -> Result<(), PushError> {
        let bytes = encode(request).map_err(|_| PushError::Unsendable)?;
        let length = bytes.len();
        let before = self.pushed.fetch_add(length, Ordering::Relaxed);
        let held = Held::Push(self.pushed.clone(), length);
        if before > 0 && before.saturating_add(length) > MAX_PUSHED {
            return Err(PushError::Backlog);
        }
        self.frames.send(Frame { bytes, _held: held }).map_err(|_| PushError::Gone)
    }
}

fn encode(command: &Command) -> Result<Bytes, FrameError> {
    let mut frame = BytesMut::new();
    CommandCodec.encode(command, &mut frame)?;
    Ok(frame.freeze())
}

/// A request that waits for its answer.
struct Unanswered<'a> {
    link: &'a Link,
    opaque: i32,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.link.unanswered.lock().remove(&self.opaque);
    }
}

impl Frames {
    /// Writes frames, those that are ready together, until [`Link::finish`], and closes the stream. Fails if the peer accepts
    /// nothing for this long.
    pub(super) async fn write_to(
        mut self,
        mut stream: impl AsyncWrite + Unpin,
        patience: Duration,
    ) -> io::Result<()> {
        let mut frames = Vec::with_capacity(WRITE_FRAMES);
        let mut buffer = BytesMut::new();
        loop {
            tokio::select! {
                biased;
                _ = self.queued.recv_many(&mut frames, WRITE_FRAMES) => {}
                () = self.finished.cancelled() => {}
            }
            if frames.is_empty() {
                return timeout(patience, stream.shutdown()).await.map_err(|_| slow())?;
            }
            // Answers that other requests have ready share the write.
            tokio::task::yield_now().await;
            while frames.len() < WRITE_FRAMES
                && let Ok(frame) = self.queued.try_recv()
            {
                frames.push(frame);
            }
            for frame in frames.drain(..) {
                if buffer.len() + frame.bytes.len() > WRITE_BYTES {
                    write(&mut stream, &buffer, patience).await?;
                    buffer.clear();
                }
                if frame.bytes.len() >= WRITE_BYTES {
                    write(&mut stream, &frame.bytes, patience).await?;
                } else {
                    buffer.extend_from_slice(&frame.bytes);
                }
            }
            write(&mut stream, &buffer, patience).await?;
            buffer.clear();
            timeout(patience, stream.flush()).await.map_err(|_| slow())??;
        }
    }
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    patience: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match timeout(patience, stream.write(bytes)).await.map_err(|_| slow())?? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

fn slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer does not accept answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_finds_its_request_and_a_lost_connection_fails_it() {
        let (link, mut frames) = Link::open();
        let within = Duration::from_secs(60);
        let asking = async {
            let asked = link.call(Command::request(307), within).await;
            asked.expect("an answer").remark
        };
        let answering = async {
            let frame = frames.queued.recv().await.expect("a request");
            // Old clients read no other language of ours.
            assert!(
                frame.bytes.windows(18).any(|bytes| bytes == br#""language":"OTHER""#),
                "{:?}",
                frame.bytes
            );
            link.answered(Command { remark: Some("later".to_owned()), opaque: 7, ..Command::default() });
            link.answered(Command { remark: Some("x".to_owned()), ..Command::default() });
        };
        assert_eq!(tokio::join!(asking, answering).0.as_deref(), Some("x"));
        let (lost, ()) = tokio::join!(link.call(Command::request(307), within), async { link.lost() });
        assert_eq!(lost.expect_err("lost"), PushError::Gone);
        drop(frames);
        assert_eq!(link.notify(Command::request(40)), Err(PushError::Gone));
        assert_eq!(link.pushed.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_client_that_does_not_read_is_sent_no_more() {
        let (link, _frames) = Link::open();
        let push = || link.notify(Command::request(39).body(vec![0; 3 << 20]));
        assert_eq!([push(), push(), push()], [Ok(()), Ok(()), Err(PushError::Backlog)]);
    }
}
