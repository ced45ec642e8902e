//! What the port asks of a protocol.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Connection;
use super::prefixed::Prefixed;

/// A byte stream: TCP or TLS.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A byte stream whose protocol is known. The bytes that told are read again.
pub type Stream = Prefixed<Box<dyn ByteStream>>;

/// What is known about a connection before its protocol is.
#[derive(Clone, Copy, Debug)]
pub struct Greeting<'a> {
    /// The first bytes, inside TLS if there is TLS. May be empty.
    pub first: &'a [u8],
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// The application protocol agreed on in the TLS handshake.
    pub alpn: Option<&'a [u8]>,
}

/// Whether a connection speaks a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// More bytes are needed.
    Undecided,
}

/// Why a client is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are too many connections; the text names the limit.
    Busy(&'static str),
    /// It speaks no protocol of this port.
    Unrecognized,
}

/// A protocol that shares the port with others.
#[async_trait]
pub trait Protocol: Send + Sync {
    /// Its name in TLS's application-layer protocol negotiation (ALPN), if it has one.
    fn alpn(&self) -> Option<&'static [u8]>;

    /// Whether a connection that begins like this speaks it.
    fn recognize(&self, greeting: Greeting<'_>) -> Recognition;

    /// What to send to a client that is not served, before the connection is closed.
    fn refusal(&self, refused: Refused) -> Vec<u8>;

    /// Serves one connection until it ends. Once [`Connection::closing`] is cancelled, takes no new calls and returns when
    /// those under way are answered.
    async fn serve(&self, stream: Stream, connection: Connection) -> io::Result<()>;
}
