//! An HTTP/2 connection without gRPC's manners.

use anyhow::Result;
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection that ends when it is dropped.
pub(crate) struct Peer {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

/// A call whose request may be open.
pub(crate) struct Call {
    answer: ResponseFuture,
    request: SendStream<Bytes>,
}

impl Peer {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        Self::with_window(address, 65_535).await
    }

    /// A peer that takes so many bytes of each answer and no more.
    pub(crate) async fn with_window(address: &str, window: u32) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = Builder::new().initial_window_size(window).handshake(stream).await?;
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, connection })
    }

    pub(crate) async fn call(&mut self, method: &str, gzip: bool) -> Result<Call> {
        let path = format!("http://proxy/apache.rocketmq.v2.MessagingService/{method}");
        let mut request = Request::post(path).header("content-type", "application/grpc");
        request = request.header("x-mq-client-id", "hostile");
        if gzip {
            request = request.header("grpc-encoding", "gzip");
        }
        let mut sender = self.sender.clone().ready().await?;
        let (answer, request) = sender.send_request(request.body(())?, false)?;
        Ok(Call { answer, request })
    }
}

impl Call {
    /// Sends the only message.
    pub(crate) fn send(&mut self, message: &[u8], compressed: bool) -> Result<()> {
        Ok(self.request.send_data(framed(message, compressed)?, true)?)
    }

    /// Sends a message after which there may be more.
    pub(crate) fn send_first(&mut self, message: &[u8], compressed: bool) -> Result<()> {
        Ok(self.request.send_data(framed(message, compressed)?, false)?)
    }

    /// Sends a part of a request that is announced to be longer.
    pub(crate) fn send_part(&mut self, announced: u32, part: usize) -> Result<()> {
        let framed = [&[0][..], &announced.to_be_bytes(), &vec![7; part]].concat();
        Ok(self.request.send_data(framed.into(), false)?)
    }

    pub(crate) fn reset(mut self) {
        self.request.send_reset(Reason::CANCEL);
    }

    pub(crate) async fn finish(self) -> Result<()> {
        let mut body = self.answer.await?.into_body();
        while let Some(data) = body.data().await {
            let _ = body.flow_control().release_capacity(data?.len());
        }
        Ok(())
    }
}

fn framed(message: &[u8], compressed: bool) -> Result<Bytes> {
    let length = u32::try_from(message.len())?.to_be_bytes();
    Ok([&[u8::from(compressed)][..], &length, message].concat().into())
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
