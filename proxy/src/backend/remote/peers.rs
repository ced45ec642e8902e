//! Keeps one connection to each name server and broker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::connection::{Connection, Dialer};
use super::error::CallError;
use crate::remoting::sign::Signer;
use crate::remoting::{RemotingCommand, response};

/// The name servers and brokers that this proxy calls. Each has one connection, which is opened on first use and reopened
/// when lost.
pub(super) struct Peers {
    dialer: Dialer,
    signer: Option<Signer>,
    peers: Mutex<HashMap<String, Arc<Peer>>>,
}

#[derive(Default)]
struct Peer {
    link: Mutex<PeerLink>,
}

#[derive(Default)]
struct PeerLink {
    current: Option<Arc<Connection>>,
    dialing: Option<Dialing>,
    /// The failure of the last attempt to connect; `None` if it succeeded.
    unreachable: Option<Unreachable>,
}

struct Unreachable {
    since: Instant,
    error: CallError,
}

/// An attempt to connect, shared by all callers that wait for it.
type Dialing = Shared<BoxFuture<'static, Result<Arc<Connection>, CallError>>>;

/// How long after a failed attempt to connect calls fail at once, without another attempt.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);

impl Peers {
    pub(super) fn new(dialer: Dialer, signer: Option<Signer>) -> Self {
        Self { dialer, signer, peers: Mutex::default() }
    }

    /// Calls a peer and waits for its answer.
    pub(super) async fn call(
        &self,
        address: &str,
        command: RemotingCommand,
        within: Duration,
    ) -> Result<RemotingCommand, CallError> {
        let mut command = self.signed(command);
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        let peer = self.peer(address);
        let connection = peer.connection(address, &self.dialer, within).await?;
        let answer = connection.call(&mut command, left()).await?;
        if answer.code != response::GO_AWAY {
            return Ok(answer);
        }
        // The peer is shutting down and has not carried out the request. Retry once on a new connection, which may reach
        // its successor.
        peer.retire(&connection);
        let connection = peer.connection(address, &self.dialer, left()).await?;
        let answer = connection.call(&mut command, left()).await?;
        match answer.code {
            response::GO_AWAY => Err(CallError::ShuttingDown { address: address.to_owned() }),
            _ => Ok(answer),
        }
    }

    fn signed(&self, mut command: RemotingCommand) -> RemotingCommand {
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
        // Brokers may come back at new addresses, so unused ones are removed.
        peers.retain(|_, peer| peer.is_in_use());
        peers.entry(address.to_owned()).or_default().clone()
    }
}

impl Peer {
    /// Returns the open connection, or a new one if it opens within this time.
    async fn connection(
        self: &Arc<Self>,
        address: &str,
        dialer: &Dialer,
        within: Duration,
    ) -> Result<Arc<Connection>, CallError> {
        let dialing = {
            let mut link = self.link.lock();
            if let Some(connection) = link.current.as_ref().filter(|connection| connection.is_open()) {
                return Ok(connection.clone());
            }
            if let Some(Unreachable { since, error }) = &link.unreachable
                && since.elapsed() < RECONNECT_DELAY
            {
                return Err(error.clone());
            }
            link.dialing.get_or_insert_with(|| self.dial(address, dialer)).clone()
        };
        let timed_out = |_| Err(CallError::NotConnected { address: address.to_owned(), within });
        tokio::time::timeout(within, dialing).await.unwrap_or_else(timed_out)
    }

    // Runs in a task of its own, so that cancelling the first caller does not fail the others.
    fn dial(self: &Arc<Self>, address: &str, dialer: &Dialer) -> Dialing {
        let (peer, address, dialer) = (self.clone(), address.to_owned(), dialer.clone());
        let dialing = async move {
            let opened = Connection::open(&address, &dialer).await.map(Arc::new);
            let mut link = peer.link.lock();
            link.dialing = None;
            link.current = opened.as_ref().ok().cloned();
            link.unreachable = opened
                .as_ref()
                .err()
                .map(|error| Unreachable { since: Instant::now(), error: error.clone() });
            opened
        };
        let dialing = dialing.boxed().shared();
        tokio::spawn(dialing.clone().map(drop));
        dialing
    }

    /// Stops using a connection for new calls. The calls in flight keep it open.
    fn retire(&self, connection: &Arc<Connection>) {
        let mut link = self.link.lock();
        if link.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            link.current = None;
        }
    }

    fn is_in_use(&self) -> bool {
        let link = self.link.lock();
        link.dialing.is_some() || link.current.as_ref().is_some_and(|connection| connection.is_open())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::backend::remote::incoming;
    use crate::remoting::request;

    const LONG_TIMEOUT: Duration = Duration::from_secs(30);
    const SHORT_TIMEOUT: Duration = Duration::from_millis(20);

    fn peers() -> Arc<Peers> {
        let (incoming, _) = incoming::queue();
        Arc::new(Peers::new(Dialer { tls: None, connect_timeout: LONG_TIMEOUT, incoming }, None))
    }

    fn any_request() -> RemotingCommand {
        RemotingCommand::request(request::GET_ROUTEINFO_BY_TOPIC).field("topic", "t")
    }

    #[tokio::test]
    async fn callers_share_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (peers, address) = (peers(), listener.local_addr().unwrap().to_string());
        let calls: Vec<_> = (0..20).map(|_| peers.call(&address, any_request(), SHORT_TIMEOUT)).collect();
        let failed = futures::future::join_all(calls).await;
        assert!(failed.iter().all(|failed| matches!(failed, Err(CallError::Timeout { .. }))));
        listener.accept().await.unwrap();
        assert!(listener.accept().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_request_to_an_unreachable_peer_was_not_carried_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (peers, address) = (peers(), listener.local_addr().unwrap().to_string());
        drop(listener);
        for _ in 0..2 {
            let failed = peers.call(&address, any_request(), LONG_TIMEOUT).await.unwrap_err();
            assert!(matches!(&failed, CallError::Connect { .. }) && !failed.maybe_done());
        }
    }

    #[tokio::test]
    async fn a_request_that_has_timed_out_is_not_written() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (peers, address) = (peers(), listener.local_addr().unwrap().to_string());
        // More than the system buffers for a peer that does not read.
        let large = || any_request().body(vec![b'x'; 8 << 20]);
        let calls: Vec<_> = (0..4).map(|_| peers.call(&address, large(), SHORT_TIMEOUT)).collect();
        futures::future::join_all(calls).await;
        let (mut stream, _) = listener.accept().await.unwrap();
        let last = tokio::spawn({
            let (peers, address) = (peers.clone(), address.clone());
            async move { peers.call(&address, any_request().field("last", true), LONG_TIMEOUT).await }
        });
        let (mut read, mut buffer, mut end) = (0, vec![0; 1 << 16], Vec::new());
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            read += count;
            end.extend_from_slice(&buffer[..count]);
            if String::from_utf8_lossy(&end).contains("\"last\"") {
                break;
            }
            end.drain(..end.len().saturating_sub(16));
        }
        assert!(read < 24 << 20, "{read} bytes were written for calls that had timed out");
        last.abort();
    }
}
