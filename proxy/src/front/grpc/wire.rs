//! gRPC's framing over HTTP/2: length-prefixed messages, and the trailers that end a call.

use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use h2::Reason;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use rocketmq_thin_proto::KEEPS_BATCHES;
use tonic::Code;

/// The largest message that comes in, as Apache's proxy has it.
const MAX_MESSAGE: usize = 130 << 20;
/// How much of a message is awaited before room is made for all that it announces.
const TRUSTED: usize = 1 << 20;
/// About how many bytes of a streamed answer go into one frame.
const FRAME: usize = 64 << 10;
const PREFIX: usize = 5;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const BATCHES: HeaderName = HeaderName::from_static(KEEPS_BATCHES);

/// Why a call ends without an answer of its own.
#[derive(Debug)]
pub(super) enum Refusal {
    /// By a gRPC status.
    Status(Code, String),
    /// By an HTTP status beside it.
    Http(StatusCode, String),
    /// By a reset of the stream.
    Reset(Reason),
}

impl Refusal {
    pub(super) fn status(code: Code, message: impl Into<String>) -> Self {
        Self::Status(code, message.into())
    }
}

/// How a request's messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    Identity,
    /// Each message that says so.
    Gzip,
}

/// Reads the messages of a request.
pub(super) struct Reader<B = Incoming> {
    body: B,
    compression: Compression,
    ahead: Bytes,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> Reader<B> {
    pub(super) fn new(body: B, compression: Compression) -> Self {
        Self { body, compression, ahead: Bytes::new() }
    }

    /// The only message of a unary call.
    pub(super) async fn only<M: Message + Default>(&mut self) -> Result<M, Refusal> {
        let half_closed = || Refusal::status(Code::Internal, "Half-closed without a request");
        let bytes = self.next_bytes().await?.ok_or_else(half_closed)?;
        if !(self.ahead.is_empty() && self.body.is_end_stream()) && self.next_bytes().await?.is_some() {
            return Err(Refusal::status(Code::Internal, "Too many requests"));
        }
        decode(bytes)
    }

    /// The next message of a stream. None: the client has no more. Giving up the wait loses nothing: what has come of a
    /// message by then is kept.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Refusal> {
        self.next_bytes().await?.map(decode).transpose()
    }

    async fn next_bytes(&mut self) -> Result<Option<Bytes>, Refusal> {
        // The usual case needs no copy: a message lies within one frame.
        while self.missing()? > 0 {
            let Some(data) = self.data().await? else {
                return if self.ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(Refusal::status(Code::Internal, "Encountered end-of-stream mid-frame"))
                };
            };
            self.put_behind(data)?;
        }
        let length = announced(&self.ahead);
        let mut message = self.ahead.split_to(PREFIX + length);
        let compressed = message[0];
        let message = message.split_off(PREFIX);
        match (compressed, self.compression) {
            (0, _) => Ok(Some(message)),
            (1, Compression::Gzip) => gunzip(&message).map(Some),
            _ => Err(Refusal::status(Code::Internal, "the message is compressed in an unknown way")),
        }
    }

    // Nothing that was read may lie anywhere but in `ahead` while the next frame is awaited.
    fn put_behind(&mut self, data: Bytes) -> Result<(), Refusal> {
        if self.ahead.is_empty() {
            self.ahead = data;
            return Ok(());
        }
        let room = self.missing()?.min(TRUSTED).max(data.len());
        let ahead = std::mem::take(&mut self.ahead);
        let mut whole = ahead.try_into_mut().unwrap_or_else(|shared| {
            let mut own = BytesMut::with_capacity(shared.len() + room);
            own.extend_from_slice(&shared);
            own
        });
        whole.reserve(room);
        whole.extend_from_slice(&data);
        self.ahead = whole.freeze();
        Ok(())
    }

    fn missing(&self) -> Result<usize, Refusal> {
        missing_of(&self.ahead)
    }

    async fn data(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
                Some(Err(_)) => return Err(Refusal::Reset(Reason::CANCEL)),
            }
        }
    }
}

// Bytes that the first message still lacks.
fn missing_of(ahead: &[u8]) -> Result<usize, Refusal> {
    if ahead.len() < PREFIX {
        return Ok(PREFIX - ahead.len());
    }
    let length = announced(ahead);
    if length > MAX_MESSAGE {
        return Err(Refusal::Reset(Reason::CANCEL));
    }
    Ok((PREFIX + length).saturating_sub(ahead.len()))
}

fn announced(ahead: &[u8]) -> usize {
    ahead
        .get(1..PREFIX)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, |bytes| u32::from_be_bytes(bytes) as usize)
}

// Bytes that are no such message end the call as in Apache's proxy: UNKNOWN, without a word.
fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Refusal> {
    M::decode(bytes).map_err(|_| Refusal::status(Code::Unknown, ""))
}

fn gunzip(message: &[u8]) -> Result<Bytes, Refusal> {
    let mut out = Vec::new();
    let limit = MAX_MESSAGE as u64 + 1;
    let read = flate2::read::GzDecoder::new(message).take(limit).read_to_end(&mut out);
    match read {
        Ok(length) if length <= MAX_MESSAGE => Ok(out.into()),
        Ok(_) => Err(Refusal::Reset(Reason::CANCEL)),
        Err(_) => Err(Refusal::status(Code::Internal, "the message is not gzip")),
    }
}

/// The body of an answer.
pub(super) enum Body {
    /// Nothing but headers.
    Empty,
    /// One message, then the trailers.
    Unary(Option<Bytes>),
    /// What a stream brings, to its trailers.
    Stream(Pin<Box<dyn Stream<Item = Frame<Bytes>> + Send>>),
    /// Of a generated service.
    Generated(tonic::body::Body),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Unary(message) => match message.take() {
                Some(message) => Poll::Ready(Some(Ok(Frame::data(message)))),
                None => {
                    *self = Self::Empty;
                    Poll::Ready(Some(Ok(trailers(Code::Ok, ""))))
                }
            },
            Self::Stream(stream) => {
                let frame = ready!(stream.as_mut().poll_next(cx));
                Poll::Ready(frame.map(Ok))
            }
            Self::Generated(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Unary(_) | Self::Stream(_) => false,
            Self::Generated(body) => body.is_end_stream(),
        }
    }
}

/// A message with its prefix.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let mut buffer = BytesMut::with_capacity(PREFIX + message.encoded_len());
    encode_into(message, &mut buffer);
    buffer.freeze()
}

fn encode_into(message: &impl Message, buffer: &mut BytesMut) {
    let start = buffer.len();
    buffer.reserve(PREFIX);
    buffer.put_bytes(0, PREFIX);
    // A BytesMut grows as needed, so there is always room.
    let _ = message.encode(buffer);
    let length = u32::try_from(buffer.len() - start - PREFIX).unwrap_or(u32::MAX);
    buffer[start + 1..start + PREFIX].copy_from_slice(&length.to_be_bytes());
}

/// A frame that takes messages until it is large enough.
pub(super) struct Packer {
    buffer: BytesMut,
}

impl Packer {
    /// A frame with room for so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(bytes.min(FRAME)) }
    }

    pub(super) fn push(&mut self, message: &impl Message) {
        encode_into(message, &mut self.buffer);
    }

    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= FRAME
    }

    pub(super) fn finish(self) -> Frame<Bytes> {
        Frame::data(self.buffer.freeze())
    }
}

/// The end of a call.
pub(super) fn trailers(code: Code, message: &str) -> Frame<Bytes> {
    let mut headers = HeaderMap::with_capacity(2);
    put_status(&mut headers, code, message);
    Frame::trailers(headers)
}

/// The answer of a unary call.
pub(super) fn unary(message: &impl Message) -> Response<Body> {
    answer(Body::Unary(Some(encode(message))))
}

/// An answer whose messages come one after the other.
pub(super) fn streaming(frames: impl Stream<Item = Frame<Bytes>> + Send + 'static) -> Response<Body> {
    answer(Body::Stream(Box::pin(frames)))
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

/// The answer to a call that is refused; an error where the stream is to be reset.
pub(super) fn refuse(refusal: Refusal) -> Result<Response<Body>, h2::Error> {
    let mut response = Response::new(Body::Empty);
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
    if !message.is_empty()
        && let Ok(text) = HeaderValue::from_str(&percent_encode(message))
    {
        headers.insert(GRPC_MESSAGE, text);
    }
}

// As gRPC asks: everything but printable ASCII, and the percent sign itself.
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
    use std::convert::Infallible;

    use futures::FutureExt;
    use futures::channel::mpsc;
    use http_body_util::StreamBody;
    use rocketmq_thin_proto::v2 as pb;

    use super::*;

    #[test]
    fn texts_survive_the_header() {
        for (text, encoded) in [("a b[c]", "a b[c]"), ("50%", "50%25"), ("ü\n", "%C3%BC%0A")] {
            assert_eq!(percent_encode(text), encoded);
        }
    }

    #[test]
    fn a_wait_given_up_in_the_middle_of_a_message_loses_nothing() {
        let (client, frames) = mpsc::unbounded::<Result<Frame<Bytes>, Infallible>>();
        let mut reader = Reader::new(StreamBody::new(frames), Compression::Identity);
        let sent = pb::AckMessageEntry { message_id: "an id".to_owned(), ..Default::default() };
        let mut read = Vec::new();
        for part in [encode(&sent), encode(&sent)].concat().chunks(5) {
            client.unbounded_send(Ok(Frame::data(Bytes::copy_from_slice(part)))).unwrap();
            read.extend(reader.next().now_or_never().map(Result::unwrap));
        }
        assert_eq!(read, [Some(sent.clone()), Some(sent)]);
        drop(client);
        assert_eq!(reader.next::<pb::AckMessageEntry>().now_or_never().unwrap().unwrap(), None);
    }

    #[test]
    fn lengths_are_checked_before_room_is_made() {
        assert!(matches!(missing_of(&[]), Ok(5)));
        assert!(matches!(missing_of(&[0, 0, 0, 0, 2, 1]), Ok(1)));
        assert!(missing_of(&[0, 255, 255, 255, 255]).is_err());
    }

    #[test]
    fn messages_share_a_frame_until_it_is_full() {
        let mut packer = Packer::new(0);
        packer.push(&pb::HeartbeatResponse::default());
        packer.push(&pb::AckMessageEntry { message_id: "x".repeat(FRAME), ..Default::default() });
        assert!(packer.is_full());
        let data = packer.finish().into_data().unwrap_or_default();
        assert_eq!(&data[..6], &[0; 6]);
        assert_eq!(missing_of(&data[5..]).unwrap_or(1), 0);
    }
}
