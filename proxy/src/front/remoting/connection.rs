//! One connection: reads its frames, runs each request as a task, and ends without losing an answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Decoder;
use tokio_util::sync::CancellationToken;

use super::late::{self, Late};
use super::link::Frames;
use super::memory::Memory;
use super::request::Request;
use super::session::Session;
use super::{Shared, dispatch, frames, pushes};
use crate::front::face::Face;
use crate::front::port::{Charge, Connection, ConnectionBudget, Exhausted, Stream, TransportConfig};
use crate::processor::PushReceiver;
use crate::remoting::{Command, CommandCodec, FrameError};

/// How long a peer may take to close a connection after the last answer. Until then what it sends is discarded: closing
/// earlier could destroy answers that it has not read yet.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that is served.
pub(super) struct Serving {
    shared: Arc<Shared>,
    session: Arc<Session>,
    connection: Connection,
    budget: Arc<ConnectionBudget>,
    written: Frames,
    pushed: PushReceiver,
}

/// A frame that has not arrived completely.
struct Incomplete {
    charge: Charge,
    evicted: CancellationToken,
    deadline: Instant,
}

/// How reading ends.
enum Ended {
    /// The peer has closed the connection.
    ByPeer,
    /// The connection is to be closed: the proxy drains, or it was idle for long.
    Closing,
}

/// Reads requests.
struct Requests<'a> {
    shared: &'a Arc<Shared>,
    session: &'a Arc<Session>,
    connection: &'a Connection,
    budget: &'a Arc<ConnectionBudget>,
    transport: &'a TransportConfig,
}

impl Serving {
    pub(super) fn new(
        shared: Arc<Shared>,
        face: &Face,
        budget: Arc<ConnectionBudget>,
        connection: Connection,
    ) -> Self {
        let (session, written, pushed) = Session::open(&connection, face, &budget);
        Self { shared, session: Arc::new(session), connection, budget, written, pushed }
    }

    pub(super) async fn run(self, stream: Stream, transport: &TransportConfig) -> io::Result<()> {
        // However this ends, also when the future is dropped.
        let _leaving = Leaving { shared: self.shared.clone(), session: self.session.clone() };
        let (session, calls) = (self.session.clone(), self.connection.calls().clone());
        let ended = self.exchange(stream, transport).await;
        session.close();
        // What was under way ends before the connection does, so that nothing uses the broker after a shutdown.
        calls.close();
        calls.wait().await;
        ended
    }

    async fn exchange(self, stream: Stream, transport: &TransportConfig) -> io::Result<()> {
        let Self { shared, session, connection, budget, written, pushed } = self;
        let (mut read, write) = tokio::io::split(stream);
        let mut writing = std::pin::pin!(written.write_to(write, transport.answer_timeout));
        let mut pushing = std::pin::pin!(pushes::pass_on(&session, pushed));
        let requests = Requests {
            shared: &shared,
            session: &session,
            connection: &connection,
            budget: &budget,
            transport,
        };
        let reading = tokio::select! {
            ended = requests.read(&mut read) => ended,
            ended = writing.as_mut() => return ended,
            () = pushing.as_mut() => return Ok(()),
        };
        if let Ended::ByPeer = reading? {
            return Ok(());
        }
        let calls = connection.calls();
        calls.close();
        let answering = async {
            calls.wait().await;
            session.link().finish();
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

/// Forgets a connection's client when the connection ends.
struct Leaving {
    shared: Arc<Shared>,
    session: Arc<Session>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.session.close();
        self.shared.leave(&self.session);
    }
}

impl Requests<'_> {
    /// Reads until the peer closes the connection or it is to be closed, and nothing comes any more.
    async fn read(&self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Ended> {
        let closing = self.connection.closing();
        let over = async {
            closing.cancelled().await;
            tokio::time::sleep(late::SERVED_FOR).await;
        };
        tokio::select! {
            ended = self.read_all(stream) => ended,
            () = over => Ok(Ended::Closing),
        }
    }

    async fn read_all(&self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Ended> {
        let mut buffer = BytesMut::new();
        let mut incomplete = None;
        loop {
            let length = loop {
                match frames::length(&buffer).map_err(broken)? {
                    Some(length) if length <= buffer.len() => {
                        if let Some(command) = CommandCodec.decode(&mut buffer).map_err(broken)? {
                            self.take(command, length, incomplete.take());
                        }
                    }
                    length => break length,
                }
            };
            if buffer.is_empty() {
                // The memory of a large frame would stay with an idle connection.
                buffer = BytesMut::with_capacity(frames::room(None, 0));
            } else {
                buffer.reserve(frames::room(length, buffer.len()));
            }
            let received = match self.receive(stream, &mut buffer, &mut incomplete).await? {
                Some(received) => received,
                None => return Ok(Ended::Closing),
            };
            if received == 0 {
                return Ok(Ended::ByPeer);
            }
        }
    }

    /// Reads more; `None` if the connection is to be closed, and quiet.
    async fn receive(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
        incomplete: &mut Option<Incomplete>,
    ) -> io::Result<Option<usize>> {
        if buffer.is_empty() {
            return tokio::select! {
                biased;
                received = stream.read_buf(buffer) => received.map(Some),
                () = self.quiet() => Ok(None),
            };
        }
        if incomplete.is_none() {
            let mut charge = Charge::new(self.budget).map_err(exhausted)?;
            let evicted = charge.incomplete();
            *incomplete = Some(Incomplete {
                charge,
                evicted,
                deadline: Instant::now() + self.transport.request_timeout,
            });
        }
        let Some(Incomplete { charge, evicted, deadline }) = incomplete else { return Ok(None) };
        charge.set(buffer.len()).map_err(exhausted)?;
        tokio::select! {
            received = timeout_at(*deadline, stream.read_buf(buffer)) => {
                received.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(Some)
            }
            () = evicted.cancelled() => Err(exhausted(Exhausted::Evicted)),
            () = self.quiet() => Ok(None),
        }
    }

    /// Waits until the connection is to be closed, nothing is under way, and nothing has come for a while.
    async fn quiet(&self) {
        self.connection.closing().cancelled().await;
        let calls = self.connection.calls();
        calls.close();
        calls.wait().await;
        tokio::time::sleep(late::QUIET).await;
    }

    fn take(&self, command: Command, length: usize, incomplete: Option<Incomplete>) {
        if command.is_response() {
            self.session.link().answered(command);
            return;
        }
        let command = match self.connection.closing().is_cancelled() {
            false => command,
            true => match Late::of(command) {
                Late::Serve(command) => command,
                Late::Answer(answer) => return self.session.link().refuse(&answer),
                Late::Leave => return,
            },
        };
        self.connection.touch();
        let calls = self.connection.calls();
        let most = usize::try_from(self.transport.streams_per_connection).unwrap_or(usize::MAX);
        let charge = match incomplete {
            _ if calls.len() >= most => Err("too many requests of this connection are in flight"),
            Some(Incomplete { mut charge, .. }) => {
                let held = charge.completed().and_then(|()| charge.set(length));
                held.map(|()| charge).map_err(Exhausted::reason)
            }
            None => self.charge(length).map_err(Exhausted::reason),
        };
        let charge = match charge {
            Ok(charge) => charge,
            Err(reason) => {
                if let Some(answer) = dispatch::busy(&command, reason) {
                    self.session.link().refuse(&answer);
                }
                return;
            }
        };
        let (shared, session) = (self.shared.clone(), self.session.clone());
        let request = Request::new(shared, session, command, Memory::of(charge));
        let closed = self.session.closed().clone();
        calls.spawn(async move {
            closed.run_until_cancelled(dispatch::serve(request)).await;
        });
    }

    fn charge(&self, bytes: usize) -> Result<Charge, Exhausted> {
        let mut charge = Charge::new(self.budget)?;
        charge.set(bytes)?;
        Ok(charge)
    }
}

fn broken(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn exhausted(exhausted: Exhausted) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, exhausted.reason())
}
