//! Reads the messages of a request, with limits on size, memory and time.

use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use h2::Reason;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Code;

use super::shape::{self, Misshapen, Request};
use super::wire::{PREFIX, Refusal};
use crate::front::port::{Charge, Exhausted};

/// How much is allocated at once for a message whose length is only announced.
const TRUSTED: usize = 256 << 10;
/// How much is decompressed before other tasks get a turn.
const INFLATED_AT_ONCE: usize = 64 << 10;

/// How a request's messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    Identity,
    /// Each message that says so.
    Gzip,
}

/// The limits of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLimits {
    /// Bytes of a message, as sent and when decompressed.
    pub(super) bytes: usize,
    /// Fields of a message.
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
    ahead: Bytes,
    /// The deadline for the message that is being received.
    deadline: Option<Instant>,
}

impl<B: http_body::Body<Data = Bytes> + Send + Unpin> Reader<B>
where
    B::Error: Send,
{
    pub(super) fn new(body: B, compression: Compression, limits: RequestLimits, charge: Charge) -> Self {
        Self { body, compression, limits, charge, ahead: Bytes::new(), deadline: None }
    }

    /// The only message of a unary call.
    pub(super) async fn only<M: Request>(&mut self) -> Result<M, Refusal> {
        let half_closed = || Refusal::status(Code::Internal, "Half-closed without a request");
        let bytes = self.next_bytes(Awaited::First).await?.ok_or_else(half_closed)?;
        if !(self.ahead.is_empty() && self.body.is_end_stream())
            && self.next_bytes(Awaited::First).await?.is_some()
        {
            return Err(Refusal::status(Code::Internal, "Too many requests"));
        }
        self.decode(bytes)
    }

    /// The next message of a stream, for which there is no time limit until it begins. None: the client has no more.
    /// Dropping the future loses nothing: the part of a message that has arrived is kept.
    pub(super) async fn next<M: Request>(&mut self) -> Result<Option<M>, Refusal> {
        match self.next_bytes(Awaited::Later).await? {
            None => Ok(None),
            Some(bytes) => self.decode(bytes).map(Some),
        }
    }

    /// The memory charged for the request. Keep it until the request is processed.
    pub(super) fn into_charge(self) -> Charge {
        self.charge
    }

    async fn next_bytes(&mut self, awaited: Awaited) -> Result<Option<Bytes>, Refusal> {
        // The usual case needs no copy: a message lies within one frame.
        while self.missing()? > 0 {
            let Some(data) = self.data(awaited).await? else {
                return if self.ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(Refusal::status(Code::Internal, "Encountered end-of-stream mid-frame"))
                };
            };
            self.append(data)?;
        }
        self.deadline = None;
        self.charge.completed()?;
        let length = announced(&self.ahead);
        let mut message = self.ahead.split_to(PREFIX + length);
        let compressed = message[0];
        let message = message.split_off(PREFIX);
        self.charge.set(message.len() + self.ahead.len())?;
        match (compressed, self.compression) {
            (0, _) => Ok(Some(message)),
            (1, Compression::Gzip) => self.inflate(&message).await.map(Some),
            _ => Err(Refusal::status(Code::Internal, "the message is compressed in an unknown way")),
        }
    }

    // All bytes read must be in `ahead` while the next frame is awaited, because the future may be dropped there.
    fn append(&mut self, data: Bytes) -> Result<(), Refusal> {
        if self.ahead.is_empty() {
            self.charge.set(data.len())?;
            self.ahead = data;
            return Ok(());
        }
        let filled = self.ahead.len() + data.len();
        let ahead = std::mem::take(&mut self.ahead);
        let mut whole = match ahead.try_into_mut() {
            Ok(whole) if whole.capacity() >= filled => whole,
            Ok(shared) => self.grown(&shared, filled)?,
            Err(shared) => self.grown(&shared, filled)?,
        };
        whole.extend_from_slice(&data);
        self.ahead = whole.freeze();
        Ok(())
    }

    // A buffer with these bytes and room for more, at most twice as large as what has arrived.
    fn grown(&mut self, part: &[u8], filled: usize) -> Result<BytesMut, Refusal> {
        let whole = part.len() + missing_of(part, self.limits.bytes)?;
        let capacity = whole.min(TRUSTED.max(2 * filled)).max(filled);
        self.charge.set(capacity)?;
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.extend_from_slice(part);
        Ok(buffer)
    }

    fn missing(&self) -> Result<usize, Refusal> {
        missing_of(&self.ahead, self.limits.bytes)
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

    // Waits for the next frame. A stream that is between two messages has no deadline and can't be evicted.
    async fn wait(&mut self, awaited: Awaited) -> Result<Option<Result<Frame<Bytes>, B::Error>>, Refusal> {
        if self.ahead.is_empty() && awaited == Awaited::Later {
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
        let compressed = self.charge.bytes();
        let mut decoder = flate2::read::GzDecoder::new(message);
        let mut out = Vec::new();
        loop {
            if out.len() == out.capacity() {
                let capacity =
                    (2 * out.capacity()).clamp(4 * message.len().min(TRUSTED), self.limits.bytes + 1);
                self.charge.set(compressed + capacity)?;
                out.reserve_exact(capacity - out.len());
            }
            let room = (out.capacity() - out.len()).min(INFLATED_AT_ONCE);
            let malformed = |_| Refusal::status(Code::Internal, "the message is not gzip");
            let read = decoder.by_ref().take(room as u64).read_to_end(&mut out).map_err(malformed)?;
            if read < room {
                return Ok(out.into());
            }
            if out.len() > self.limits.bytes {
                return Err(Refusal::Reset(Reason::CANCEL));
            }
            tokio::task::yield_now().await;
        }
    }

    // Apache's proxy, too, answers bytes that can't be decoded with UNKNOWN and no text.
    fn decode<M: Request>(&self, bytes: Bytes) -> Result<M, Refusal> {
        match shape::check::<M>(&bytes, self.limits.fields) {
            Ok(()) => M::decode(bytes).map_err(|_| Refusal::status(Code::Unknown, "")),
            Err(Misshapen::Malformed) => Err(Refusal::status(Code::Unknown, "")),
            Err(Misshapen::TooLarge) => {
                let message = format!("the request has more than {} fields", self.limits.fields);
                Err(Refusal::status(Code::ResourceExhausted, message))
            }
        }
    }
}

/// Which message of a request is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// One that must follow at once.
    First,
    /// One that may come at any time.
    Later,
}

// Bytes that the first message still lacks.
fn missing_of(ahead: &[u8], max: usize) -> Result<usize, Refusal> {
    if ahead.len() < PREFIX {
        return Ok(PREFIX - ahead.len());
    }
    let length = announced(ahead);
    if length > max {
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
    use crate::front::port::{Budget, ConnectionBudget};

    type Frames = UnboundedSender<Result<Frame<Bytes>, Infallible>>;

    const LIMITS: RequestLimits =
        RequestLimits { bytes: 1 << 20, fields: 1000, timeout: Duration::from_secs(30) };

    fn connection(bytes: usize) -> std::sync::Arc<ConnectionBudget> {
        let config = TransportConfig { bytes, ..TransportConfig::default() };
        Budget::new(&config).connection()
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

    #[test]
    fn lengths_are_checked_before_memory_is_allocated() {
        assert!(matches!(missing_of(&[], 1), Ok(5)));
        assert!(matches!(missing_of(&[0, 0, 0, 0, 2, 1], 2), Ok(1)));
        assert!(missing_of(&[0, 0, 0, 0, 3], 2).is_err());
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
    async fn an_incomplete_request_is_evicted_for_others() {
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
