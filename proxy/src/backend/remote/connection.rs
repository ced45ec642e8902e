use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
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
use crate::remoting::{Command, CommandCodec};

/// Plain TCP or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How connections are made.
#[derive(Clone)]
pub(super) struct Dialer {
    /// TLS, if the brokers ask for it.
    pub(super) tls: Option<tokio_rustls::TlsConnector>,
    /// How long a connection may take to come up.
    pub(super) connect_timeout: Duration,
    /// Takes what peers ask of us.
    pub(super) asked: mpsc::Sender<Command>,
}

/// One connection to one peer, shared by all calls: requests and answers are paired by number.
pub(super) struct Connection {
    outgoing: mpsc::UnboundedSender<Frame>,
    state: Arc<State>,
}

/// A request's number and bytes.
type Frame = (i32, Bytes);

struct State {
    address: String,
    next: AtomicI32,
    /// Who waits for which answer; `None` when the connection is gone.
    waiting: Mutex<Option<HashMap<i32, oneshot::Sender<Command>>>>,
    /// Bytes that wait to be written.
    queued: AtomicUsize,
    asked: mpsc::Sender<Command>,
    pulse: Mutex<Pulse>,
    /// That the peer is as good as gone.
    gone: CancellationToken,
}

/// What a peer's silence tells.
#[derive(Default)]
struct Pulse {
    /// When something was read last.
    heard: Option<Instant>,
    /// When the first call was made of those that nothing was heard after.
    silent_since: Option<Instant>,
}

/// A peer that takes requests and says nothing for so long is gone: its host is, or it hangs. Shorter than that, it
/// may be collecting garbage.
const SILENCE: Duration = Duration::from_secs(8);
/// The most bytes that wait to be written to a peer that does not read.
const MAX_QUEUED: usize = 64 << 20;
/// How the system finds out that a peer's host is gone: it asks one that is idle, and gives up on bytes that nobody
/// confirms.
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
        let state = Arc::new(State {
            address: address.to_owned(),
            next: AtomicI32::new(0),
            waiting: Mutex::new(Some(HashMap::new())),
            queued: AtomicUsize::new(0),
            asked: dialer.asked.clone(),
            pulse: Mutex::default(),
            gone: CancellationToken::new(),
        });
        tokio::spawn(run(read, write, frames, state.clone()));
        Ok(Self { outgoing, state })
    }

    /// Whether calls still have a chance.
    pub(super) fn is_open(&self) -> bool {
        self.state.waiting.lock().is_some()
    }

    /// Sends a request and waits for its answer. Giving up the wait leaves no trace; what was not written by then is
    /// not written any more.
    ///
    /// The frame is made here: one that can't be made fails this call, and not the connection of all others.
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
        let _forget = Forget { state: &self.state, opaque };
        let begin = Instant::now();
        self.outgoing.send((opaque, frame.freeze())).map_err(|_| self.lost(false))?;
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
        let answered = self.state.pulse.lock().heard.is_some();
        CallError::Lost { address: self.state.address.clone(), answered, sent }
    }
}

impl State {
    /// Makes room for a frame.
    fn admit(&self, bytes: usize) -> Result<(), CallError> {
        let before = self.queued.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before.saturating_add(bytes) > MAX_QUEUED {
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            return Err(CallError::Backlog { address: self.address.clone() });
        }
        Ok(())
    }

    /// Puts a frame into the buffer, unless nobody waits for its answer any more: a peer that was asleep must not do
    /// what was given up long ago.
    fn put(&self, (opaque, frame): Frame, buffer: &mut BytesMut) {
        self.queued.fetch_sub(frame.len(), Ordering::Relaxed);
        if self.waiting.lock().as_ref().is_some_and(|waiting| waiting.contains_key(&opaque)) {
            buffer.extend_from_slice(&frame);
        }
    }

    fn heard(&self) {
        *self.pulse.lock() = Pulse { heard: Some(Instant::now()), silent_since: None };
    }

    /// Notes that a call made then brought nothing. A connection on which nothing comes for long is given up.
    fn unanswered(&self, begin: Instant) {
        let mut pulse = self.pulse.lock();
        if pulse.heard.is_some_and(|heard| heard >= begin) {
            return;
        }
        if pulse.silent_since.get_or_insert(begin).elapsed() >= SILENCE {
            self.gone.cancel();
        }
    }
}

/// Takes a caller off the list, answered or not.
struct Forget<'a> {
    state: &'a State,
    opaque: i32,
}

impl Drop for Forget<'_> {
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

/// Reads and writes until one of them fails, the peer closes or is gone, or nobody holds the connection any more.
async fn run(
    read: ReadHalf<Half>,
    write: WriteHalf<Half>,
    frames: mpsc::UnboundedReceiver<Frame>,
    state: Arc<State>,
) {
    let ended = tokio::select! {
        ended = read_all(read, &state) => ended,
        ended = write_all(write, frames, &state) => ended,
        () = state.gone.cancelled() => Err(io::Error::other("the peer says nothing any more")),
    };
    if let Err(error) = ended {
        tracing::debug!(address = state.address, %error, "connection lost");
    }
    // Dropping the senders tells every caller that waits.
    state.waiting.lock().take();
}

async fn read_all(mut read: ReadHalf<Half>, state: &State) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    loop {
        if read.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        state.heard();
        while let Some(command) = CommandCodec.decode(&mut buffer).map_err(io::Error::other)? {
            if !command.is_response() {
                // Brokers wait for no answer to what they ask of clients, and ask again what was not heard.
                let _ = state.asked.try_send(command);
                continue;
            }
            let waiting = state.waiting.lock().as_mut().and_then(|waiting| waiting.remove(&command.opaque));
            if let Some(answer) = waiting {
                // Nobody listens any more: the caller gave up in this very moment.
                let _ = answer.send(command);
            }
        }
    }
}

async fn write_all(
    mut write: WriteHalf<Half>,
    mut frames: mpsc::UnboundedReceiver<Frame>,
    state: &State,
) -> io::Result<()> {
    const ENOUGH_FOR_ONE_WRITE: usize = 256 * 1024;
    let mut buffer = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        state.put(frame, &mut buffer);
        // What queued up meanwhile goes out with the same system call.
        while buffer.len() < ENOUGH_FOR_ONE_WRITE {
            let Ok(frame) = frames.try_recv() else { break };
            state.put(frame, &mut buffer);
        }
        write.write_all_buf(&mut buffer).await?;
    }
    write.shutdown().await
}
