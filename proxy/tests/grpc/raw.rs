//! A bare HTTP/2 client for gRPC calls. It can stop in the middle of a request, and leave an answer unread.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection, and its result when it has ended.
pub(crate) struct Raw {
    sender: SendRequest<Bytes>,
    pub(crate) ended: JoinHandle<Result<(), h2::Error>>,
}

/// A call whose request may still be open.
pub(crate) struct RawCall {
    pub(crate) answer: ResponseFuture,
    pub(crate) request: SendStream<Bytes>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr, builder: &Builder) -> Self {
        Self::over(TcpStream::connect(address).await.expect("a connection"), builder).await
    }

    /// Connects as a balancer that passes on the client's address.
    pub(crate) async fn connect_for(address: SocketAddr, client: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let header = format!("PROXY TCP4 {client} 192.0.2.100 1000 2000\r\n");
        stream.write_all(header.as_bytes()).await.expect("written");
        Self::over(stream, &Builder::new()).await
    }

    async fn over(stream: TcpStream, builder: &Builder) -> Self {
        let (sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
        Self { sender: sender.ready().await.expect("ready"), ended: tokio::spawn(connection) }
    }

    /// How many concurrent calls the proxy allows.
    pub(crate) fn max_streams(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// Begins a call without sending its request.
    pub(crate) async fn call(&mut self, method: &str, headers: &[(&str, &str)]) -> RawCall {
        let path = format!("http://localhost/apache.rocketmq.v2.MessagingService/{method}");
        let mut request = Request::post(path).header("content-type", "application/grpc");
        request = request.header("x-mq-client-id", "raw");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        self.sender = self.sender.clone().ready().await.expect("ready");
        let (answer, request) = self.sender.send_request(request, false).expect("sent");
        RawCall { answer, request }
    }
}

impl RawCall {
    /// Sends the whole request.
    pub(crate) fn send(&mut self, request: Bytes) {
        self.request.send_data(request, true).expect("sent");
    }

    /// The gRPC status that ends the call.
    pub(crate) async fn status(self) -> Option<tonic::Code> {
        let (head, mut body) = self.answer.await.ok()?.into_parts();
        if head.headers.contains_key("grpc-status") {
            return Some(code(&head.headers));
        }
        while let Some(data) = body.data().await {
            let _ = body.flow_control().release_capacity(data.ok()?.len());
        }
        body.trailers().await.ok()?.map(|trailers| code(&trailers))
    }

    /// The body of the answer, unread.
    pub(crate) async fn body(self) -> RecvStream {
        self.answer.await.expect("an answer").into_body()
    }
}

fn code(headers: &HeaderMap) -> tonic::Code {
    tonic::Code::from_bytes(headers["grpc-status"].as_bytes())
}

/// A gRPC message, compressed or not.
pub(crate) fn frame(message: &[u8], compressed: bool) -> Bytes {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[u8::from(compressed)][..], &length, message].concat().into()
}

pub(crate) fn encoded(message: &impl Message) -> Bytes {
    frame(&message.encode_to_vec(), false)
}
