use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Connection>>,
    dialing: Option<Dialing>,
    /// Why it could not be reached last, and when that was.
    unreachable: Option<(Instant, CallError)>,
}

/// Many callers wait for the same connection.
type Dialing = Shared<BoxFuture<'static, Result<Arc<Connection>, CallError>>>;

/// How long a peer that could not be reached is not tried again.
const PAUSE: Duration = Duration::from_millis(500);

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
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        let peer = self.peer(address);
        let connection = peer.connection((address, &self.dialer), within).await?;
        let answer = connection.call(&mut command, left()).await?;
        if answer.code != response::GO_AWAY {
            return Ok(answer);
        }
        // The peer is shutting down and has not carried out the request: once more on a new connection, which may
        // reach its successor.
        peer.leave(&connection);
        let connection = peer.connection((address, &self.dialer), left()).await?;
        let answer = connection.call(&mut command, left()).await?;
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
        // Brokers come and go, under new addresses.
        peers.retain(|_, peer| peer.is_of_use());
        peers.entry(address.to_owned()).or_default().clone()
    }
}

impl Peer {
    /// The open connection, or a new one, for a caller who waits so long.
    async fn connection(
        self: &Arc<Self>,
        (address, dialer): (&str, &Dialer),
        within: Duration,
    ) -> Result<Arc<Connection>, CallError> {
        let dialing = {
            let mut state = self.state.lock();
            if let Some(connection) = state.current.as_ref().filter(|connection| connection.is_open()) {
                return Ok(connection.clone());
            }
            if let Some((since, error)) = &state.unreachable
                && since.elapsed() < PAUSE
            {
                return Err(error.clone());
            }
            state.dialing.get_or_insert_with(|| self.dial(address, dialer)).clone()
        };
        let gave_up = |_| Err(CallError::NotConnected { address: address.to_owned(), within });
        tokio::time::timeout(within, dialing).await.unwrap_or_else(gave_up)
    }

    // It goes on although its first caller gave up, for the others that wait and will come.
    fn dial(self: &Arc<Self>, address: &str, dialer: &Dialer) -> Dialing {
        let (peer, address, dialer) = (self.clone(), address.to_owned(), dialer.clone());
        let dialing = async move {
            let opened = Connection::open(&address, &dialer).await.map(Arc::new);
            let mut state = peer.state.lock();
            state.dialing = None;
            state.current = opened.as_ref().ok().cloned();
            state.unreachable = opened.as_ref().err().map(|error| (Instant::now(), error.clone()));
            opened
        };
        let dialing = dialing.boxed().shared();
        tokio::spawn(dialing.clone().map(drop));
        dialing
    }

    /// Lets a connection drain: whoever uses it keeps it, new calls get another.
    fn leave(&self, connection: &Arc<Connection>) {
        let mut state = self.state.lock();
        if state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            state.current = None;
        }
    }

    fn is_of_use(&self) -> bool {
        let state = self.state.lock();
        state.dialing.is_some() || state.current.as_ref().is_some_and(|connection| connection.is_open())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::remoting::request;

    const ENOUGH: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(20);

    fn peers() -> Arc<Peers> {
        let (asked, _) = mpsc::channel(1);
        Arc::new(Peers::new(Dialer { tls: None, connect_timeout: ENOUGH, asked }, None))
    }

    fn question() -> Command {
        Command::request(request::GET_ROUTEINFO_BY_TOPIC).field("topic", "t")
    }

    #[tokio::test]
    async fn callers_share_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (peers, address) = (peers(), listener.local_addr().unwrap().to_string());
        let calls: Vec<_> = (0..20).map(|_| peers.call(&address, question(), SHORT)).collect();
        let failed = futures::future::join_all(calls).await;
        assert!(failed.iter().all(|failed| matches!(failed, Err(CallError::Timeout { .. }))));
        listener.accept().await.unwrap();
        assert!(listener.accept().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_peer_that_can_not_be_reached_has_done_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (peers, address) = (peers(), listener.local_addr().unwrap().to_string());
        drop(listener);
        for _ in 0..2 {
            let failed = peers.call(&address, question(), ENOUGH).await.unwrap_err();
            assert!(matches!(&failed, CallError::Connect { .. }) && !failed.maybe_done());
        }
    }

    #[tokio::test]
    async fn what_was_given_up_is_not_written_any_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (peers, address) = (peers(), listener.local_addr().unwrap().to_string());
        // More than the system takes from us for a peer that does not read.
        let large = || question().body(vec![b'x'; 8 << 20]);
        let calls: Vec<_> = (0..4).map(|_| peers.call(&address, large(), SHORT)).collect();
        futures::future::join_all(calls).await;
        let (mut stream, _) = listener.accept().await.unwrap();
        let last = tokio::spawn({
            let (peers, address) = (peers.clone(), address.clone());
            async move { peers.call(&address, question().field("last", true), ENOUGH).await }
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
        assert!(read < 24 << 20, "{read} bytes were written for calls that were given up");
        last.abort();
    }
}
