//! The connections to one address.
//!
//! All short calls share the main connection. Servers limit the streams of a connection, gateways often to 100, and long
//! polls and telemetry streams keep a stream for long. So long polls may use at most half of the main connection's
//! streams. Further connections are opened for the rest.

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

/// How many connections only for long polls are opened at most. They serve several thousand long polls if the server
/// allows 100 streams on each, and still 64 if it allows one.
const MAX_POLL_CONNECTIONS: usize = 64;
/// How long a connection for long polls stays open without a long poll.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The minimum lifetime of a connection that replaced a dead one. A server that is too slow for its clients' timeouts
/// would otherwise get many new connections.
const MIN_REPLACEMENT_LIFETIME: Duration = Duration::from_secs(20);

/// All connections to one address.
pub(super) struct Connections {
    address: Address,
    transport: Transport,
    metrics: Arc<Recorder>,
    state: Mutex<ConnectionsState>,
    /// Notified when a long poll ends.
    freed: Notify,
}

#[derive(Default)]
struct ConnectionsState {
    /// The connection for short calls. Long polls may use up to half of its streams.
    main: Option<Arc<Connection>>,
    /// The connections for long polls only.
    poll_connections: Vec<PollConnection>,
    /// The attempts in progress to open a connection.
    opening_main: Option<Opening>,
    opening_poll_connection: Option<Opening>,
    /// When a dead connection was last replaced.
    last_replaced: Option<Instant>,
}

/// A connection for long polls only.
struct PollConnection {
    connection: Arc<Connection>,
    /// Since when the connection has no long poll; `None` while it has one.
    idle_since: Option<Instant>,
}

/// An attempt to connect, shared by all calls that need the connection.
#[derive(Clone)]
struct Opening {
    /// When the attempt began, which also identifies it.
    start: Instant,
    /// Completes once the connection is stored in [`ConnectionsState`], or failed.
    connected: Shared<BoxFuture<'static, Result<(), Error>>>,
}

/// What a new connection is for.
#[derive(Clone, Copy)]
enum Purpose {
    Main,
    Polls,
}

/// A stream of a connection that is reserved for a long poll. Dropping it frees the stream.
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

    /// The connection for short calls. Opens one if there is none.
    pub(super) async fn for_call(self: &Arc<Self>) -> Result<Arc<Connection>, Error> {
        loop {
            let opening = {
                let mut state = self.state.lock();
                state.drop_unused();
                if let Some(main) = &state.main {
                    return Ok(main.clone());
                }
                self.open(&mut state, Purpose::Main)
            };
            opening.await?;
        }
    }

    /// Reserves a stream for a long poll. Opens another connection if no open one has room.
    pub(super) async fn for_poll(self: &Arc<Self>, deadline: Instant) -> Result<PollSlot, Error> {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            let opening = {
                let mut state = self.state.lock();
                state.drop_unused();
                if let Some(connection) = state.find_room() {
                    connection.polls().fetch_add(1, Ordering::SeqCst);
                    return Ok(PollSlot { connection, connections: self.clone() });
                }
                match state.main {
                    None => Some(self.open(&mut state, Purpose::Main)),
                    Some(_) if state.poll_connections.len() < MAX_POLL_CONNECTIONS => {
                        Some(self.open(&mut state, Purpose::Polls))
                    }
                    Some(_) => None,
                }
            };
            match opening {
                Some(opening) => opening.await?,
                None => {
                    if tokio::time::timeout_at(deadline.into(), freed).await.is_err() {
                        return Err(self.no_room_error());
                    }
                }
            }
        }
    }

    /// The connections for long polls that have been silent for `age`. Each is returned once per `age`.
    pub(super) fn begin_probes(&self, age: Duration) -> Vec<Arc<Connection>> {
        let mut state = self.state.lock();
        state.drop_unused();
        let connections = state.poll_connections.iter().map(|it| &it.connection);
        // On a connection with one stream, the long poll leaves none for a probe.
        connections.filter(|it| it.max_streams() > 1 && it.begin_probe(age)).cloned().collect()
    }

    /// Closes a connection on which the server has stopped answering. Later calls open a new one.
    pub(super) fn replace(&self, dead: &Arc<Connection>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let replacement = state.last_replaced.is_some_and(|last| dead.opened_at() > last);
        if replacement && dead.opened_at() + MIN_REPLACEMENT_LIFETIME > now {
            return;
        }
        tracing::warn!(endpoint = %self.address, "the server stopped answering; the connection is replaced");
        state.last_replaced = Some(now);
        dead.close();
        state.drop_unused();
    }

    /// Joins the attempt in progress to open a connection, or starts one.
    fn open(
        self: &Arc<Self>,
        state: &mut ConnectionsState,
        purpose: Purpose,
    ) -> Shared<BoxFuture<'static, Result<(), Error>>> {
        let limit = self.transport.connect_timeout();
        let slot = state.opening_slot(purpose);
        // An attempt that no call waits for any more makes no progress, so its deadline may have passed.
        if let Some(opening) = slot.as_ref().filter(|it| it.start.elapsed() < limit) {
            return opening.connected.clone();
        }
        let start = Instant::now();
        let (transport, address) = (self.transport.clone(), self.address.clone());
        let connections = Arc::downgrade(self);
        let connected = async move {
            let result = transport.connect(&address).await;
            Self::store_opened(&connections, purpose, start, result)
        };
        let connected = connected.boxed().shared();
        *slot = Some(Opening { start, connected: connected.clone() });
        connected
    }

    /// Stores the result of an attempt to connect.
    fn store_opened(
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
        connections.metrics.count_connection();
        match purpose {
            Purpose::Main => state.main = Some(connection),
            Purpose::Polls => {
                state.poll_connections.push(PollConnection { connection, idle_since: None });
            }
        }
        let open = state.open().count();
        tracing::debug!(endpoint = %connections.address, open, streams, "a connection was opened");
        Ok(())
    }

    fn no_room_error(&self) -> Error {
        let message = format!(
            "{MAX_POLL_CONNECTIONS} connections are full of long polls; the server allows too few streams on each"
        );
        Error::new(ErrorKind::Throttled, "connect", message)
            .with_retryable(true)
            .with_endpoint(self.address.to_string())
            .unreached()
    }
}

impl ConnectionsState {
    fn open(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.main
            .iter()
            .chain(self.poll_connections.iter().map(|it| &it.connection))
            .filter(|it| it.is_open())
    }

    fn opening_slot(&mut self, purpose: Purpose) -> &mut Option<Opening> {
        match purpose {
            Purpose::Main => &mut self.opening_main,
            Purpose::Polls => &mut self.opening_poll_connection,
        }
    }

    /// The first connection with room for a long poll. Filling them in order lets the last ones become idle.
    fn find_room(&self) -> Option<Arc<Connection>> {
        let main = self.main.iter().map(|it| (it, it.max_streams() / 2));
        let others = self.poll_connections.iter().map(|it| {
            // One stream stays free for heartbeats.
            (&it.connection, it.connection.max_streams().saturating_sub(1).max(1))
        });
        let (connection, _) = main
            .chain(others)
            .find(|(connection, limit)| connection.polls().load(Ordering::SeqCst) < *limit)?;
        Some(connection.clone())
    }

    /// Drops connections that are closed, and connections for long polls that have been idle for [`IDLE_TIMEOUT`].
    fn drop_unused(&mut self) {
        self.main.take_if(|main| !main.is_open());
        if self.poll_connections.is_empty() {
            return;
        }
        let now = Instant::now();
        self.poll_connections.retain_mut(|it| {
            if it.connection.polls().load(Ordering::SeqCst) > 0 {
                it.idle_since = None;
            } else if it.idle_since.is_none() {
                it.idle_since = Some(now);
            }
            it.connection.is_open() && it.idle_since.is_none_or(|since| now < since + IDLE_TIMEOUT)
        });
    }
}
