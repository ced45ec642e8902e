//! The port: accepts connections, finds out what they speak, and hands them to a protocol.
//!
//! ```text
//! tcp -> [PROXY header] -> [TLS handshake] -> the protocol that recognizes the first bytes
//! ```
//! The bracketed parts are optional and recognized by their first bytes, so one port serves all clients.

mod acceptor;
mod budget;
mod certificate;
mod config;
mod connections;
mod counts;
mod log_limit;
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
pub use budget::{Budget, Charge, ConnectionBudget, Exhausted};
pub use config::TransportConfig;
pub use connections::{Connection, drained};
use connections::{Connections, Full};
pub use counts::PortCounts;
use log_limit::LogLimit;
pub use prefixed::Prefixed;
pub use protocol::{ByteStream, Greeting, Protocol, Recognition, Refused, Stream};
pub use tls::{Tls, TlsConfig, TlsError, TlsMode};
pub use web::{Web, WebBody, WebPeer};

#[doc(hidden)]
pub use proxy_protocol::fuzz as fuzz_proxy_header;

/// The shortest and the longest pause after a failure to accept, which usually means that file descriptors are used up.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How many refused connections are told the reason at a time. Others are closed immediately.
const REFUSALS: usize = 64;

/// A bound port.
pub struct Port {
    listener: TcpListener,
    options: PortOptions,
    counts: Arc<PortCounts>,
}

/// The options of a port.
#[derive(Clone)]
pub struct PortOptions {
    /// The server's side of TLS.
    pub tls: Tls,
    /// The networks of balancers whose PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Bounds on connections.
    pub transport: TransportConfig,
}

impl Port {
    /// Binds `host:port`; port 0 picks a free one.
    ///
    /// # Errors
    /// Errors of the system.
    pub async fn bind(listen: &str, options: PortOptions) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(listen).await?, options, counts: Arc::default() })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What it counts of its connections.
    #[must_use]
    pub fn counts(&self) -> Arc<PortCounts> {
        self.counts.clone()
    }

    /// Serves connections in these protocols until `closing`. Returns the tasks of the connections that are still open.
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
        let (tasks, refusals) = (TaskTracker::new(), TaskTracker::new());
        let failed = LogLimit::default();
        let mut pause = ACCEPT_PAUSE.0;
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
                    pause = ACCEPT_PAUSE.0;
                    match connections.admit(peer) {
                        Ok(connection) => serve(&acceptor, &tasks, stream, connection),
                        Err(full) => refuse(&acceptor, &refusals, (stream, peer), full),
                    }
                }
                Err(error) => {
                    if let Some(suppressed) = failed.permit() {
                        tracing::warn!(%error, suppressed, "cannot accept connections");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE.1);
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
            tracing::debug!(%peer, %error, "connection ended");
        }
    });
}

fn refuse(
    acceptor: &Arc<Acceptor>,
    refusals: &TaskTracker,
    (stream, peer): (TcpStream, SocketAddr),
    full: Full,
) {
    if let Some(suppressed) = acceptor.refused.permit() {
        tracing::warn!(%peer, suppressed, "refusing a connection: {}", full.reason());
    }
    if refusals.len() < REFUSALS {
        let acceptor = acceptor.clone();
        refusals.spawn(async move { acceptor.refuse(stream, full).await });
    }
}
