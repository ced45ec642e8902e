//! The protocols that share a port, and how the port detects which of them a new connection speaks.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Connection;
use super::prefixed::Prefixed;

/// The byte stream of a connection: TCP or TLS.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A byte stream whose protocol is detected. Reading it begins with the bytes that the detection has read.
pub type Stream = Prefixed<Box<dyn ByteStream>>;

/// What is known about a connection when its protocol is detected.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionStart<'a> {
    /// The first bytes: those inside TLS, if the connection uses TLS. May be empty.
    pub first: &'a [u8],
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// The application protocol (ALPN) that the TLS handshake has agreed on.
    pub alpn: Option<&'a [u8]>,
}

/// Whether a connection speaks this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// The connection speaks it.
    Yes,
    /// The connection speaks something else.
    No,
    /// More bytes are needed to decide.
    Undecided,
}

/// Why a client is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are too many connections. The text says which limit is reached.
    Busy(&'static str),
    /// The client speaks no protocol of this port.
    Unrecognized,
}

/// A protocol that shares the port with others.
#[async_trait]
pub trait Protocol: Send + Sync {
    /// The protocol's name in the application-layer protocol negotiation (ALPN) of TLS, if it has one.
    fn alpn(&self) -> Option<&'static [u8]>;

    /// Decides whether a connection that begins like this speaks the protocol.
    fn recognize(&self, start: ConnectionStart<'_>) -> Recognition;

    /// The bytes to send to a client that is not served, before the connection is closed.
    fn refusal(&self, refused: Refused) -> Vec<u8>;

    /// Serves one connection until it ends. Once [`Connection::closing`] is cancelled, takes no new calls, and returns
    /// when the calls in flight are answered.
    async fn serve(&self, stream: Stream, connection: Connection) -> io::Result<()>;
}

/// How the TLS handshake of a connection has ended.
pub(super) struct TlsState {
    pub(super) encrypted: bool,
    pub(super) alpn: Option<Vec<u8>>,
}

impl TlsState {
    pub(super) const PLAINTEXT: Self = Self { encrypted: false, alpn: None };
}

/// Reads from a connection until one of the protocols recognizes it. `first` holds the bytes that were already read.
///
/// # Errors
/// `InvalidData` if no protocol recognizes it. A plaintext client is sent the refusal of the first protocol.
pub(super) async fn detect(
    protocols: &[Arc<dyn Protocol>],
    mut stream: Box<dyn ByteStream>,
    mut first: BytesMut,
    TlsState { encrypted, alpn }: TlsState,
) -> io::Result<(Arc<dyn Protocol>, Stream)> {
    loop {
        let mut undecided = false;
        for protocol in protocols {
            match protocol.recognize(ConnectionStart { first: &first, encrypted, alpn: alpn.as_deref() }) {
                Recognition::Yes => return Ok((protocol.clone(), Prefixed::new(first, stream))),
                Recognition::Undecided => undecided = true,
                Recognition::No => {}
            }
        }
        if !undecided {
            // A user with the wrong tool learns which protocol this port speaks.
            if let Some(protocol) = protocols.first().filter(|_| !encrypted) {
                send_refusal(&**protocol, stream, Refused::Unrecognized).await?;
            }
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the first bytes belong to no protocol of this port",
            ));
        }
        read_some(&mut stream, &mut first).await?;
    }
}

/// Sends a protocol's refusal, and closes the sending side.
pub(super) async fn send_refusal(
    protocol: &dyn Protocol,
    mut stream: impl ByteStream,
    refused: Refused,
) -> io::Result<()> {
    stream.write_all(&protocol.refusal(refused)).await?;
    stream.shutdown().await
}

/// Appends at least one byte to the buffer.
///
/// # Errors
/// `UnexpectedEof` if the peer has closed its sending side; errors of the stream.
pub(super) async fn read_some(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
