//! Serves one connection: reads its frames, runs each request as a task, and closes the connection when all answers are
//! written.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Decoder;
use tokio_util::sync::CancellationToken;

use super::client_connection::{ClientConnection, HeartbeatGrants};
use super::connection_writer::WriteQueue;
use super::drain::{self, DrainAction};
use super::request::{Request, RequestLimits};
use super::request_charge::RequestCharge;
use super::shared::Shared;
use super::{dispatch, frames, pushes};
use crate::front::port::{Charge, Connection, ConnectionBudget, Exhausted, Stream, TransportConfig};
use crate::front::route_addresses::ServedEntry;
use crate::processor::PushReceiver;
use crate::remoting::{CommandCodec, FrameError, RemotingCommand};

/// How long a peer may take to close a connection after the last answer. Until then, the proxy reads and discards what
/// the peer sends: closing earlier could destroy answers that the peer has not read yet.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of header fields that a request is not charged for, and what each further field takes in memory, about.
/// The bytes of its frame are charged in any case, but a field of a few bytes takes many times as much.
const USUAL_FIELDS: usize = 64;
const FIELD_BYTES: usize = 128;

/// A connection that is being served.
pub(super) struct ServedConnection {
    shared: Arc<Shared>,
    client: Arc<ClientConnection>,
    connection: Connection,
    budget: Arc<ConnectionBudget>,
    queue: WriteQueue,
    pushed: PushReceiver,
    grants: HeartbeatGrants,
}

/// A frame that has not arrived completely.
struct IncompleteFrame {
    charge: Charge,
    evicted: CancellationToken,
    deadline: Instant,
}

/// Why reading has ended.
enum ReadEnd {
    /// The peer has closed the connection.
    ByPeer,
    /// The proxy closes the connection: it drains, or the connection was idle for too long.
    Closing,
}

/// Reads the requests of a connection, and starts a task for each.
struct RequestReader<'a> {
    shared: &'a Arc<Shared>,
    client: &'a Arc<ClientConnection>,
    connection: &'a Connection,
    budget: &'a Arc<ConnectionBudget>,
    transport: &'a TransportConfig,
}

impl ServedConnection {
    pub(super) fn new(
        shared: Arc<Shared>,
        served: &ServedEntry,
        budget: Arc<ConnectionBudget>,
        connection: Connection,
    ) -> Self {
        let (client, queue, pushed, grants) = ClientConnection::open(&connection, served, &budget);
        Self { shared, client: Arc::new(client), connection, budget, queue, pushed, grants }
    }

    pub(super) async fn run(self, stream: Stream, transport: &TransportConfig) -> io::Result<()> {
        // Runs however this ends, even if the future is dropped.
        let _leave = LeaveOnDrop { shared: self.shared.clone(), client: self.client.clone() };
        let (client, calls) = (self.client.clone(), self.connection.calls().clone());
        let ended = self.exchange(stream, transport).await;
        client.close();
        // Requests in flight end before the connection does, so that none uses the broker after a shutdown.
        calls.close();
        calls.wait().await;
        ended
    }

    async fn exchange(self, stream: Stream, transport: &TransportConfig) -> io::Result<()> {
        let Self { shared, client, connection, budget, queue, pushed, grants } = self;
        let (mut read, write) = tokio::io::split(stream);
        let mut writing = std::pin::pin!(queue.write_to(write, transport.answer_timeout));
        let mut pushing = std::pin::pin!(pushes::forward(&client, &budget, pushed));
        let requests = RequestReader {
            shared: &shared,
            client: &client,
            connection: &connection,
            budget: &budget,
            transport,
        };
        let reading = tokio::select! {
            ended = requests.read(&mut read) => ended,
            ended = writing.as_mut() => return ended,
            () = pushing.as_mut() => return Ok(()),
            revoked = grants.revoked() => {
                tracing::debug!(peer = %client.peer(), %revoked, "closing the connection of a client whose access was revoked");
                return Ok(());
            }
        };
        if let ReadEnd::ByPeer = reading? {
            return Ok(());
        }
        let calls = connection.calls();
        calls.close();
        let answering = async {
            calls.wait().await;
            client.writer().finish();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = writing.as_mut() => ended?,
            () = answering => {}
            () = pushing.as_mut() => {}
        }
        let mut discarded = BytesMut::with_capacity(4 << 10);
        let discarding = async {
            while read.read_buf(&mut discarded).await? > 0 {
                discarded.clear();
            }
            io::Result::Ok(())
        };
        timeout(CLOSING_TIMEOUT, discarding).await.unwrap_or(Ok(()))
    }
}

/// Removes a connection's client when dropped.
struct LeaveOnDrop {
    shared: Arc<Shared>,
    client: Arc<ClientConnection>,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.client.close();
        self.shared.leave(&self.client);
    }
}

impl RequestReader<'_> {
    /// Reads requests until the peer closes the connection. If the proxy closes it, reads until nothing has arrived for
    /// [`drain::IDLE_BEFORE_CLOSE`], and for [`drain::DRAIN_TIMEOUT`] at most.
    async fn read(&self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<ReadEnd> {
        let closing = self.connection.closing();
        let timed_out = async {
            closing.cancelled().await;
            tokio::time::sleep(drain::DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            ended = self.read_all(stream) => ended,
            () = timed_out => Ok(ReadEnd::Closing),
        }
    }

    async fn read_all(&self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<ReadEnd> {
        let mut buffer = BytesMut::new();
        let mut incomplete = None;
        loop {
            let length = loop {
                match frames::length(&buffer).map_err(invalid_frame)? {
                    Some(length) if length <= buffer.len() => {
                        if let Some(command) = CommandCodec.decode(&mut buffer).map_err(invalid_frame)? {
                            self.start(command, length, incomplete.take());
                        }
                    }
                    length => break length,
                }
            };
            if buffer.is_empty() {
                // An idle connection must not keep the buffer of a large frame.
                buffer = BytesMut::with_capacity(frames::capacity(None, 0));
            } else {
                buffer.reserve(frames::capacity(length, buffer.len()));
            }
            let received = match self.receive(stream, &mut buffer, &mut incomplete).await? {
                Some(received) => received,
                None => return Ok(ReadEnd::Closing),
            };
            if received == 0 {
                return Ok(ReadEnd::ByPeer);
            }
        }
    }

    /// Reads more bytes. Returns their number, or `None` if the connection shall be closed now.
    async fn receive(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
        incomplete: &mut Option<IncompleteFrame>,
    ) -> io::Result<Option<usize>> {
        if buffer.is_empty() {
            return tokio::select! {
                biased;
                received = stream.read_buf(buffer) => received.map(Some),
                () = self.idle_while_closing() => Ok(None),
            };
        }
        if incomplete.is_none() {
            let mut charge = Charge::new(self.budget).map_err(exhausted)?;
            let evicted = charge.incomplete();
            *incomplete = Some(IncompleteFrame {
                charge,
                evicted,
                deadline: Instant::now() + self.transport.request_timeout,
            });
        }
        let Some(IncompleteFrame { charge, evicted, deadline }) = incomplete else { return Ok(None) };
        charge.set(buffer.len()).map_err(exhausted)?;
        tokio::select! {
            received = timeout_at(*deadline, stream.read_buf(buffer)) => {
                received.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(Some)
            }
            () = evicted.cancelled() => Err(exhausted(Exhausted::Evicted)),
            () = self.idle_while_closing() => Ok(None),
        }
    }

    /// Waits until the connection shall be closed, no request is in flight, and [`drain::IDLE_BEFORE_CLOSE`] has
    /// passed.
    async fn idle_while_closing(&self) {
        self.connection.closing().cancelled().await;
        let calls = self.connection.calls();
        calls.close();
        calls.wait().await;
        tokio::time::sleep(drain::IDLE_BEFORE_CLOSE).await;
    }

    /// Starts a task for a request. Passes an answer of the client on to the call that waits for it.
    fn start(&self, command: RemotingCommand, length: usize, incomplete: Option<IncompleteFrame>) {
        if command.is_response() {
            self.client.writer().complete_call(command);
            return;
        }
        let command = match self.connection.closing().is_cancelled() {
            false => command,
            true => match DrainAction::for_request(command) {
                DrainAction::Serve(command) => command,
                DrainAction::Refuse(answer) => return self.client.writer().refuse(&answer),
                DrainAction::Ignore => return,
            },
        };
        self.connection.touch();
        let calls = self.connection.calls();
        let max_calls = usize::try_from(self.transport.streams_per_connection).unwrap_or(usize::MAX);
        let length = length + FIELD_BYTES * command.fields.len().saturating_sub(USUAL_FIELDS);
        let charge = match incomplete {
            _ if calls.len() >= max_calls => {
                Err("too many requests of this connection are in flight (transport.streams_per_connection)")
            }
            Some(IncompleteFrame { mut charge, .. }) => {
                let charged = charge.completed().and_then(|()| charge.set(length));
                charged.map(|()| charge).map_err(Exhausted::reason)
            }
            None => self.charge(length).map_err(Exhausted::reason),
        };
        let charge = match charge {
            Ok(charge) => charge,
            Err(reason) => {
                if let Some(answer) = dispatch::refuse_busy(&command, reason) {
                    self.client.writer().refuse(&answer);
                }
                return;
            }
        };
        let (shared, client) = (self.shared.clone(), self.client.clone());
        let charge = RequestCharge::new(charge);
        let limits = RequestLimits { charge, max_fields: self.transport.request_fields };
        let request = Request::new(shared, client, command, limits);
        let closed = self.client.closed().clone();
        calls.spawn(async move {
            closed.run_until_cancelled(dispatch::serve(request)).await;
        });
    }

    /// Charges a request that arrived with one read.
    fn charge(&self, bytes: usize) -> Result<Charge, Exhausted> {
        let mut charge = Charge::new(self.budget)?;
        charge.set(bytes)?;
        Ok(charge)
    }
}

fn invalid_frame(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn exhausted(exhausted: Exhausted) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, exhausted.reason())
}
