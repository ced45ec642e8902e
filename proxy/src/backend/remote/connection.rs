//! A connection to a name server or a broker, with many concurrent calls.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::codec::{Decoder, Encoder};

use super::connection_state::{ConnectionState, Frame};
use super::error::CallError;
use super::incoming::IncomingSender;
use super::responder::Responder;
use crate::remoting::{CommandCodec, RemotingCommand};

/// Plain TCP or TLS.
pub(super) trait AsyncStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncStream for T {}

/// The settings with which connections are opened.
#[derive(Clone)]
pub(super) struct Dialer {
    /// The TLS settings; `None` for plain TCP.
    pub(super) tls: Option<tokio_rustls::TlsConnector>,
    /// The timeout for connecting.
    pub(super) connect_timeout: Duration,
    /// The queue for requests that peers send to this proxy.
    pub(super) incoming: IncomingSender,
}

/// A connection to one peer, shared by all calls. The number in a response matches it to its request.
pub(super) struct Connection {
    outgoing: mpsc::UnboundedSender<Frame>,
    state: Arc<ConnectionState>,
}

/// The idle time after which TCP keepalive probes are sent, and the interval between them.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT).
#[cfg(target_os = "linux")]
const MAX_UNACKNOWLEDGED: Duration = Duration::from_secs(20);

impl Connection {
    /// Connects to a peer, `host:port`.
    pub(super) async fn open(address: &str, dialer: &Dialer) -> Result<Self, CallError> {
        let stream = timeout(dialer.connect_timeout, dial(address, dialer))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| CallError::Connect { address: address.to_owned(), reason: error.to_string() })?;
        let (outgoing, frames) = mpsc::unbounded_channel();
        let state = Arc::new(ConnectionState::new(address));
        let incoming = PeerRequests { outgoing: outgoing.downgrade(), queue: dialer.incoming.clone() };
        tokio::spawn(run(stream, incoming, frames, state.clone()));
        Ok(Self { outgoing, state })
    }

    /// Whether the connection is open, so that calls can succeed.
    pub(super) fn is_open(&self) -> bool {
        self.state.waiting.lock().is_some()
    }

    /// Sends a request and waits for its answer. Cancelling the call drops the request if it was not written yet.
    ///
    /// The request is encoded here, so that an encoding error fails only this call and not the connection.
    pub(super) async fn call(
        &self,
        command: &mut RemotingCommand,
        within: Duration,
    ) -> Result<RemotingCommand, CallError> {
        let (answer, answered) = oneshot::channel();
        let opaque = self.state.next.fetch_add(1, Ordering::Relaxed);
        command.opaque = opaque;
        let mut frame = BytesMut::new();
        CommandCodec
            .encode(command, &mut frame)
            .map_err(|error| CallError::Unsendable { reason: error.to_string() })?;
        self.state.reserve(frame.len())?;
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
                self.state.call_timed_out(begin);
                Err(CallError::Timeout { address: self.state.address.clone(), within })
            }
        }
    }

    fn lost(&self, sent: bool) -> CallError {
        let answered = self.state.liveness.lock().last_read.is_some();
        CallError::Lost { address: self.state.address.clone(), answered, sent }
    }
}

/// Removes a call from the waiting ones when it ends, with or without an answer.
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

async fn dial(address: &str, dialer: &Dialer) -> io::Result<Pin<Box<dyn AsyncStream>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(MAX_UNACKNOWLEDGED))?;
    let Some(tls) = &dialer.tls else {
        return Ok(Box::pin(stream));
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']).to_owned();
    let name =
        host.try_into().map_err(|_| io::Error::other("the host is neither a name nor an IP address"))?;
    Ok(Box::pin(tls.connect(name, stream).await?))
}

/// Where the peer's requests go, and their answers.
struct PeerRequests {
    queue: IncomingSender,
    outgoing: mpsc::WeakUnboundedSender<Frame>,
}

type BoxedStream = Pin<Box<dyn AsyncStream>>;

/// Reads and writes until reading or writing fails, the peer closes the connection or is considered dead, or the
/// [`Connection`] is dropped.
async fn run(
    stream: BoxedStream,
    incoming: PeerRequests,
    frames: mpsc::UnboundedReceiver<Frame>,
    state: Arc<ConnectionState>,
) {
    let (read, write) = tokio::io::split(stream);
    let ended = tokio::select! {
        ended = read_all(read, &incoming, &state) => ended,
        ended = write_all(write, frames, &state) => ended,
        () = state.dead.cancelled() => Err(io::Error::other("the peer has stopped answering")),
    };
    if let Err(error) = ended {
        tracing::debug!(address = state.address, %error, "connection lost");
    }
    // Dropping the senders fails all waiting calls.
    state.waiting.lock().take();
}

async fn read_all(
    mut read: ReadHalf<BoxedStream>,
    incoming: &PeerRequests,
    state: &Arc<ConnectionState>,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    loop {
        if read.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        state.record_read();
        while let Some(command) = CommandCodec.decode(&mut buffer).map_err(io::Error::other)? {
            if !command.is_response() {
                let responder = Responder {
                    outgoing: incoming.outgoing.clone(),
                    state: Arc::downgrade(state),
                    opaque: command.opaque,
                    header_type: command.header_type,
                };
                incoming.queue.offer(command, responder);
                continue;
            }
            let waiting = state.waiting.lock().as_mut().and_then(|waiting| waiting.remove(&command.opaque));
            if let Some(answer) = waiting {
                // Fails if the call was cancelled just now.
                let _ = answer.send(command);
            }
        }
    }
}

async fn write_all(
    mut write: WriteHalf<BoxedStream>,
    mut frames: mpsc::UnboundedReceiver<Frame>,
    state: &ConnectionState,
) -> io::Result<()> {
    const WRITE_SIZE: usize = 256 * 1024;
    let mut buffer = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        state.dequeue(&frame, &mut buffer);
        // Further queued frames are written by the same system call.
        while buffer.len() < WRITE_SIZE {
            let Ok(frame) = frames.try_recv() else { break };
            state.dequeue(&frame, &mut buffer);
        }
        write.write_all_buf(&mut buffer).await?;
    }
    write.shutdown().await
}
