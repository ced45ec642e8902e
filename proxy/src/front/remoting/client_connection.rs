//! The soft state of a connection: its client, and the groups of this client.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connection_writer::{ConnectionWriter, PushError, WriteQueue};
use super::consume::ConsumerState;
use super::heartbeat::Consumer;
use crate::context::Origin;
use crate::error::Error;
use crate::front::port::{Connection, ConnectionBudget};
use crate::front::route_addresses::ServedEntry;
use crate::layer::AccessGrant;
use crate::processor::{PushReceiver, PushStream};
use crate::remoting::{Language, RemotingCommand};

/// The longest wait for a heartbeat. Clients send one every 30 s.
const NEXT_HEARTBEAT: Duration = Duration::from_secs(40);

/// A connection and its client.
pub(super) struct ClientConnection {
    origin: Origin,
    local: SocketAddr,
    served: ServedEntry,
    writer: ConnectionWriter,
    pushes: PushStream,
    closing: CancellationToken,
    closed: CancellationToken,
    registration: Mutex<Registration>,
    granted: mpsc::Sender<AccessGrant>,
    /// The state of the client's consumers.
    pub(super) consumer_state: ConsumerState,
}

/// The groups of a client, by its last heartbeat.
#[derive(Clone, Debug, Default)]
pub(super) struct Registration {
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

/// The access grants of a client's heartbeats. The last one counts.
pub(super) struct HeartbeatGrants(mpsc::Receiver<AccessGrant>);

impl HeartbeatGrants {
    /// Completes when the grant of the last heartbeat is revoked. If its token has expired, the next heartbeat may bring
    /// another one.
    pub(super) async fn revoked(mut self) -> Error {
        let mut granted = AccessGrant::default();
        loop {
            tokio::select! {
                revoked = granted.revoked() => {
                    let newer = match revoked.is_expiry {
                        true => timeout(NEXT_HEARTBEAT, self.0.recv()).await.ok().flatten(),
                        false => None,
                    };
                    let Some(newer) = newer else { return revoked.reason };
                    granted = newer;
                }
                Some(newer) = self.0.recv() => granted = newer,
            }
        }
    }
}

impl ClientConnection {
    /// Creates the state of a new connection, with the queue of frames to write, the receiver of the processor's requests
    /// to the client, and the grants of its heartbeats.
    pub(super) fn open(
        connection: &Connection,
        served: &ServedEntry,
        budget: &Arc<ConnectionBudget>,
    ) -> (Self, WriteQueue, PushReceiver, HeartbeatGrants) {
        let (writer, queue) = ConnectionWriter::open();
        let (granted, grants) = mpsc::channel(1);
        let (pushes, pushed) = PushStream::open();
        let local = connection.local();
        let client = Self {
            origin: connection.origin(served.entry.clone()),
            local: SocketAddr::new(local.ip().to_canonical(), local.port()),
            served: served.clone(),
            writer,
            pushes,
            closing: connection.closing().clone(),
            closed: CancellationToken::new(),
            registration: Mutex::default(),
            granted,
            consumer_state: ConsumerState::new(budget.clone()),
        };
        (client, queue, pushed, HeartbeatGrants(grants))
    }

    /// The client's address, `ip:port`.
    pub(super) fn peer(&self) -> &Arc<str> {
        &self.origin.peer
    }

    /// The origin of the connection's requests.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The address that the client has connected to.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// The entry to which the client has connected.
    pub(super) fn served_entry(&self) -> &ServedEntry {
        &self.served
    }

    /// Sends frames to the client.
    pub(super) fn writer(&self) -> &ConnectionWriter {
        &self.writer
    }

    /// The stream on which the processor sends requests to the client.
    pub(super) fn pushes(&self) -> &PushStream {
        &self.pushes
    }

    /// Cancelled when waiting requests should be answered, because the connection will be closed.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Cancelled when the connection is closed.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// The client, by its last heartbeat.
    pub(super) fn client(&self) -> ClientInfo {
        self.registration.lock().client.clone()
    }

    /// The client and its groups, by its last heartbeat.
    pub(super) fn registration(&self) -> Registration {
        self.registration.lock().clone()
    }

    /// Whether the client has a producer in this group.
    pub(super) fn produces(&self, group: &str) -> bool {
        self.registration.lock().producers.contains(group)
    }

    /// The client's consumer in this group.
    pub(super) fn consumer(&self, group: &str) -> Option<Arc<Consumer>> {
        self.registration.lock().consumers.get(group).cloned()
    }

    /// Changes the registration. Only [`super::members::Members`] may call this, because it has a copy.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Registration) -> T) -> T {
        change(&mut self.registration.lock())
    }

    /// Holds the connection open only as long as this grant of a heartbeat, which replaces the previous one.
    pub(super) async fn depend_on(&self, granted: AccessGrant) {
        // Fails only when the connection is closed.
        let _ = self.granted.send(granted).await;
    }

    /// Sends a one-way request. It is dropped if the client reads too slowly.
    pub(super) fn notify(&self, request: RemotingCommand) {
        if let Err(error) = self.writer.notify(request) {
            tracing::debug!(peer = %self.peer(), %error, "failed to send a notification");
        }
    }

    /// Sends a request, and waits for the answer.
    ///
    /// # Errors
    /// [`PushError`].
    pub(super) async fn call(
        &self,
        request: RemotingCommand,
        within: Duration,
    ) -> Result<RemotingCommand, PushError> {
        self.writer.call(request, within).await
    }

    /// Ends the state of a closed connection.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.writer.fail_pending();
    }
}
