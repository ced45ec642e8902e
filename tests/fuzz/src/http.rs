//! Requests to the HTTP front end of a running proxy.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Headers that belong to the connection. With a wrong length, the proxy would wait for the rest of the body.
const OF_CONNECTION: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE];

/// A connection to a proxy.
pub(crate) struct Http {
    address: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, sender: None }
    }

    /// Sends an input, and reads the answer.
    pub(crate) async fn exchange(&mut self, input: &[u8]) {
        let Some(request) = request(input) else { return };
        let deletes = request.method() == Method::DELETE;
        let status = self.send(request).await;
        if deletes && status.is_some_and(|status| status.is_success()) {
            // Later inputs need what may have been deleted.
            for (path, body) in [("/v1/topics", r#"{"name": "t"}"#), ("/v1/groups", r#"{"name": "g"}"#)] {
                let made = Request::post(path).header("content-type", "application/json");
                self.send(made.body(body.into()).expect("a request")).await;
            }
        }
    }

    /// Sends a request, and reads the answer. `None` if the connection ends.
    pub(crate) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Option<StatusCode> {
        request.headers_mut().insert(HOST, HeaderValue::from_static("proxy"));
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await,
        };
        sender.ready().await.ok()?;
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status();
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR);
        let is_endless = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/event-stream");
        if answer.headers().get("content-type").is_some_and(is_endless) {
            return Some(status);
        }
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        if status.is_client_error() {
            let _: serde_json::Value = serde_json::from_slice(&body).expect("a problem in JSON");
        }
        self.sender = Some(sender);
        Some(status)
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        sender
    }
}

/// A request that is made of a method and a target, of headers `name: value` in lines, and of a body behind an empty line.
fn request(input: &[u8]) -> Option<Request<Full<Bytes>>> {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + 2..]));
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = first.split_once(' ')?;
    // A target of another form is not a path of the proxy.
    let request = Request::builder().method(method).uri(target.strip_prefix('/').map(|_| target)?);
    let mut request = request.body(Full::new(Bytes::copy_from_slice(body))).ok()?;
    *request.headers_mut() = headers(lines);
    (*request.method() != Method::CONNECT).then_some(request)
}

fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    lines.filter_map(header).filter(|(name, _)| !OF_CONNECTION.contains(name)).collect()
}
