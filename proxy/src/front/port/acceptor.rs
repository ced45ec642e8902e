//! From an accepted TCP connection to the protocol that serves it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::certificate;
use super::connections::{Connection, Full};
use super::log_limit::LogLimit;
use super::prefixed::Prefixed;
use super::protocol::{ByteStream, Greeting, Protocol, Recognition, Refused, Stream};
use super::proxy_protocol::{self, Parsed};
use super::tls::{Tls, TlsMode};

/// The first byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long to wait for the first bytes of a refused client, whose protocol decides how it is told the reason.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Detects the protocol of connections.
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
        // Ends connections to peers that are gone or stop reading.
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(self.send_timeout))?;
        let (evicted, closing) = (connection.evicted(), connection.closing().clone());
        let served = async {
            let greeted = tokio::select! {
                greeted = tokio::time::timeout(self.handshake_timeout, self.greet(stream, &mut connection)) => greeted,
                () = closing.cancelled() => return Ok(()),
            };
            let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "no protocol was recognized in time");
            let (protocol, stream) = greeted.map_err(timed_out)??;
            protocol.serve(stream, connection).await
        };
        tokio::select! {
            served = served => served,
            () = evicted.cancelled() => Err(io::Error::other("closed while idle, because the limit on connections was reached")),
        }
    }

    /// Tells a client why it is refused, once its protocol is known.
    pub(super) async fn refuse(&self, stream: TcpStream, full: Full) -> io::Result<()> {
        let recognized = tokio::time::timeout(REFUSAL_TIMEOUT, async {
            let greeting = Greeted { encrypted: false, alpn: None };
            self.recognize(Box::new(stream), BytesMut::new(), greeting).await
        });
        if let Ok(Ok((protocol, stream))) = recognized.await {
            send_refusal(&*protocol, stream, Refused::Busy(full.reason())).await?;
        }
        Ok(())
    }

    async fn greet(
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
            (true, TlsMode::Off) => return Err(invalid("TLS is off")),
            (false, TlsMode::Required) => return Err(invalid("TLS is required")),
            (true, _) => {
                connection.set_encrypted();
                let offered = self.protocols.iter().filter_map(|protocol| protocol.alpn());
                let stream = self.tls.accept(Prefixed::new(first, stream), offered).await?;
                let session = stream.get_ref().1;
                let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
                // The handshake has verified its authority.
                if let Some([certificate, ..]) = session.peer_certificates() {
                    connection.set_certificate(certificate::names(certificate));
                }
                let greeting = Greeted { encrypted: true, alpn };
                self.recognize(Box::new(stream), BytesMut::new(), greeting).await?
            }
            (false, _) => {
                self.recognize(Box::new(stream), first, Greeted { encrypted: false, alpn: None }).await?
            }
        };
        if let Err(full) = connection.check_peer() {
            if let Some(suppressed) = self.refused.permit() {
                let peer = connection.peer().ip();
                tracing::warn!(%peer, suppressed, "refusing a connection: {}", full.reason());
            }
            send_refusal(&*protocol, stream, Refused::Busy(full.reason())).await?;
            return Err(io::Error::other(full.reason()));
        }
        Ok((protocol, stream))
    }

    // Reads until one protocol recognizes the connection as its own.
    async fn recognize(
        &self,
        mut stream: Box<dyn ByteStream>,
        mut first: BytesMut,
        Greeted { encrypted, alpn }: Greeted,
    ) -> io::Result<(Arc<dyn Protocol>, Stream)> {
        loop {
            let mut undecided = false;
            for protocol in &self.protocols {
                match protocol.recognize(Greeting { first: &first, encrypted, alpn: alpn.as_deref() }) {
                    Recognition::Yes => return Ok((protocol.clone(), Prefixed::new(first, stream))),
                    Recognition::Undecided => undecided = true,
                    Recognition::No => {}
                }
            }
            if !undecided {
                // Helps people who connect with the wrong tool.
                if let Some(protocol) = self.protocols.first().filter(|_| !encrypted) {
                    send_refusal(&**protocol, stream, Refused::Unrecognized).await?;
                }
                return Err(invalid("the first bytes belong to no protocol that is served here"));
            }
            read_some(&mut stream, &mut first).await?;
        }
    }

    // Takes a PROXY header off the first bytes. Returns the address of the client behind the balancer.
    async fn read_proxy_header(
        &self,
        stream: &mut TcpStream,
        first: &mut BytesMut,
        peer: SocketAddr,
    ) -> io::Result<Option<SocketAddr>> {
        let peer = peer.ip().to_canonical();
        let trusted = self.trusted_proxies.iter().any(|network| network.contains(&peer));
        loop {
            match proxy_protocol::parse(first) {
                Parsed::None => return Ok(None),
                _ if !trusted && proxy_protocol::is_header(first) => {
                    if let Some(suppressed) = self.refused.permit() {
                        tracing::warn!(
                            %peer, suppressed,
                            "refusing a connection: it begins with a PROXY header, but its address is not in trusted_proxies"
                        );
                    }
                    return Err(invalid("a PROXY header from a peer that is not trusted"));
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

// What is known of a connection before its protocol.
struct Greeted {
    encrypted: bool,
    alpn: Option<Vec<u8>>,
}

impl Full {
    /// The reason, for logs and clients.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::All => "too many connections (transport.connections)",
            Self::Peer => "too many connections from this address (transport.connections_per_peer)",
        }
    }
}

async fn send_refusal(
    protocol: &dyn Protocol,
    mut stream: impl ByteStream,
    refused: Refused,
) -> io::Result<()> {
    stream.write_all(&protocol.refusal(refused)).await?;
    stream.shutdown().await
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn read_some(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
