use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use super::connection::{Connection, Dialer};
use super::error::CallError;
use crate::remoting::sign::Signer;
use crate::remoting::{Command, response};

/// The name servers and brokers this proxy talks to, one connection each, made when first needed and made
/// anew when lost.
pub(super) struct Peers {
    dialer: Dialer,
    signer: Option<Signer>,
    peers: Mutex<HashMap<String, Arc<Peer>>>,
}

#[derive(Default)]
struct Peer {
    current: AsyncMutex<Option<Arc<Connection>>>,
}

impl Peers {
    pub(super) fn new(dialer: Dialer, signer: Option<Signer>) -> Self {
        Self { dialer, signer, peers: Mutex::default() }
    }

    /// Asks a peer and waits for its answer.
    pub(super) async fn call(
        &self,
        address: &str,
        command: Command,
        within: Duration,
    ) -> Result<Command, CallError> {
        let mut command = self.signed(command);
        let peer = self.peer(address);
        let connection = peer.connection(address, &self.dialer).await?;
        let answer = connection.call(&mut command, within).await?;
        if answer.code != response::GO_AWAY {
            return Ok(answer);
        }
        // The peer is shutting down and has not carried out the request: once more on a new connection, which may
        // reach its successor.
        peer.leave(&connection).await;
        let answer = peer.connection(address, &self.dialer).await?.call(&mut command, within).await?;
        match answer.code {
            response::GO_AWAY => Err(CallError::ShuttingDown { address: address.to_owned() }),
            _ => Ok(answer),
        }
    }

    fn signed(&self, mut command: Command) -> Command {
        if let Some(signer) = &self.signer {
            signer.sign(&mut command);
        }
        command
    }

    fn peer(&self, address: &str) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get(address) {
            return peer.clone();
        }
        peers.entry(address.to_owned()).or_default().clone()
    }
}

impl Peer {
    /// The open connection, or a new one; many callers wait for the same one.
    async fn connection(&self, address: &str, dialer: &Dialer) -> Result<Arc<Connection>, CallError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let connection = Arc::new(Connection::open(address, dialer).await?);
        *current = Some(connection.clone());
        Ok(connection)
    }

    /// Lets a connection drain: whoever uses it keeps it, new calls get another.
    async fn leave(&self, connection: &Arc<Connection>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *current = None;
        }
    }
}
