//! The record format of a message: flags, the fields that the flags announce, and the body up to the end.
//!
//! The tag comes first because filters by tag read nothing else. Times are in milliseconds, as in RocketMQ.

use std::time::Duration;

use bytes::Bytes;

use super::binary::{self, Malformed};
use crate::service::names::properties::is_reserved;
use crate::service::{BodyEncoding, DeadLetterOrigin, Delay, Message, TopicKind, millis, time};

const TAG: u16 = 1;
const GZIP: u16 = 1 << 1;
const BORN_AT: u16 = 1 << 2;
const TRACE: u16 = 1 << 3;
/// The message had deliveries in another topic: it is a dead letter, or in a retry topic.
const EARLIER_ATTEMPTS: u16 = 1 << 4;
/// A half message has a time after which its producer is asked.
const RECOVERY: u16 = 1 << 5;
/// An integer that the sender chose follows the properties.
const SENDERS_FLAG: u16 = 1 << 6;
const KIND_SHIFT: u16 = 8;
const KIND_MASK: u16 = 0b111;
/// The field is present although the kind of the message does not imply it.
const DELAY: u16 = 1 << 11;
const GROUP: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 13;
const LITE: u16 = 1 << 14;
/// The topic and the id that a dead letter had before.
const ORIGIN: u16 = 1 << 15;
/// Stands for the time of a delay whose time is unknown.
const UNTOLD: i64 = 0;

/// An encoded message.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    /// Everything before the body.
    pub(super) head: Vec<u8>,
    /// The body, as it was sent.
    pub(super) body: Bytes,
}

impl Encoded {
    /// Its size in a chunk, in bytes.
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// A decoded message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DecodedMessage {
    /// What was sent.
    pub(super) message: Message,
    /// How many deliveries it had in another topic, before it was moved to this one.
    pub(super) earlier_attempts: u32,
}

impl DecodedMessage {
    /// How many deliveries a dead letter had in the group that did not consume it.
    pub(super) fn attempts_of_others(&self) -> i32 {
        let is_dead_letter = self.message.dead_letter_origin.is_some();
        if is_dead_letter { self.earlier_attempts as i32 } else { 0 }
    }
}

/// Encodes a message. `earlier_attempts` is 0 unless it is a dead letter, or in a retry topic.
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
    if let Some(origin) = &message.dead_letter_origin {
        binary::put_text(&mut head, &origin.topic);
        binary::put_text(&mut head, &origin.message_id);
    }
    put_kind_fields(&mut head, message);
    binary::put_number(&mut head, message.keys.len() as u64);
    for key in &message.keys {
        binary::put_text(&mut head, key);
    }
    let properties = message.properties.iter().chain(&message.system_properties);
    binary::put_number(&mut head, properties.clone().count() as u64);
    for (key, value) in properties {
        binary::put_text(&mut head, key);
        binary::put_text(&mut head, value);
    }
    if message.flag != 0 {
        binary::put_signed(&mut head, message.flag.into());
    }
    Encoded { head, body: message.body.clone() }
}

/// Decodes a message. Its body shares the memory of `bytes`.
pub(super) fn decode(bytes: &Bytes) -> Result<DecodedMessage, Malformed> {
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
    let dead_letter_origin = if flags & ORIGIN != 0 {
        let topic = binary::text(&mut input)?.to_owned();
        Some(DeadLetterOrigin { topic, message_id: binary::text(&mut input)?.to_owned() })
    } else {
        None
    };
    let kinds = take_kind_fields(&mut input, flags)?;
    let mut keys = Vec::with_capacity(count(&mut input)?);
    for _ in 0..keys.capacity() {
        keys.push(binary::text(&mut input)?.to_owned());
    }
    let number = count(&mut input)?;
    let (mut properties, mut system_properties) = (Vec::with_capacity(number), Vec::new());
    for _ in 0..number {
        let pair = (binary::text(&mut input)?.to_owned(), binary::text(&mut input)?.to_owned());
        if is_reserved(&pair.0) { system_properties.push(pair) } else { properties.push(pair) }
    }
    let flag = if flags & SENDERS_FLAG != 0 {
        i32::try_from(binary::signed(&mut input)?).map_err(|_| Malformed)?
    } else {
        0
    };
    let body = bytes.slice(bytes.len() - input.len()..);
    let body_encoding = if flags & GZIP != 0 { BodyEncoding::Gzip } else { BodyEncoding::Identity };
    let message = Message {
        id,
        tag,
        keys,
        properties,
        system_properties,
        flag,
        body,
        body_encoding,
        born_at,
        born_host,
        trace_context,
        dead_letter_origin,
        ..kinds
    };
    Ok(DecodedMessage { message, earlier_attempts })
}

/// Decodes the tag alone.
pub(super) fn tag(bytes: &[u8]) -> Result<Option<&str>, Malformed> {
    let mut input = bytes;
    let flags = take_flags(&mut input)?;
    if flags & TAG != 0 { binary::text(&mut input).map(Some) } else { Ok(None) }
}

/// Decodes the message group alone.
pub(super) fn message_group(bytes: &[u8]) -> Result<Option<&str>, Malformed> {
    let mut input = bytes;
    let flags = take_flags(&mut input)?;
    let is_of = |kind| (flags >> KIND_SHIFT) & KIND_MASK == kind_number(kind);
    if flags & GROUP == 0 && !is_of(TopicKind::Fifo) {
        return Ok(None);
    }
    if flags & TAG != 0 {
        binary::text(&mut input)?;
    }
    let _id = binary::text(&mut input)?;
    let _born_host = binary::text(&mut input)?;
    if flags & BORN_AT != 0 {
        binary::signed(&mut input)?;
    }
    if flags & TRACE != 0 {
        binary::text(&mut input)?;
    }
    if flags & EARLIER_ATTEMPTS != 0 {
        binary::number(&mut input)?;
    }
    if flags & ORIGIN != 0 {
        let _topic = binary::text(&mut input)?;
        let _message_id = binary::text(&mut input)?;
    }
    if flags & RECOVERY != 0 {
        binary::number(&mut input)?;
    }
    if flags & DELAY != 0 || is_of(TopicKind::Delay) {
        binary::signed(&mut input)?;
    }
    binary::text(&mut input).map(Some)
}

fn flags(message: &Message, earlier_attempts: u32) -> u16 {
    let kind = message.kind();
    let mut flags = kind_number(kind) << KIND_SHIFT;
    let mut set = |flag, condition: bool| flags |= if condition { flag } else { 0 };
    set(TAG, message.tag.is_some());
    set(GZIP, message.body_encoding == BodyEncoding::Gzip);
    set(BORN_AT, message.born_at.is_some());
    set(TRACE, message.trace_context.is_some());
    set(EARLIER_ATTEMPTS, earlier_attempts > 0);
    set(RECOVERY, message.recovery.is_some());
    set(ORIGIN, message.dead_letter_origin.is_some());
    set(SENDERS_FLAG, message.flag != 0);
    set(DELAY, message.delay.is_some() && kind != TopicKind::Delay);
    set(GROUP, message.group.is_some() && kind != TopicKind::Fifo);
    set(PRIORITY, message.priority.is_some() && kind != TopicKind::Priority);
    set(LITE, message.lite_topic.is_some() && kind != TopicKind::Lite);
    flags
}

fn take_flags(input: &mut &[u8]) -> Result<u16, Malformed> {
    let (flags, rest) = input.split_first_chunk::<2>().ok_or(Malformed)?;
    *input = rest;
    Ok(u16::from_le_bytes(*flags))
}

fn kind_number(kind: TopicKind) -> u16 {
    match kind {
        // A message itself is never of the last three kinds.
        TopicKind::Normal | TopicKind::Mixed | TopicKind::Unspecified | TopicKind::Undeclared => 0,
        TopicKind::Fifo => 1,
        TopicKind::Delay => 2,
        TopicKind::Transaction => 3,
        TopicKind::Priority => 4,
        TopicKind::Lite => 5,
    }
}

fn put_kind_fields(out: &mut Vec<u8>, message: &Message) {
    if let Some(recovery) = message.recovery {
        binary::put_number(out, u64::try_from(recovery.as_millis()).unwrap_or(u64::MAX));
    }
    match message.delay {
        Some(Delay::Until(time)) => binary::put_signed(out, millis(time)),
        Some(Delay::Unknown) => binary::put_signed(out, UNTOLD),
        None => {}
    }
    if let Some(group) = &message.group {
        binary::put_text(out, group);
    }
    if let Some(priority) = message.priority {
        binary::put_signed(out, priority.into());
    }
    if let Some(lite_topic) = &message.lite_topic {
        binary::put_text(out, lite_topic);
    }
}

fn take_kind_fields(input: &mut &[u8], flags: u16) -> Result<Message, Malformed> {
    let kind = (flags >> KIND_SHIFT) & KIND_MASK;
    if kind > kind_number(TopicKind::Lite) {
        return Err(Malformed);
    }
    let has = |flag, own| flags & flag != 0 || kind == kind_number(own);
    let mut message = Message { half: kind == kind_number(TopicKind::Transaction), ..Message::default() };
    if flags & RECOVERY != 0 {
        message.recovery = Some(Duration::from_millis(binary::number(input)?));
    }
    if has(DELAY, TopicKind::Delay) {
        message.delay = Some(match binary::signed(input)? {
            UNTOLD => Delay::Unknown,
            at => Delay::Until(time(at)),
        });
    }
    if has(GROUP, TopicKind::Fifo) {
        message.group = Some(binary::text(input)?.to_owned());
    }
    if has(PRIORITY, TopicKind::Priority) {
        message.priority = Some(i32::try_from(binary::signed(input)?).map_err(|_| Malformed)?);
    }
    if has(LITE, TopicKind::Lite) {
        message.lite_topic = Some(binary::text(input)?.to_owned());
    }
    Ok(message)
}

/// The number of items that follow. Each takes at least a byte, which limits it.
fn count(input: &mut &[u8]) -> Result<usize, Malformed> {
    let count = usize::try_from(binary::number(input)?).map_err(|_| Malformed)?;
    if count > input.len() { Err(Malformed) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Messages that have only the fields that decide their kind.
    fn kinds() -> impl Strategy<Value = Message> {
        let delay = prop_oneof![
            Just(Delay::Unknown),
            (-1_000i64..1 << 44)
                .prop_filter("the value without a time", |at| *at != UNTOLD)
                .prop_map(|at| Delay::Until(time(at))),
        ];
        (
            any::<bool>(),
            prop::option::of((0u64..1 << 40).prop_map(Duration::from_millis)),
            prop::option::of(delay),
            prop::option::of(".*"),
            prop::option::of(any::<i32>()),
            prop::option::of(".*"),
        )
            .prop_map(|(half, recovery, delay, group, priority, lite_topic)| Message {
                half,
                recovery,
                delay,
                group,
                priority,
                lite_topic,
                ..Message::default()
            })
    }

    fn messages() -> impl Strategy<Value = Message> {
        let texts =
            (".*", prop::option::of(".*"), prop::collection::vec(".*", 0..4), ".*", prop::option::of(".*"));
        let rest = (
            prop::collection::vec((".*", ".*"), 0..4),
            prop::collection::vec(any::<u8>(), 0..200),
            prop::option::of(-1_000i64..1 << 44),
            any::<bool>(),
            prop::option::of((".*", ".*")),
            any::<i32>(),
        );
        (kinds(), texts, rest).prop_map(|(kinds, texts, (properties, body, born, gzip, origin, flag))| {
            let (id, tag, keys, born_host, trace_context) = texts;
            Message {
                id,
                tag,
                keys,
                properties,
                flag,
                body: body.into(),
                body_encoding: if gzip { BodyEncoding::Gzip } else { BodyEncoding::Identity },
                born_at: born.map(time),
                born_host,
                trace_context,
                dead_letter_origin: origin.map(|(topic, message_id)| DeadLetterOrigin { topic, message_id }),
                ..kinds
            }
        })
    }

    proptest! {
        #[test]
        fn a_message_is_decoded_as_it_was_encoded(message in messages(), earlier_attempts in 0u32..100) {
            let encoded = encode(&message, earlier_attempts);
            let bytes = Bytes::from([encoded.head.as_slice(), encoded.body.as_ref()].concat());
            prop_assert_eq!(tag(&bytes), Ok(message.tag.as_deref()));
            prop_assert_eq!(message_group(&bytes), Ok(message.group.as_deref()));
            prop_assert_eq!(decode(&bytes), Ok(DecodedMessage { message, earlier_attempts }));
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(junk in prop::collection::vec(any::<u8>(), 0..100)) {
            let bytes = Bytes::from(junk);
            let _ = tag(&bytes);
            let _ = message_group(&bytes);
            let _ = decode(&bytes);
        }
    }
}
