use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::codec::{Decoder, Encoder};
use tokio_util::sync::CancellationToken;

use super::error::CallError;
use super::incoming::IncomingSender;
use crate::remoting::{Command, CommandCodec, HeaderType};

/// Plain TCP or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How connections are made.
#[derive(Clone)]
pub(super) struct Dialer {
    /// TLS, if the brokers ask for it.
    pub(super) tls: Option<tokio_rustls::TlsConnector>,
    /// How long connecting may take.
    pub(super) connect_timeout: Duration,
    /// Takes the requests that peers make.
    pub(super) incoming: IncomingSender,
}

/// One connection to one peer, shared by all calls. Answers are matched to requests by number.
pub(super) struct Connection {
    outgoing: mpsc::UnboundedSender<Frame>,
    state: Arc<ConnectionState>,
}

/// A request or an answer, encoded.
struct Frame {
    /// The number of a request; `None` for an answer to the peer.
    opaque: Option<i32>,
    bytes: Bytes,
}

/// The way back to a peer that has made a request.
pub(super) struct Answerer {
    outgoing: mpsc::WeakUnboundedSender<Frame>,
    state: Weak<ConnectionState>,
    opaque: i32,
    header_type: HeaderType,
}

struct ConnectionState {
    address: String,
    next: AtomicI32,
    /// The callers that wait for answers; `None` once the connection is gone.
    waiting: Mutex<Option<HashMap<i32, oneshot::Sender<Command>>>>,
    /// Bytes that are queued to be written.
    queued: AtomicUsize,
    incoming: IncomingSender,
    liveness: Mutex<Liveness>,
    /// Cancelled when the peer is taken for dead.
    gone: CancellationToken,
}

/// When a peer was last heard of.
#[derive(Default)]
struct Liveness {
    /// When something was read last.
    heard: Option<Instant>,
    /// The start of the first call since then that got no answer.
    silent_since: Option<Instant>,
}

/// A peer that answers nothing for this long is taken for dead: its host is down, or it hangs. A shorter silence may be
/// a garbage collection.
const SILENCE: Duration = Duration::from_secs(8);
/// Bytes that may be queued for a peer that does not read.
const MAX_QUEUED: usize = 64 << 20;
/// TCP keepalive of idle connections, and how long sent bytes may stay unacknowledged.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);
#[cfg(target_os = "linux")]
const UNCONFIRMED: Duration = Duration::from_secs(20);

impl Connection {
    pub(super) async fn open(address: &str, dialer: &Dialer) -> Result<Self, CallError> {
        let stream = timeout(dialer.connect_timeout, dial(address, dialer))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| CallError::Connect { address: address.to_owned(), reason: error.to_string() })?;
        let (read, write) = tokio::io::split(stream);
        let (outgoing, frames) = mpsc::unbounded_channel();
        let state = Arc::new(ConnectionState {
            address: address.to_owned(),
            next: AtomicI32::new(0),
            waiting: Mutex::new(Some(HashMap::new())),
            queued: AtomicUsize::new(0),
            incoming: dialer.incoming.clone(),
            liveness: Mutex::default(),
            gone: CancellationToken::new(),
        });
        tokio::spawn(run(read, write, (outgoing.downgrade(), frames), state.clone()));
        Ok(Self { outgoing, state })
    }

    /// Whether calls can still succeed.
    pub(super) fn is_open(&self) -> bool {
        self.state.waiting.lock().is_some()
    }

    /// Sends a request and waits for its answer. Cancelling is safe: a request that was not written by then is dropped.
    ///
    /// The request is encoded here, so that one that can't be encoded fails this call, and not the connection.
    pub(super) async fn call(&self, command: &mut Command, within: Duration) -> Result<Command, CallError> {
        let (answer, answered) = oneshot::channel();
        let opaque = self.state.next.fetch_add(1, Ordering::Relaxed);
        command.opaque = opaque;
        let mut frame = BytesMut::new();
        CommandCodec
            .encode(command, &mut frame)
            .map_err(|error| CallError::Unsendable { reason: error.to_string() })?;
        self.state.admit(frame.len())?;
        match self.state.waiting.lock().as_mut() {
            Some(waiting) => waiting.insert(opaque, answer),
            None => return Err(self.lost(false)),
        };
        let _guard = WaitGuard { state: &self.state, opaque };
        let begin = Instant::now();
        self.outgoing
            .send(Frame { opaque: Some(opaque), bytes: frame.freeze() })
            .map_err(|_| self.lost(false))?;
        match timeout(within, answered).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => Err(self.lost(true)),
            Err(_) => {
                self.state.unanswered(begin);
                Err(CallError::Timeout { address: self.state.address.clone(), within })
            }
        }
    }

    fn lost(&self, sent: bool) -> CallError {
        let answered = self.state.liveness.lock().heard.is_some();
        CallError::Lost { address: self.state.address.clone(), answered, sent }
    }
}

impl Answerer {
    /// Answers, unless the connection is gone or its peer does not read.
    pub(super) fn answer(self, answer: Command) {
        let (Some(outgoing), Some(state)) = (self.outgoing.upgrade(), self.state.upgrade()) else { return };
        let answer = Command { opaque: self.opaque, header_type: self.header_type, ..answer };
        let mut frame = BytesMut::new();
        if CommandCodec.encode(&answer, &mut frame).is_ok() && state.admit(frame.len()).is_ok() {
            // Fails only if the connection is gone.
            let _ = outgoing.send(Frame { opaque: None, bytes: frame.freeze() });
        }
    }

    #[cfg(test)]
    pub(super) fn of_nobody() -> Self {
        let (outgoing, _) = mpsc::unbounded_channel();
        let (outgoing, state) = (outgoing.downgrade(), Weak::new());
        Self { outgoing, state, opaque: 0, header_type: HeaderType::default() }
    }
}

impl ConnectionState {
    /// Reserves room for a frame.
    fn admit(&self, bytes: usize) -> Result<(), CallError> {
        let before = self.queued.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before.saturating_add(bytes) > MAX_QUEUED {
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            return Err(CallError::Backlog { address: self.address.clone() });
        }
        Ok(())
    }

    /// Puts a frame into the buffer, unless its caller has given up: a peer that was stalled must not carry out
    /// requests that were given up long ago.
    fn put(&self, frame: &Frame, buffer: &mut BytesMut) {
        self.queued.fetch_sub(frame.bytes.len(), Ordering::Relaxed);
        let is_wanted =
            |opaque| self.waiting.lock().as_ref().is_some_and(|waiting| waiting.contains_key(&opaque));
        if frame.opaque.is_none_or(is_wanted) {
            buffer.extend_from_slice(&frame.bytes);
        }
    }

    fn heard(&self) {
        *self.liveness.lock() = Liveness { heard: Some(Instant::now()), silent_since: None };
    }

    /// Notes that a call that began then got no answer. After a long silence the connection is closed.
    fn unanswered(&self, begin: Instant) {
        let mut liveness = self.liveness.lock();
        if liveness.heard.is_some_and(|heard| heard >= begin) {
            return;
        }
        if liveness.silent_since.get_or_insert(begin).elapsed() >= SILENCE {
            self.gone.cancel();
        }
    }
}

/// Removes a caller from those that wait, answered or not.
struct WaitGuard<'a> {
    state: &'a ConnectionState,
    opaque: i32,
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.state.waiting.lock().as_mut() {
            waiting.remove(&self.opaque);
        }
    }
}

async fn dial(address: &str, dialer: &Dialer) -> io::Result<Pin<Box<dyn Stream>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNCONFIRMED))?;
    let Some(tls) = &dialer.tls else {
        return Ok(Box::pin(stream));
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']).to_owned();
    let name = host.try_into().map_err(|_| io::Error::other("not a host name or an address"))?;
    Ok(Box::pin(tls.connect(name, stream).await?))
}

type Half = Pin<Box<dyn Stream>>;

/// Reads and writes until one of them fails, the peer closes or is taken for dead, or the connection is dropped.
async fn run(
    read: ReadHalf<Half>,
    write: WriteHalf<Half>,
    (outgoing, frames): (mpsc::WeakUnboundedSender<Frame>, mpsc::UnboundedReceiver<Frame>),
    state: Arc<ConnectionState>,
) {
    let ended = tokio::select! {
        ended = read_all(read, &outgoing, &state) => ended,
        ended = write_all(write, frames, &state) => ended,
        () = state.gone.cancelled() => Err(io::Error::other("the peer does not answer any more")),
    };
    if let Err(error) = ended {
        tracing::debug!(address = state.address, %error, "connection lost");
    }
    // Dropping the senders fails every call that waits.
    state.waiting.lock().take();
}

async fn read_all(
    mut read: ReadHalf<Half>,
    outgoing: &mpsc::WeakUnboundedSender<Frame>,
    state: &Arc<ConnectionState>,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    loop {
        if read.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        state.heard();
        while let Some(command) = CommandCodec.decode(&mut buffer).map_err(io::Error::other)? {
            if !command.is_response() {
                let answerer = Answerer {
                    outgoing: outgoing.clone(),
                    state: Arc::downgrade(state),
                    opaque: command.opaque,
                    header_type: command.header_type,
                };
                state.incoming.offer(command, answerer);
                continue;
            }
            let waiting = state.waiting.lock().as_mut().and_then(|waiting| waiting.remove(&command.opaque));
            if let Some(answer) = waiting {
                // Fails if the caller gave up just now.
                let _ = answer.send(command);
            }
        }
    }
}

async fn write_all(
    mut write: WriteHalf<Half>,
    mut frames: mpsc::UnboundedReceiver<Frame>,
    state: &ConnectionState,
) -> io::Result<()> {
    const WRITE_SIZE: usize = 256 * 1024;
    let mut buffer = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        state.put(&frame, &mut buffer);
        // Frames that queued up meanwhile are written by the same system call.
        while buffer.len() < WRITE_SIZE {
            let Ok(frame) = frames.try_recv() else { break };
            state.put(&frame, &mut buffer);
        }
        write.write_all_buf(&mut buffer).await?;
    }
    write.shutdown().await
}
