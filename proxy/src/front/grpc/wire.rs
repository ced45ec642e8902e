//! Encodes answers as gRPC over HTTP/2: length-prefixed messages, and the trailers that end a call.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use h2::Reason;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use prost::Message;
use rocketmq_thin_proto::KEEPS_BATCHES;
use tonic::Code;

use super::calls;
use crate::front::port::{Charge, Exhausted};

/// The largest part of an answer in bytes. The next part is encoded when the client can receive it.
const MAX_PART: usize = 64 << 10;
/// The bytes of the prefix of a message: a compression flag and the length.
pub(super) const PREFIX: usize = 5;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const BATCHES: HeaderName = HeaderName::from_static(KEEPS_BATCHES);

/// A refusal of a call by means of gRPC or HTTP/2, without a code of RocketMQ's contract.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A gRPC status.
    Status(Code, String),
    /// A gRPC status with an HTTP status.
    Http(StatusCode, String),
    /// A reset of the stream.
    Reset(Reason),
}

impl Refusal {
    pub(super) fn status(code: Code, message: impl Into<String>) -> Self {
        Self::Status(code, message.into())
    }
}

impl From<Exhausted> for Refusal {
    fn from(exhausted: Exhausted) -> Self {
        Self::status(Code::ResourceExhausted, exhausted.reason())
    }
}

/// The body of an answer.
pub(super) struct Body {
    source: Source,
    /// The part of the last frame that was not returned yet.
    remaining: Bytes,
    /// The charge for the memory of the answer. Released when dropped.
    charge: Option<Charge>,
}

enum Source {
    /// No body.
    Empty,
    /// One message and the trailers.
    Unary(Option<Bytes>),
    /// Frames. The last one contains the trailers.
    Stream(Pin<Box<dyn Stream<Item = Frame<Bytes>> + Send>>),
    /// The body of a generated service.
    Generated(tonic::body::Body),
}

impl Body {
    fn new(source: Source) -> Self {
        Self { source, remaining: Bytes::new(), charge: None }
    }

    /// The body of a generated service's answer.
    pub(super) fn generated(body: tonic::body::Body) -> Self {
        Self::new(Source::Generated(body))
    }

    fn next_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Unary(message) => match message.take() {
                Some(message) => Poll::Ready(Some(Ok(Frame::data(message)))),
                None => {
                    self.source = Source::Empty;
                    Poll::Ready(Some(Ok(trailers(Code::Ok, ""))))
                }
            },
            Source::Stream(stream) => {
                let frame = ready!(stream.as_mut().poll_next(cx));
                Poll::Ready(frame.map(Ok))
            }
            Source::Generated(body) => http_body::Body::poll_frame(Pin::new(body), cx),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        calls::part_requested();
        let data = if self.remaining.is_empty() {
            match ready!(self.next_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        } else {
            std::mem::take(&mut self.remaining)
        };
        calls::part_returned();
        let mut part = data;
        if part.len() > MAX_PART {
            self.remaining = part.split_off(MAX_PART);
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining.is_empty()
            && match &self.source {
                Source::Empty => true,
                Source::Unary(_) | Source::Stream(_) => false,
                Source::Generated(body) => http_body::Body::is_end_stream(body),
            }
    }
}

/// Encodes a message with its prefix.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let mut buffer = BytesMut::with_capacity(PREFIX + message.encoded_len());
    encode_into(message, &mut buffer);
    buffer.freeze()
}

fn encode_into(message: &impl Message, buffer: &mut BytesMut) {
    let start = buffer.len();
    buffer.reserve(PREFIX);
    buffer.put_bytes(0, PREFIX);
    message.encode(buffer).expect("a BytesMut grows as needed");
    let length = u32::try_from(buffer.len() - start - PREFIX).expect("an answer has less than 4 GiB");
    buffer[start + 1..start + PREFIX].copy_from_slice(&length.to_be_bytes());
}

/// Collects messages in one frame.
pub(super) struct Packer {
    buffer: BytesMut,
}

impl Packer {
    /// Creates a packer with this initial capacity in bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(bytes.min(MAX_PART)) }
    }

    pub(super) fn push(&mut self, message: &impl Message) {
        encode_into(message, &mut self.buffer);
    }

    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= MAX_PART
    }

    pub(super) fn finish(self) -> Frame<Bytes> {
        Frame::data(self.buffer.freeze())
    }
}

/// The trailers that end a call.
pub(super) fn trailers(code: Code, message: &str) -> Frame<Bytes> {
    let mut headers = HeaderMap::with_capacity(2);
    put_status(&mut headers, code, message);
    Frame::trailers(headers)
}

/// The answer to a unary call. The charge of the request becomes that of the answer.
pub(super) fn unary(message: &impl Message, mut charge: Charge) -> Result<Response<Body>, Refusal> {
    let message = encode(message);
    charge.set(message.len())?;
    let mut body = Body::new(Source::Unary(Some(message)));
    body.charge = Some(charge);
    Ok(answer(body))
}

/// The answer to a call that streams messages.
pub(super) fn streaming(frames: impl Stream<Item = Frame<Bytes>> + Send + 'static) -> Response<Body> {
    answer(Body::new(Source::Stream(Box::pin(frames))))
}

fn answer(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(GRPC_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(BATCHES, HeaderValue::from_static("true"));
    response
}

/// The answer to a refused call. `Err` resets the stream.
pub(super) fn refuse(refusal: Refusal) -> Result<Response<Body>, h2::Error> {
    let mut response = Response::new(Body::new(Source::Empty));
    match refusal {
        Refusal::Status(code, message) => {
            response.headers_mut().insert(CONTENT_TYPE, GRPC);
            put_status(response.headers_mut(), code, &message);
        }
        Refusal::Http(status, message) => {
            *response.status_mut() = status;
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, text);
            put_status(response.headers_mut(), Code::Internal, &message);
        }
        Refusal::Reset(reason) => return Err(reason.into()),
    }
    Ok(response)
}

fn put_status(headers: &mut HeaderMap, code: Code, message: &str) {
    headers.insert(GRPC_STATUS, HeaderValue::from(code as i32));
    if !message.is_empty() {
        let text = HeaderValue::from_str(&percent_encode(message)).expect("printable ASCII");
        headers.insert(GRPC_MESSAGE, text);
    }
}

// Encodes everything except printable ASCII, and the percent sign, as the gRPC protocol requires.
fn percent_encode(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use rocketmq_thin_proto::v2 as pb;

    use super::*;

    #[test]
    fn texts_are_percent_encoded() {
        for (text, encoded) in [("a b[c]", "a b[c]"), ("50%", "50%25"), ("ü\n", "%C3%BC%0A")] {
            assert_eq!(percent_encode(text), encoded);
        }
    }

    #[test]
    fn messages_share_a_frame_until_it_is_full() {
        let mut packer = Packer::new(0);
        packer.push(&pb::HeartbeatResponse::default());
        packer.push(&pb::AckMessageEntry { message_id: "x".repeat(MAX_PART), ..Default::default() });
        assert!(packer.is_full());
        let data = packer.finish().into_data().unwrap_or_default();
        assert_eq!(&data[..6], &[0; 6]);
        assert_eq!(data.len(), 2 * PREFIX + 4 + MAX_PART);
    }

    #[tokio::test]
    async fn a_large_answer_is_returned_in_parts() {
        let message = pb::AckMessageEntry { message_id: "x".repeat(2 * MAX_PART), ..Default::default() };
        let mut body = Body::new(Source::Unary(Some(encode(&message))));
        let mut lengths = Vec::new();
        while let Some(frame) = body.frame().await {
            lengths.push(frame.expect("a frame").into_data().map(|data| data.len()).unwrap_or_default());
        }
        assert_eq!(lengths, [MAX_PART, MAX_PART, 9, 0]);
    }
}
