//! Reads the messages of a call's request, and limits their size, memory and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use h2::Reason;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Code;

use super::field_count::{self, FieldCountError, WireRequest};
use super::wire::{PREFIX, Refusal};
use crate::decompression::{InflateError, Inflating};
use crate::front::port::{Charge, Exhausted};

/// The maximum number of bytes that are allocated for a message before any of them have arrived.
const MAX_AHEAD: usize = 256 << 10;

/// How the messages of a request may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// No message is compressed.
    Identity,
    /// Messages with the compression flag are compressed with gzip.
    Gzip,
}

/// The limits of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLimits {
    /// The bytes of a message, both as sent and decompressed.
    pub(super) bytes: usize,
    /// The fields of a message at all levels.
    pub(super) fields: usize,
    /// The time a message may take to arrive.
    pub(super) timeout: Duration,
}

/// Reads the messages of a request.
pub(super) struct Reader<B = Incoming> {
    body: B,
    compression: Compression,
    limits: RequestLimits,
    charge: Charge,
    /// Bytes that were read and not decoded.
    buffered: Bytes,
    /// The deadline for the message that is being received.
    deadline: Option<Instant>,
}

impl<B: http_body::Body<Data = Bytes> + Send + Unpin> Reader<B>
where
    B::Error: Send,
{
    pub(super) fn new(body: B, compression: Compression, limits: RequestLimits, charge: Charge) -> Self {
        Self { body, compression, limits, charge, buffered: Bytes::new(), deadline: None }
    }

    /// The only message of a unary call.
    pub(super) async fn only<M: WireRequest>(&mut self) -> Result<M, Refusal> {
        let half_closed = || Refusal::status(Code::Internal, "Half-closed without a request");
        let bytes = self.next_bytes(Awaited::First).await?.ok_or_else(half_closed)?;
        if !(self.buffered.is_empty() && self.body.is_end_stream())
            && self.next_bytes(Awaited::First).await?.is_some()
        {
            return Err(Refusal::status(Code::Internal, "Too many requests"));
        }
        self.decode(bytes)
    }

    /// The next message of a stream. `None` if the client has ended the stream. The time limit applies from the first
    /// byte of the message on. Cancel safe: a part of a message that has arrived stays in the buffer.
    pub(super) async fn next<M: WireRequest>(&mut self) -> Result<Option<M>, Refusal> {
        // The previous message has been processed. A stream may be idle for days, and must not be charged for it. A message
        // that is being received remains charged for the whole buffer.
        if self.deadline.is_none() {
            self.charge.set(self.buffered.len())?;
        }
        match self.next_bytes(Awaited::Later).await? {
            None => Ok(None),
            Some(bytes) => self.decode(bytes).map(Some),
        }
    }

    /// The charge for the memory of the request. Keep it until the request is processed.
    pub(super) fn into_charge(self) -> Charge {
        self.charge
    }

    async fn next_bytes(&mut self, awaited: Awaited) -> Result<Option<Bytes>, Refusal> {
        // A message within one frame, which is the usual case, is not copied.
        while self.missing()? > 0 {
            let Some(data) = self.data(awaited).await? else {
                return if self.buffered.is_empty() {
                    Ok(None)
                } else {
                    Err(Refusal::status(Code::Internal, "Encountered end-of-stream mid-frame"))
                };
            };
            self.append(data)?;
        }
        self.deadline = None;
        self.charge.completed()?;
        self.charge.set(self.buffered.len())?;
        let end = PREFIX + announced_length(&self.buffered);
        let message = self.buffered.slice(PREFIX..end);
        let message = match (self.buffered[0], self.compression) {
            (0, _) => message,
            // The message stays in the buffer until then, because the future may be dropped there.
            (1, Compression::Gzip) => self.inflate(&message).await?,
            _ => {
                return Err(Refusal::status(
                    Code::Internal,
                    "the compression flag of the message is invalid",
                ));
            }
        };
        self.buffered = self.buffered.split_off(end);
        Ok(Some(message))
    }

    // While the next frame is awaited, all bytes must be in `buffered`, because the future may be dropped there.
    fn append(&mut self, data: Bytes) -> Result<(), Refusal> {
        if self.buffered.is_empty() {
            self.charge.set(data.len())?;
            self.buffered = data;
            return Ok(());
        }
        let filled = self.buffered.len() + data.len();
        let buffered = std::mem::take(&mut self.buffered);
        let mut whole = match buffered.try_into_mut() {
            Ok(whole) if whole.capacity() >= filled => whole,
            Ok(shared) => self.grow(&shared, filled)?,
            Err(shared) => self.grow(&shared, filled)?,
        };
        whole.extend_from_slice(&data);
        self.buffered = whole.freeze();
        Ok(())
    }

    // Copies these bytes to a larger buffer. Beyond `MAX_AHEAD`, its capacity is at most twice what has arrived.
    fn grow(&mut self, part: &[u8], filled: usize) -> Result<BytesMut, Refusal> {
        let whole = part.len() + missing_bytes(part, self.limits.bytes)?;
        let capacity = whole.min(MAX_AHEAD.max(2 * filled)).max(filled);
        self.charge.set(capacity)?;
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.extend_from_slice(part);
        Ok(buffer)
    }

    fn missing(&self) -> Result<usize, Refusal> {
        missing_bytes(&self.buffered, self.limits.bytes)
    }

    async fn data(&mut self, awaited: Awaited) -> Result<Option<Bytes>, Refusal> {
        loop {
            let frame = match self.body.frame().now_or_never() {
                Some(frame) => frame,
                None => self.wait(awaited).boxed().await?,
            };
            match frame {
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

    // Waits for the next frame. Between two messages, a stream has no deadline and can't be evicted.
    async fn wait(&mut self, awaited: Awaited) -> Result<Option<Result<Frame<Bytes>, B::Error>>, Refusal> {
        if self.buffered.is_empty() && awaited == Awaited::Later {
            return Ok(self.body.frame().await);
        }
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.limits.timeout);
        let evicted = self.charge.incomplete();
        tokio::select! {
            frame = self.body.frame() => Ok(frame),
            () = evicted.cancelled() => Err(Exhausted::Evicted.into()),
            () = tokio::time::sleep_until(deadline) => {
                let message = format!("the request did not arrive within {:?}", self.limits.timeout);
                Err(Refusal::status(Code::DeadlineExceeded, message))
            }
        }
    }

    async fn inflate(&mut self, message: &[u8]) -> Result<Bytes, Refusal> {
        let compressed = self.buffered.len();
        let mut inflating = Inflating::gzip(message, self.limits.bytes);
        loop {
            self.charge.set(compressed + inflating.next_capacity())?;
            match inflating.step() {
                Ok(Some(inflated)) => return Ok(inflated.into()),
                Ok(None) => tokio::task::yield_now().await,
                Err(InflateError::TooLong) => return Err(Refusal::Reset(Reason::CANCEL)),
                Err(InflateError::Malformed) => {
                    return Err(Refusal::status(Code::Internal, "the message is not valid gzip"));
                }
            }
        }
    }

    // Like Apache's proxy, answers a request that can't be decoded with UNKNOWN and no text.
    fn decode<M: WireRequest>(&self, bytes: Bytes) -> Result<M, Refusal> {
        match field_count::check::<M>(&bytes, self.limits.fields) {
            Ok(()) => M::decode(bytes).map_err(|_| Refusal::status(Code::Unknown, "")),
            Err(FieldCountError::Malformed) => Err(Refusal::status(Code::Unknown, "")),
            Err(FieldCountError::TooMany) => {
                let message = format!("the request has more than {} fields", self.limits.fields);
                Err(Refusal::status(Code::ResourceExhausted, message))
            }
        }
    }
}

/// Which message of a request is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The first message, or the end of a unary call: it must follow within the timeout.
    First,
    /// A later message of a stream, which may begin at any time.
    Later,
}

// The bytes of the first message that have not arrived. Until its prefix has arrived, those of the prefix.
fn missing_bytes(buffered: &[u8], max: usize) -> Result<usize, Refusal> {
    if buffered.len() < PREFIX {
        return Ok(PREFIX - buffered.len());
    }
    let length = announced_length(buffered);
    if length > max {
        return Err(Refusal::Reset(Reason::CANCEL));
    }
    Ok((PREFIX + length).saturating_sub(buffered.len()))
}

// The length of the first message, by its prefix.
fn announced_length(buffered: &[u8]) -> usize {
    buffered
        .get(1..PREFIX)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, |bytes| u32::from_be_bytes(bytes) as usize)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write;

    use futures::channel::mpsc::{self, UnboundedSender};
    use http_body_util::StreamBody;
    use rocketmq_thin_proto::v2 as pb;

    use super::super::wire::encode;
    use super::*;
    use crate::front::port::TransportConfig;
    use crate::front::port::{ConnectionBudget, MemoryBudget};

    type Frames = UnboundedSender<Result<Frame<Bytes>, Infallible>>;

    const LIMITS: RequestLimits =
        RequestLimits { bytes: 1 << 20, fields: 1000, timeout: Duration::from_secs(30) };

    fn connection(bytes: usize) -> std::sync::Arc<ConnectionBudget> {
        let config = TransportConfig { bytes, ..TransportConfig::default() };
        MemoryBudget::new(&config).connection(([10, 0, 0, 1], 1).into())
    }

    fn reader(
        compression: Compression,
        connection: &std::sync::Arc<ConnectionBudget>,
    ) -> (Frames, Reader<impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin + use<>>) {
        let (client, frames) = mpsc::unbounded();
        let charge = Charge::new(connection).expect("a call");
        (client, Reader::new(StreamBody::new(frames), compression, LIMITS, charge))
    }

    fn feed(client: &Frames, bytes: &[u8]) {
        client.unbounded_send(Ok(Frame::data(Bytes::copy_from_slice(bytes)))).expect("a reader");
    }

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(message).expect("written");
        let compressed = encoder.finish().expect("finished");
        let length = u32::try_from(compressed.len()).expect("short").to_be_bytes();
        [&[1][..], &length, &compressed].concat()
    }

    fn refused<T>(result: Result<T, Refusal>) -> Option<Code> {
        match result {
            Err(Refusal::Status(code, _)) => Some(code),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_read_that_is_cancelled_in_the_middle_of_a_message_loses_nothing() {
        let (client, mut reader) = reader(Compression::Identity, &connection(1 << 20));
        let sent = pb::TelemetryCommand {
            status: Some(pb::Status { code: 1, message: "a text".to_owned() }),
            command: None,
        };
        let mut read = Vec::new();
        for part in [encode(&sent), encode(&sent)].concat().chunks(5) {
            feed(&client, part);
            read.extend(reader.next().now_or_never().map(|next| next.expect("no refusal")));
        }
        assert_eq!(read, [Some(sent.clone()), Some(sent)]);
        drop(client);
        let end = reader.next::<pb::TelemetryCommand>().now_or_never().expect("no wait").expect("no refusal");
        assert_eq!(end, None);
    }

    #[tokio::test]
    async fn a_read_that_is_cancelled_while_it_decompresses_loses_nothing() {
        let (client, mut reader) = reader(Compression::Gzip, &connection(1 << 20));
        let message = "a text ".repeat(20_000);
        let sent = pb::TelemetryCommand { status: Some(pb::Status { code: 1, message }), command: None };
        feed(&client, &gzip(&prost::Message::encode_to_vec(&sent)));
        let mut cancelled = Box::pin(reader.next::<pb::TelemetryCommand>());
        assert!(futures::poll!(&mut cancelled).is_pending());
        drop(cancelled);
        assert_eq!(reader.next().await.expect("no refusal"), Some(sent));
    }

    #[tokio::test]
    async fn a_stream_between_two_messages_holds_no_memory() {
        let connection = connection(1 << 20);
        let (client, mut reader) = reader(Compression::Gzip, &connection);
        let message = "x".repeat(500_000);
        let sent = pb::TelemetryCommand { status: Some(pb::Status { code: 1, message }), command: None };
        feed(&client, &gzip(&prost::Message::encode_to_vec(&sent)));
        reader.next::<pb::TelemetryCommand>().await.expect("no refusal");
        assert!(reader.charge.bytes() > 500_000);
        let mut idle = Box::pin(reader.next::<pb::TelemetryCommand>());
        assert!(futures::poll!(&mut idle).is_pending());
        drop(idle);
        assert_eq!(reader.charge.bytes(), 0);
    }

    #[test]
    fn lengths_are_checked_before_memory_is_allocated() {
        assert!(matches!(missing_bytes(&[], 1), Ok(5)));
        assert!(matches!(missing_bytes(&[0, 0, 0, 0, 2, 1], 2), Ok(1)));
        assert!(missing_bytes(&[0, 0, 0, 0, 3], 2).is_err());
    }

    #[tokio::test]
    async fn compressed_messages_are_bounded_by_their_size_when_decompressed() {
        let message = |length| {
            let body = vec![0; length].into();
            pb::SendMessageRequest { messages: vec![pb::Message { body, ..Default::default() }] }
        };
        let connection = connection(4 << 20);
        for (length, fits) in [(0, true), (1 << 19, true), (1 << 20, false), (64 << 20, false)] {
            let (client, mut reader) = reader(Compression::Gzip, &connection);
            feed(&client, &gzip(&prost::Message::encode_to_vec(&message(length))));
            drop(client);
            let read = reader.only::<pb::SendMessageRequest>().await;
            assert_eq!(read.is_ok(), fits, "{length}");
        }
    }

    #[tokio::test]
    async fn decompressing_stops_where_the_budget_ends() {
        let connection = connection(100_000);
        let (client, mut reader) = reader(Compression::Gzip, &connection);
        feed(&client, &gzip(&vec![0; 1 << 20]));
        assert_eq!(refused(reader.only::<pb::SendMessageRequest>().await), Some(Code::ResourceExhausted));
    }

    #[tokio::test]
    async fn a_request_that_stops_in_the_middle_times_out() {
        let (client, mut reader) = reader(Compression::Identity, &connection(1 << 20));
        reader.limits.timeout = Duration::from_millis(10);
        // Between the messages of a stream there is no limit.
        let mut next = Box::pin(reader.next::<pb::TelemetryCommand>());
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut next).await.is_err());
        drop(next);
        feed(&client, &[0, 0, 0, 1, 0, 7]);
        assert_eq!(refused(reader.next::<pb::TelemetryCommand>().await), Some(Code::DeadlineExceeded));
    }

    #[tokio::test]
    async fn an_incomplete_request_is_evicted_to_make_room() {
        let connection = connection(600_000);
        let (stopped, mut waiting) = reader(Compression::Identity, &connection);
        feed(&stopped, &[&[0, 0, 8, 0, 0][..], &[7; 300_000]].concat());
        let mut waiting = Box::pin(waiting.only::<pb::SendMessageRequest>());
        assert!(futures::poll!(&mut waiting).is_pending());
        let (client, mut reader) = reader(Compression::Identity, &connection);
        let body = vec![1; 500_000].into();
        let sent = pb::SendMessageRequest { messages: vec![pb::Message { body, ..Default::default() }] };
        for part in encode(&sent).chunks(16 << 10) {
            feed(&client, part);
        }
        drop(client);
        assert_eq!(reader.only::<pb::SendMessageRequest>().await.expect("room"), sent);
        assert_eq!(refused(waiting.await), Some(Code::ResourceExhausted));
    }

    #[tokio::test]
    async fn a_request_with_too_many_fields_is_not_decoded() {
        let (client, mut reader) = reader(Compression::Identity, &connection(1 << 20));
        let entries = vec![pb::AckMessageEntry::default(); 1001];
        feed(&client, &encode(&pb::AckMessageRequest { entries, ..Default::default() }));
        drop(client);
        assert_eq!(refused(reader.only::<pb::AckMessageRequest>().await), Some(Code::ResourceExhausted));
    }
}
