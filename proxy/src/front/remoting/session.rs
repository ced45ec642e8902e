//! The soft state of a connection: whose it is, and in which groups its client is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::consume::Consuming;
use super::heartbeat::Consumer;
use super::link::{Frames, Link, PushError};
use crate::context::Origin;
use crate::front::face::Face;
use crate::front::port::{Connection, ConnectionBudget};
use crate::processor::{PushReceiver, PushStream};
use crate::remoting::{Command, Language};

/// A connection and its client.
pub(super) struct Session {
    origin: Origin,
    local: SocketAddr,
    face: Face,
    link: Link,
    pushes: PushStream,
    closing: CancellationToken,
    closed: CancellationToken,
    registered: Mutex<Registered>,
    /// What the client consumes.
    pub(super) consuming: Consuming,
}

/// What the last heartbeat told.
#[derive(Clone, Debug, Default)]
pub(super) struct Registered {
    pub(super) client: ClientInfo,
    pub(super) producers: BTreeSet<String>,
    pub(super) consumers: BTreeMap<String, Arc<Consumer>>,
}

/// A client, as it describes itself. The id is empty before the first heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientInfo {
    pub(super) id: Arc<str>,
    pub(super) language: Language,
    pub(super) version: i32,
}

impl Session {
    /// The session of a new connection, what it writes, and what the processor asks its client.
    pub(super) fn open(
        connection: &Connection,
        face: &Face,
        budget: &Arc<ConnectionBudget>,
    ) -> (Self, Frames, PushReceiver) {
        let (link, written) = Link::open();
        let (pushes, pushed) = PushStream::open();
        let local = connection.local();
        let session = Self {
            origin: connection.origin(face.entry.clone()),
            local: SocketAddr::new(local.ip().to_canonical(), local.port()),
            face: face.clone(),
            link,
            pushes,
            closing: connection.closing().clone(),
            closed: CancellationToken::new(),
            registered: Mutex::default(),
            consuming: Consuming::new(budget.clone()),
        };
        (session, written, pushed)
    }

    /// The client's address, `ip:port`.
    pub(super) fn peer(&self) -> &Arc<str> {
        &self.origin.peer
    }

    /// Where its requests come from.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The address that the client has connected to.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// How the entry appears to which the client has connected.
    pub(super) fn face(&self) -> &Face {
        &self.face
    }

    /// The way to the client.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// How the processor reaches the client.
    pub(super) fn pushes(&self) -> &PushStream {
        &self.pushes
    }

    /// Cancelled when requests that wait should be answered, because the connection will be closed.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Cancelled when the connection is gone.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// The client, as its last heartbeat told.
    pub(super) fn client(&self) -> ClientInfo {
        self.registered.lock().client.clone()
    }

    /// What the last heartbeat told.
    pub(super) fn registered(&self) -> Registered {
        self.registered.lock().clone()
    }

    /// Whether the client has a producer in this group.
    pub(super) fn produces(&self, group: &str) -> bool {
        self.registered.lock().producers.contains(group)
    }

    /// A group in which the client consumes.
    pub(super) fn consumer(&self, group: &str) -> Option<Arc<Consumer>> {
        self.registered.lock().consumers.get(group).cloned()
    }

    /// Changes what is registered. Only [`super::members::Members`] does, which knows the same.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Registered) -> T) -> T {
        change(&mut self.registered.lock())
    }

    /// Sends a request that is not answered. A client that reads too slowly does not get it.
    pub(super) fn notify(&self, request: Command) {
        if let Err(error) = self.link.notify(request) {
            tracing::debug!(peer = %self.peer(), %error, "a notification is not sent");
        }
    }

    /// Sends a request, and waits for the answer.
    ///
    /// # Errors
    /// [`PushError`].
    pub(super) async fn call(&self, request: Command, within: Duration) -> Result<Command, PushError> {
        self.link.call(request, within).await
    }

    /// Ends the session: the connection is gone.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.link.lost();
    }
}
