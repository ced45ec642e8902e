//! The port: accepts connections, finds out what they speak, and hands them to a protocol.
//!
//! ```text
//! tcp -> [PROXY protocol header] -> [TLS handshake] -> gRPC over HTTP/2
//! ```
//! Both bracketed parts are recognised by their first bytes, so one port serves everybody.

mod prefixed;
mod proxy_protocol;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::grpc;
use prefixed::Prefixed;
pub use tls::{Tls, TlsConfig, TlsError, TlsMode};

/// How long a new connection may take to say what it speaks.
const SNIFF_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A bound port.
pub struct Port {
    listener: TcpListener,
    tls: Tls,
    proxy_protocol: bool,
}

impl Port {
    /// Binds `host:port`; port 0 picks a free one.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn bind(listen: &str, tls: Tls, proxy_protocol: bool) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(listen).await?, tls, proxy_protocol })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of the system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves connections until `closing`; the tracker then knows those that still finish.
    pub async fn serve(self, server: grpc::Server, closing: CancellationToken) -> TaskTracker {
        let connections = TaskTracker::new();
        let acceptor = Arc::new(Acceptor {
            server,
            tls: self.tls,
            proxy_protocol: self.proxy_protocol,
            closing: closing.clone(),
        });
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = closing.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let acceptor = acceptor.clone();
                    connections.spawn(async move {
                        if let Err(error) = acceptor.handle(stream, peer).await {
                            tracing::debug!(%peer, %error, "connection");
                        }
                    });
                }
                // Out of file descriptors, most likely: others must close first.
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        connections.close();
        connections
    }
}

struct Acceptor {
    server: grpc::Server,
    tls: Tls,
    proxy_protocol: bool,
    closing: CancellationToken,
}

impl Acceptor {
    async fn handle(&self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let greeting = tokio::select! {
            greeting = tokio::time::timeout(SNIFF_TIMEOUT, self.sniff(&mut stream, peer)) => greeting,
            () = self.closing.cancelled() => return Ok(()),
        };
        let (first, peer) = greeting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let speaks_tls = first.first() == Some(&TLS_HANDSHAKE);
        let stream = Prefixed::new(first, stream);
        match (speaks_tls, self.tls.mode()) {
            (true, TlsMode::Off) | (false, TlsMode::Required) => Ok(()),
            (true, _) => {
                let stream = tokio::time::timeout(SNIFF_TIMEOUT, self.tls.accept(stream)).await;
                match stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
                    Some(stream) => self.server.serve(stream, peer, &self.closing).await,
                    None => Ok(()),
                }
            }
            (false, _) => self.server.serve(stream, peer, &self.closing).await,
        }
    }

    // Reads until it is clear what comes; returns what was read beyond a PROXY header, and who calls.
    async fn sniff(&self, stream: &mut TcpStream, peer: SocketAddr) -> io::Result<(BytesMut, Arc<str>)> {
        let mut peer: Arc<str> = peer.to_string().into();
        let mut first = BytesMut::with_capacity(256);
        read_some(stream, &mut first).await?;
        if !self.proxy_protocol {
            return Ok((first, peer));
        }
        loop {
            match proxy_protocol::parse(&first) {
                proxy_protocol::Parsed::None => return Ok((first, peer)),
                proxy_protocol::Parsed::Incomplete => read_some(stream, &mut first).await?,
                proxy_protocol::Parsed::Invalid => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "broken PROXY protocol header"));
                }
                proxy_protocol::Parsed::Header { length, source } => {
                    let _ = first.split_to(length);
                    if let Some(source) = source {
                        peer = source.to_string().into();
                    }
                    if first.is_empty() {
                        read_some(stream, &mut first).await?;
                    }
                    return Ok((first, peer));
                }
            }
        }
    }
}

async fn read_some(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
