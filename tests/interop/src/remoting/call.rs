//! Connections to servers of the remoting protocol.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use rocketmq_thin_proxy::remoting::{CommandCodec, FrameError, RemotingCommand};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::codec::{Decoder, Encoder, Framed};

const ANSWER: Duration = Duration::from_secs(10);

/// A connection, as a stream and a sink of commands.
pub(super) type Connection = Framed<TcpStream, Codec>;

/// The proxy's codec, which takes commands by reference.
pub(super) struct Codec;

/// Connects to `HOST:PORT`.
pub(super) async fn connect(address: &str) -> Result<Connection> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    Ok(Framed::new(stream, Codec))
}

/// Sends one request on a connection of its own, and returns its answer.
pub(super) async fn call(address: &str, request: RemotingCommand) -> Result<RemotingCommand> {
    let code = request.code;
    let mut connection = connect(address).await?;
    connection.send(request).await?;
    let answer = timeout(ANSWER, connection.next()).await.with_context(|| format!("no answer to {code}"))?;
    Ok(answer.with_context(|| format!("{address} closed the connection after {code}"))??)
}

impl Decoder for Codec {
    type Item = RemotingCommand;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<RemotingCommand>, FrameError> {
        CommandCodec.decode(buffer)
    }
}

impl Encoder<RemotingCommand> for Codec {
    type Error = FrameError;

    fn encode(&mut self, command: RemotingCommand, buffer: &mut BytesMut) -> Result<(), FrameError> {
        CommandCodec.encode(&command, buffer)
    }
}
