//! The connections to one address.
//!
//! Short calls share one connection. A server may allow few streams on a connection, gateways often 100, and
//! long polls and telemetry streams keep theirs for long. So the connection of the short calls takes long polls
//! only up to half of its streams, and further connections are opened for the others.

use std::{
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{connection::Connection, transport::Transport};
use crate::{
    error::{Error, ErrorKind},
    metrics::Recorder,
    options::Address,
};

/// The most connections for long polls alone. They serve some thousand long polls if the server allows 100
/// streams, and still 60 if it allows one.
const MAX_POLL_CONNECTIONS: usize = 64;
/// How long a connection for long polls is kept without one.
const IDLE: Duration = Duration::from_secs(60);
/// How long the connection that replaced a dead one is kept in any case, so that a server that is too slow for
/// the timeouts of its clients is not burdened with their new connections, too.
const REPLACE_INTERVAL: Duration = Duration::from_secs(20);

/// All connections to one address.
pub(super) struct Connections {
    address: Address,
    transport: Transport,
    metrics: Arc<Recorder>,
    state: Mutex<State>,
    /// Told whenever a long poll ends.
    freed: Notify,
}

#[derive(Default)]
struct State {
    /// For short calls, and for long polls with up to half of its streams.
    main: Option<Arc<Connection>>,
    /// For long polls only.
    for_polls: Vec<ForPolls>,
    opening_main: Option<Opening>,
    opening_for_polls: Option<Opening>,
    last_replaced: Option<Instant>,
}

struct ForPolls {
    connection: Arc<Connection>,
    /// Since when it serves no long poll.
    idle_since: Option<Instant>,
}

/// An attempt to connect, for which everyone waits who needs the connection.
#[derive(Clone)]
struct Opening {
    start: Instant,
    connected: Shared<BoxFuture<'static, Result<(), Error>>>,
}

#[derive(Clone, Copy)]
enum Purpose {
    Main,
    Polls,
}

/// The place of a long poll on a connection, until it is dropped.
pub(crate) struct PollSlot {
    connection: Arc<Connection>,
    connections: Arc<Connections>,
}

impl PollSlot {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for PollSlot {
    fn drop(&mut self) {
        self.connection.polls().fetch_sub(1, Ordering::SeqCst);
        self.connections.freed.notify_waiters();
    }
}

impl Connections {
    pub(super) fn new(address: Address, transport: Transport, metrics: Arc<Recorder>) -> Arc<Self> {
        Arc::new(Self { address, transport, metrics, state: Mutex::default(), freed: Notify::new() })
    }

    /// How many connections are open.
    pub(super) fn count(&self) -> usize {
        self.state.lock().open().count()
    }

    /// The connection for short calls, opened if there is none.
    pub(super) async fn for_call(self: &Arc<Self>) -> Result<Arc<Connection>, Error> {
        loop {
            let opening = {
                let mut state = self.state.lock();
                state.forget_unused();
                if let Some(main) = &state.main {
                    return Ok(main.clone());
                }
                self.opening(&mut state, Purpose::Main)
            };
            opening.await?;
        }
    }

    /// A place for a long poll, on a further connection if those that are open have no room.
    pub(super) async fn for_poll(self: &Arc<Self>, deadline: Instant) -> Result<PollSlot, Error> {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            let opening = {
                let mut state = self.state.lock();
                state.forget_unused();
                if let Some(connection) = state.with_room() {
                    connection.polls().fetch_add(1, Ordering::SeqCst);
                    return Ok(PollSlot { connection, connections: self.clone() });
                }
                match state.main {
                    None => Some(self.opening(&mut state, Purpose::Main)),
                    Some(_) if state.for_polls.len() < MAX_POLL_CONNECTIONS => {
                        Some(self.opening(&mut state, Purpose::Polls))
                    }
                    Some(_) => None,
                }
            };
            match opening {
                Some(opening) => opening.await?,
                None => {
                    if tokio::time::timeout_at(deadline.into(), freed).await.is_err() {
                        return Err(self.full());
                    }
                }
            }
        }
    }

    /// Connections that have answered nothing for `age`, apart from the one for short calls.
    pub(super) fn to_probe(&self, age: Duration) -> Vec<Arc<Connection>> {
        let mut state = self.state.lock();
        state.forget_unused();
        let connections = state.for_polls.iter().map(|it| &it.connection);
        // With one stream, a long poll leaves none for a probe.
        connections.filter(|it| it.max_streams() > 1 && it.begin_probe(age)).cloned().collect()
    }

    /// Closes a connection on which the server does not answer any more. Calls go on over a new one.
    pub(super) fn replace(&self, dead: &Arc<Connection>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let replacement = state.last_replaced.is_some_and(|last| dead.opened_at() > last);
        if replacement && dead.opened_at() + REPLACE_INTERVAL > now {
            return;
        }
        tracing::warn!(endpoint = %self.address, "the server stopped answering; the connection is replaced");
        state.last_replaced = Some(now);
        dead.close();
        state.forget_unused();
    }

    /// The attempt under way to open a connection, or a new one.
    fn opening(
        self: &Arc<Self>,
        state: &mut State,
        purpose: Purpose,
    ) -> Shared<BoxFuture<'static, Result<(), Error>>> {
        let limit = self.transport.connect_timeout();
        let slot = state.opening_slot(purpose);
        // An attempt that everyone stopped waiting for makes no progress, so its time may have passed.
        if let Some(opening) = slot.as_ref().filter(|it| it.start.elapsed() < limit) {
            return opening.connected.clone();
        }
        let start = Instant::now();
        let (transport, address) = (self.transport.clone(), self.address.clone());
        let connections = Arc::downgrade(self);
        let connected = async move {
            let result = transport.connect(&address).await;
            Self::opened(&connections, purpose, start, result)
        };
        let connected = connected.boxed().shared();
        *slot = Some(Opening { start, connected: connected.clone() });
        connected
    }

    fn opened(
        connections: &Weak<Self>,
        purpose: Purpose,
        start: Instant,
        result: Result<Connection, Error>,
    ) -> Result<(), Error> {
        let Some(connections) = connections.upgrade() else { return Ok(()) };
        let mut state = connections.state.lock();
        let slot = state.opening_slot(purpose);
        if slot.as_ref().is_some_and(|opening| opening.start == start) {
            *slot = None;
        }
        let connection = Arc::new(result?);
        let streams = connection.max_streams();
        connections.metrics.connected();
        match purpose {
            Purpose::Main => state.main = Some(connection),
            Purpose::Polls => {
                state.for_polls.push(ForPolls { connection, idle_since: None });
            }
        }
        let open = state.open().count();
        tracing::debug!(endpoint = %connections.address, open, streams, "a connection was opened");
        Ok(())
    }

    fn full(&self) -> Error {
        let message = format!(
            "{MAX_POLL_CONNECTIONS} connections are full of long polls; the server allows too few streams on each"
        );
        Error::new(ErrorKind::Throttled, "connect", message)
            .with_retryable(true)
            .with_endpoint(self.address.to_string())
            .unreached()
    }
}

impl State {
    fn open(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.main.iter().chain(self.for_polls.iter().map(|it| &it.connection)).filter(|it| it.is_open())
    }

    fn opening_slot(&mut self, purpose: Purpose) -> &mut Option<Opening> {
        match purpose {
            Purpose::Main => &mut self.opening_main,
            Purpose::Polls => &mut self.opening_for_polls,
        }
    }

    /// The first connection with room for a long poll, so that the last ones become idle.
    fn with_room(&self) -> Option<Arc<Connection>> {
        let main = self.main.iter().map(|it| (it, it.max_streams() / 2));
        let others = self.for_polls.iter().map(|it| {
            // One stream stays free for heartbeats.
            (&it.connection, it.connection.max_streams().saturating_sub(1).max(1))
        });
        let (connection, _) = main
            .chain(others)
            .find(|(connection, limit)| connection.polls().load(Ordering::SeqCst) < *limit)?;
        Some(connection.clone())
    }

    /// Drops connections that are closed, and those for long polls that were idle for long.
    fn forget_unused(&mut self) {
        self.main.take_if(|main| !main.is_open());
        if self.for_polls.is_empty() {
            return;
        }
        let now = Instant::now();
        self.for_polls.retain_mut(|it| {
            if it.connection.polls().load(Ordering::SeqCst) > 0 {
                it.idle_since = None;
            } else if it.idle_since.is_none() {
                it.idle_since = Some(now);
            }
            it.connection.is_open() && it.idle_since.is_none_or(|since| now < since + IDLE)
        });
    }
}
