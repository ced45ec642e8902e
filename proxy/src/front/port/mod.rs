//! A port: accepts connections, detects their protocols, and hands each connection to its protocol.
//!
//! ```text
//! tcp -> [PROXY header] -> [TLS handshake] -> the protocol that recognizes the first bytes
//! ```
//! The parts in brackets are optional, and detected by their first bytes, so one port serves all clients.

mod acceptor;
mod certificate;
mod config;
mod connection_limit;
mod connections;
mod counts;
mod limits;
mod log_limit;
mod memory_budget;
mod prefixed;
mod protocol;
mod proxy_protocol;
mod tls;
mod web;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use acceptor::Acceptor;
pub use config::TransportConfig;
use connection_limit::ConnectionLimit;
use connections::Connections;
pub use connections::{Connection, wait_until_drained};
pub use counts::PortCounts;
pub use limits::PortLimits;
use log_limit::LogLimit;
pub use memory_budget::{Charge, ConnectionBudget, Exhausted, MemoryBudget};
pub use prefixed::Prefixed;
pub use protocol::{ByteStream, ConnectionStart, Protocol, Recognition, Refused, Stream};
pub use tls::{Tls, TlsConfig, TlsError, TlsMode};
pub use web::{Web, WebBody, WebPeer};

#[doc(hidden)]
pub use proxy_protocol::fuzz as fuzz_proxy_header;

/// The first and the longest delay after a failed accept, which usually means that file descriptors are used up.
const FIRST_ACCEPT_DELAY: Duration = Duration::from_millis(50);
const MAX_ACCEPT_DELAY: Duration = Duration::from_secs(1);
/// How many refused clients are sent the reason at the same time. The connections of others are closed at once.
const MAX_CONCURRENT_REFUSALS: usize = 64;

/// A bound port, which does not accept connections yet.
pub struct Port {
    listener: TcpListener,
    options: PortOptions,
    counts: Arc<PortCounts>,
}

/// The options of a port.
#[derive(Clone)]
pub struct PortOptions {
    /// The TLS configuration of the server.
    pub tls: Tls,
    /// The networks of balancers whose PROXY headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits on connections and calls.
    pub transport: TransportConfig,
}

impl Port {
    /// Binds `host:port`. Port 0 picks a free port.
    ///
    /// # Errors
    /// Errors of the operating system.
    pub async fn bind(listen: &str, options: PortOptions) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(listen).await?, options, counts: Arc::default() })
    }

    /// The address that the port listens on.
    ///
    /// # Errors
    /// Errors of the operating system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The counters of the port's connections.
    #[must_use]
    pub fn counts(&self) -> Arc<PortCounts> {
        self.counts.clone()
    }

    /// Serves connections in these protocols until `closing` is cancelled. Returns the tasks of the connections that
    /// are still open.
    pub async fn serve(self, protocols: Vec<Arc<dyn Protocol>>, closing: CancellationToken) -> TaskTracker {
        let PortOptions { tls, trusted_proxies, transport } = self.options;
        let connections = Arc::new(Connections::new(&transport, self.counts, closing.clone()));
        let acceptor = Arc::new(Acceptor {
            protocols,
            tls,
            trusted_proxies,
            handshake_timeout: transport.handshake_timeout,
            send_timeout: transport.answer_timeout,
            refused: LogLimit::default(),
        });
        let tasks = TaskTracker::new();
        let refusals = Refusals { acceptor: acceptor.clone(), tasks: TaskTracker::new() };
        let failed = LogLimit::default();
        let mut delay = FIRST_ACCEPT_DELAY;
        let mut idle_check = tokio::time::interval(connections.idle_check_interval());
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = idle_check.tick() => {
                    connections.close_idle();
                    continue;
                }
                () = closing.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    delay = FIRST_ACCEPT_DELAY;
                    match connections.admit(peer, acceptor.is_balancer(peer)) {
                        Ok(connection) => serve(&acceptor, &tasks, stream, connection),
                        Err(limit) => refusals.refuse(stream, peer, limit),
                    }
                }
                Err(error) => {
                    if let Some(suppressed) = failed.permit() {
                        tracing::warn!(%error, suppressed, "failed to accept a connection");
                    }
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(MAX_ACCEPT_DELAY);
                }
            }
        }
        tasks.close();
        tasks
    }
}

fn serve(acceptor: &Arc<Acceptor>, tasks: &TaskTracker, stream: TcpStream, connection: Connection) {
    let acceptor = acceptor.clone();
    tasks.spawn(async move {
        let peer = connection.peer();
        if let Err(error) = acceptor.handle(stream, connection).await {
            tracing::debug!(%peer, %error, "a connection failed");
        }
    });
}

/// Refuses connections, and tells some of the clients why.
struct Refusals {
    acceptor: Arc<Acceptor>,
    tasks: TaskTracker,
}

impl Refusals {
    fn refuse(&self, stream: TcpStream, peer: SocketAddr, limit: ConnectionLimit) {
        if let Some(suppressed) = self.acceptor.refused.permit() {
            tracing::warn!(%peer, suppressed, "refusing a connection: {}", limit.reason());
        }
        if self.tasks.len() < MAX_CONCURRENT_REFUSALS {
            let acceptor = self.acceptor.clone();
            self.tasks.spawn(async move { acceptor.refuse(stream, peer, limit).await });
        }
    }
}
