//! Takes an accepted TCP connection to the protocol that serves it: reads a PROXY header, performs the TLS handshake,
//! lets [`protocol::detect`] find the protocol that the connection speaks, and hands the connection to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ipnet::IpNet;
use tokio::net::TcpStream;

use super::certificate;
use super::connection_limit::ConnectionLimit;
use super::connections::Connection;
use super::log_limit::LogLimit;
use super::prefixed::Prefixed;
use super::protocol::{self, Protocol, Refused, Stream, TlsState, read_some, send_refusal};
use super::proxy_protocol::{self, Parsed};
use super::tls::{Tls, TlsMode};

/// The first byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long to wait for the first bytes of a refused client. Its protocol decides how the reason is written.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves accepted connections in the protocols that they speak.
pub(super) struct Acceptor {
    pub(super) protocols: Vec<Arc<dyn Protocol>>,
    pub(super) tls: Tls,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) handshake_timeout: Duration,
    pub(super) send_timeout: Duration,
    pub(super) refused: LogLimit,
}

impl Acceptor {
    /// Serves one connection until it ends.
    pub(super) async fn handle(&self, stream: TcpStream, mut connection: Connection) -> io::Result<()> {
        stream.set_nodelay(true)?;
        connection.set_local(stream.local_addr()?);
        // Ends connections whose peer is gone or has stopped reading.
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(self.send_timeout))?;
        let (evicted, closing) = (connection.evicted(), connection.closing().clone());
        let served = async {
            let detected = tokio::select! {
                detected = tokio::time::timeout(self.handshake_timeout, self.detect(stream, &mut connection)) => detected,
                () = closing.cancelled() => return Ok(()),
            };
            let timed_out = |_| {
                io::Error::new(io::ErrorKind::TimedOut, "no protocol was detected within handshake_timeout")
            };
            let (protocol, stream) = detected.map_err(timed_out)??;
            connection.set_recognized();
            protocol.serve(stream, connection).await
        };
        tokio::select! {
            served = served => served,
            () = evicted.cancelled() => Err(io::Error::other("closed while idle: the limit on connections is reached")),
        }
    }

    /// Whether a PROXY header from this address is trusted.
    pub(super) fn is_balancer(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&ip))
    }

    /// Sends a client the reason why it is refused, in the protocol that it speaks. The connection of a client that uses
    /// TLS is only closed: the handshake would cost more than a refusal may.
    pub(super) async fn refuse(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        limit: ConnectionLimit,
    ) -> io::Result<()> {
        let refused = async {
            let mut first = BytesMut::with_capacity(256);
            read_some(&mut stream, &mut first).await?;
            self.read_proxy_header(&mut stream, &mut first, peer).await?;
            if first.first() == Some(&TLS_HANDSHAKE) {
                return Ok(());
            }
            let (protocol, stream) =
                protocol::detect(&self.protocols, Box::new(stream), first, TlsState::PLAINTEXT).await?;
            send_refusal(&*protocol, stream, Refused::Busy(limit.reason())).await
        };
        tokio::time::timeout(REFUSAL_TIMEOUT, refused).await.unwrap_or(Ok(()))
    }

    // Takes a connection through its PROXY header and TLS handshake to the protocol that it speaks.
    async fn detect(
        &self,
        mut stream: TcpStream,
        connection: &mut Connection,
    ) -> io::Result<(Arc<dyn Protocol>, Stream)> {
        let mut first = BytesMut::with_capacity(256);
        read_some(&mut stream, &mut first).await?;
        if let Some(source) = self.read_proxy_header(&mut stream, &mut first, connection.peer()).await? {
            connection.set_peer(source);
        }
        let (protocol, stream) = match (first.first() == Some(&TLS_HANDSHAKE), self.tls.mode()) {
            (true, TlsMode::Off) => return Err(invalid("the client uses TLS, but tls.mode is off")),
            (false, TlsMode::Required) => {
                return Err(invalid("the client does not use TLS, but tls.mode is required"));
            }
            (true, _) => {
                connection.set_encrypted();
                let offered = self.protocols.iter().filter_map(|protocol| protocol.alpn());
                let stream = self.tls.accept(Prefixed::new(first, stream), offered).await?;
                let session = stream.get_ref().1;
                let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
                // The handshake has verified that a trusted authority signed it.
                if let Some([certificate, ..]) = session.peer_certificates() {
                    connection.set_certificate(certificate::names(certificate));
                }
                let state = TlsState { encrypted: true, alpn };
                protocol::detect(&self.protocols, Box::new(stream), BytesMut::new(), state).await?
            }
            (false, _) => {
                protocol::detect(&self.protocols, Box::new(stream), first, TlsState::PLAINTEXT).await?
            }
        };
        if let Err(limit) = connection.check_peer() {
            if let Some(suppressed) = self.refused.permit() {
                let peer = connection.peer().ip();
                tracing::warn!(%peer, suppressed, "refusing a connection: {}", limit.reason());
            }
            send_refusal(&*protocol, stream, Refused::Busy(limit.reason())).await?;
            return Err(io::Error::other(limit.reason()));
        }
        Ok((protocol, stream))
    }

    // Removes a PROXY header from the first bytes, if there is one. Returns the client's address that the header
    // contains.
    async fn read_proxy_header(
        &self,
        stream: &mut TcpStream,
        first: &mut BytesMut,
        peer: SocketAddr,
    ) -> io::Result<Option<SocketAddr>> {
        let trusted = self.is_balancer(peer);
        let peer = peer.ip().to_canonical();
        loop {
            match proxy_protocol::parse(first) {
                Parsed::None => return Ok(None),
                _ if !trusted && proxy_protocol::is_header(first) => {
                    if let Some(suppressed) = self.refused.permit() {
                        tracing::warn!(
                            %peer, suppressed,
                            "refusing a connection with a PROXY header: its address is not in trusted_proxies"
                        );
                    }
                    return Err(invalid("PROXY header from a peer that is not in trusted_proxies"));
                }
                Parsed::Incomplete => read_some(stream, first).await?,
                Parsed::Invalid => return Err(invalid("malformed PROXY header")),
                Parsed::Header { length, source } => {
                    let _ = first.split_to(length);
                    if first.is_empty() {
                        read_some(stream, first).await?;
                    }
                    return Ok(source);
                }
            }
        }
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
