//! How one message is written: a flag word, then what the flags announce, then the body to the end.
//!
//! The tag comes first because filters read nothing else. Times are milliseconds, as RocketMQ keeps them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::binary::{self, Malformed};
use crate::service::{BodyEncoding, Message, MessageKind};

const TAG: u16 = 1;
const GZIP: u16 = 1 << 1;
const BORN_AT: u16 = 1 << 2;
const TRACE: u16 = 1 << 3;
/// The message had deliveries before it came here: it is a dead letter.
const EARLIER_ATTEMPTS: u16 = 1 << 4;
/// A TRANSACTION message says how long its producer may take.
const RECOVERY: u16 = 1 << 5;
const KIND_SHIFT: u16 = 8;
const KIND_MASK: u16 = 0b111;

/// A message that is ready to be stored.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    /// Everything before the body.
    pub(super) head: Vec<u8>,
    /// The body, as it came.
    pub(super) body: Bytes,
}

impl Encoded {
    /// How many bytes it takes in a chunk.
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// A message as it was stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    /// What was sent.
    pub(super) message: Message,
    /// Deliveries it had in another topic, before it was moved here.
    pub(super) earlier_attempts: u32,
}

/// Writes a message down; `earlier_attempts` is 0 for all but dead letters.
pub(super) fn encode(message: &Message, earlier_attempts: u32) -> Encoded {
    let mut head = Vec::with_capacity(96);
    head.extend_from_slice(&flags(message, earlier_attempts).to_le_bytes());
    if let Some(tag) = &message.tag {
        binary::put_text(&mut head, tag);
    }
    binary::put_text(&mut head, &message.id);
    binary::put_text(&mut head, &message.born_host);
    if let Some(born_at) = message.born_at {
        binary::put_signed(&mut head, millis(born_at));
    }
    if let Some(trace) = &message.trace_context {
        binary::put_text(&mut head, trace);
    }
    if earlier_attempts > 0 {
        binary::put_number(&mut head, earlier_attempts.into());
    }
    put_kind(&mut head, &message.kind);
    binary::put_number(&mut head, message.keys.len() as u64);
    for key in &message.keys {
        binary::put_text(&mut head, key);
    }
    binary::put_number(&mut head, message.properties.len() as u64);
    for (key, value) in &message.properties {
        binary::put_text(&mut head, key);
        binary::put_text(&mut head, value);
    }
    Encoded { head, body: message.body.clone() }
}

/// Reads a message; its body shares the memory of `bytes`.
pub(super) fn decode(bytes: &Bytes) -> Result<Stored, Malformed> {
    let mut input = bytes.as_ref();
    let flags = take_flags(&mut input)?;
    let tag = if flags & TAG != 0 { Some(binary::text(&mut input)?.to_owned()) } else { None };
    let id = binary::text(&mut input)?.to_owned();
    let born_host = binary::text(&mut input)?.to_owned();
    let born_at = if flags & BORN_AT != 0 { Some(time(binary::signed(&mut input)?)) } else { None };
    let trace_context = if flags & TRACE != 0 { Some(binary::text(&mut input)?.to_owned()) } else { None };
    let earlier_attempts = if flags & EARLIER_ATTEMPTS != 0 {
        u32::try_from(binary::number(&mut input)?).map_err(|_| Malformed)?
    } else {
        0
    };
    let kind = take_kind(&mut input, flags)?;
    let mut keys = Vec::with_capacity(count(&mut input)?);
    for _ in 0..keys.capacity() {
        keys.push(binary::text(&mut input)?.to_owned());
    }
    let mut properties = Vec::with_capacity(count(&mut input)?);
    for _ in 0..properties.capacity() {
        properties.push((binary::text(&mut input)?.to_owned(), binary::text(&mut input)?.to_owned()));
    }
    let body = bytes.slice(bytes.len() - input.len()..);
    let body_encoding = if flags & GZIP != 0 { BodyEncoding::Gzip } else { BodyEncoding::Identity };
    let message =
        Message { id, kind, tag, keys, properties, body, body_encoding, born_at, born_host, trace_context };
    Ok(Stored { message, earlier_attempts })
}

/// Reads only the tag.
pub(super) fn tag(bytes: &[u8]) -> Result<Option<&str>, Malformed> {
    let mut input = bytes;
    let flags = take_flags(&mut input)?;
    if flags & TAG != 0 { binary::text(&mut input).map(Some) } else { Ok(None) }
}

/// Milliseconds since 1970, negative before.
pub(super) fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// The time that many milliseconds after 1970.
pub(super) fn time(millis: i64) -> SystemTime {
    let distance = Duration::from_millis(millis.unsigned_abs());
    let time = if millis < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

fn flags(message: &Message, earlier_attempts: u32) -> u16 {
    let mut flags = kind_number(&message.kind) << KIND_SHIFT;
    let mut set = |flag, condition: bool| flags |= if condition { flag } else { 0 };
    set(TAG, message.tag.is_some());
    set(GZIP, message.body_encoding == BodyEncoding::Gzip);
    set(BORN_AT, message.born_at.is_some());
    set(TRACE, message.trace_context.is_some());
    set(EARLIER_ATTEMPTS, earlier_attempts > 0);
    set(RECOVERY, matches!(message.kind, MessageKind::Transaction { recovery: Some(_) }));
    flags
}

fn take_flags(input: &mut &[u8]) -> Result<u16, Malformed> {
    let (flags, rest) = input.split_first_chunk::<2>().ok_or(Malformed)?;
    *input = rest;
    Ok(u16::from_le_bytes(*flags))
}

fn kind_number(kind: &MessageKind) -> u16 {
    match kind {
        MessageKind::Normal => 0,
        MessageKind::Fifo { .. } => 1,
        MessageKind::Delay { .. } => 2,
        MessageKind::Transaction { .. } => 3,
        MessageKind::Priority { .. } => 4,
        MessageKind::Lite { .. } => 5,
    }
}

fn put_kind(out: &mut Vec<u8>, kind: &MessageKind) {
    match kind {
        MessageKind::Normal | MessageKind::Transaction { recovery: None } => {}
        MessageKind::Fifo { group } => binary::put_text(out, group),
        MessageKind::Delay { deliver_at } => binary::put_signed(out, millis(*deliver_at)),
        MessageKind::Transaction { recovery: Some(recovery) } => {
            binary::put_number(out, u64::try_from(recovery.as_millis()).unwrap_or(u64::MAX));
        }
        MessageKind::Priority { priority } => binary::put_signed(out, (*priority).into()),
        MessageKind::Lite { lite_topic } => binary::put_text(out, lite_topic),
    }
}

fn take_kind(input: &mut &[u8], flags: u16) -> Result<MessageKind, Malformed> {
    Ok(match (flags >> KIND_SHIFT) & KIND_MASK {
        0 => MessageKind::Normal,
        1 => MessageKind::Fifo { group: binary::text(input)?.to_owned() },
        2 => MessageKind::Delay { deliver_at: time(binary::signed(input)?) },
        3 if flags & RECOVERY == 0 => MessageKind::Transaction { recovery: None },
        3 => MessageKind::Transaction { recovery: Some(Duration::from_millis(binary::number(input)?)) },
        4 => {
            MessageKind::Priority { priority: i32::try_from(binary::signed(input)?).map_err(|_| Malformed)? }
        }
        5 => MessageKind::Lite { lite_topic: binary::text(input)?.to_owned() },
        _ => return Err(Malformed),
    })
}

/// A number of items, each of which takes at least a byte: no more than there are bytes left.
fn count(input: &mut &[u8]) -> Result<usize, Malformed> {
    let count = usize::try_from(binary::number(input)?).map_err(|_| Malformed)?;
    if count > input.len() { Err(Malformed) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = MessageKind> {
        prop_oneof![
            Just(MessageKind::Normal),
            ".*".prop_map(|group| MessageKind::Fifo { group }),
            (-1_000i64..1 << 44).prop_map(|at| MessageKind::Delay { deliver_at: time(at) }),
            prop::option::of(0u64..1 << 40)
                .prop_map(|ms| MessageKind::Transaction { recovery: ms.map(Duration::from_millis) }),
            any::<i32>().prop_map(|priority| MessageKind::Priority { priority }),
            ".*".prop_map(|lite_topic| MessageKind::Lite { lite_topic }),
        ]
    }

    fn messages() -> impl Strategy<Value = Message> {
        let texts =
            (".*", prop::option::of(".*"), prop::collection::vec(".*", 0..4), ".*", prop::option::of(".*"));
        let rest = (
            prop::collection::vec((".*", ".*"), 0..4),
            prop::collection::vec(any::<u8>(), 0..200),
            prop::option::of(-1_000i64..1 << 44),
            any::<bool>(),
        );
        (kinds(), texts, rest).prop_map(
            |(kind, (id, tag, keys, born_host, trace_context), (properties, body, born, gzip))| Message {
                id,
                kind,
                tag,
                keys,
                properties,
                body: body.into(),
                body_encoding: if gzip { BodyEncoding::Gzip } else { BodyEncoding::Identity },
                born_at: born.map(time),
                born_host,
                trace_context,
            },
        )
    }

    proptest! {
        #[test]
        fn a_message_comes_back_as_it_was(message in messages(), earlier_attempts in 0u32..100) {
            let encoded = encode(&message, earlier_attempts);
            let bytes = Bytes::from([encoded.head.as_slice(), encoded.body.as_ref()].concat());
            prop_assert_eq!(tag(&bytes), Ok(message.tag.as_deref()));
            prop_assert_eq!(decode(&bytes), Ok(Stored { message, earlier_attempts }));
        }

        #[test]
        fn junk_is_refused_without_a_panic(junk in prop::collection::vec(any::<u8>(), 0..100)) {
            let bytes = Bytes::from(junk);
            let _ = tag(&bytes);
            let _ = decode(&bytes);
        }
    }
}
