//! Converts messages between [`Message`] and the brokers' form (Apache's `SendMessageActivity`, `GrpcConverter`).

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::remoting::message::{StoredMessage, flags};
use crate::remoting::{compression, properties};
use crate::service::names::properties as names;
use crate::service::names::{DEAD_LETTER_PREFIX, RETRY_PREFIX};
use crate::service::{
    BodyEncoding, DeadLetterOrigin, Delay, Delivery, KnownProperties, Message, ServiceError,
    ServiceErrorKind, millis, time,
};

/// The maximum number of bytes of inflated bodies of one answer.
const MAX_INFLATED: u64 = 64 << 20;

/// The remaining bytes of [`MAX_INFLATED`] for one answer.
pub(super) struct InflateBudget(u64);

impl Default for InflateBudget {
    fn default() -> Self {
        Self(MAX_INFLATED)
    }
}

/// The maximum number of bytes of properties that brokers can store, minus the properties that brokers add.
const PROPERTIES_LIMIT: usize = i16::MAX as usize - 512;

/// Checks that brokers can store the messages' properties. A broker refuses a single message with longer properties,
/// but misreads the rest of a batch with such a message.
///
/// # Errors
/// `Rejected`, like the broker's own refusal.
pub(super) fn check_properties(topic: &str, messages: &[Message]) -> Result<(), ServiceError> {
    // The properties are encoded only if the estimate exceeds the limit.
    let too_long = |message: &&Message| {
        properties_bound(topic, message) > PROPERTIES_LIMIT
            && properties(topic, message).len() > PROPERTIES_LIMIT
    };
    messages.iter().find(too_long).map_or(Ok(()), |message| {
        let text = format!(
            "the properties of message {:.64} are longer than the {PROPERTIES_LIMIT} bytes that brokers store",
            message.id
        );
        Err(ServiceError::new(ServiceErrorKind::Rejected, text))
    })
}

/// An upper bound for the encoded length of a message's properties, in bytes.
fn properties_bound(topic: &str, message: &Message) -> usize {
    const NAMES_AND_NUMBERS: usize = 512;
    let optional = [&message.tag, &message.trace_context, &message.group, &message.lite_topic];
    let texts = [topic, &message.id, &message.born_host].into_iter();
    let texts = texts.chain(optional.into_iter().flatten().map(String::as_str));
    let keys = message.keys.iter().map(|key| key.len() + 1);
    let user = message.properties.iter().chain(&message.system_properties);
    let user = user.map(|(key, value)| key.len() + value.len() + 2);
    NAMES_AND_NUMBERS + texts.map(str::len).chain(keys).chain(user).sum::<usize>()
}

/// A message's properties, encoded for brokers.
pub(super) fn properties<'a>(topic: &'a str, message: &'a Message) -> String {
    let born_at = millis(message.born_at.unwrap_or(SystemTime::UNIX_EPOCH)).to_string();
    let until = match message.delay {
        Some(Delay::Until(time)) => Some((names::TIMER_DELIVER_MS, millis(time).to_string().into())),
        _ => None,
    };
    // Brokers check only half messages.
    let known =
        KnownProperties::of(message).filter(|(key, _)| message.half || *key != names::CHECK_IMMUNITY_SECONDS);
    let system: Vec<(&str, Cow<'a, str>)> = [
        // Brokers send checks to the producer group. All gRPC producers of a topic are one group.
        (names::PRODUCER_GROUP, topic.into()),
        (names::BORN_HOST, message.born_host.as_str().into()),
        (names::BORN_TIMESTAMP, born_at.into()),
    ]
    .into_iter()
    .chain(known)
    .chain(until)
    .collect();
    let own = message.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let senders = message.system_properties.iter().map(|(key, value)| match key.as_str() {
        names::PRODUCER_GROUP => (names::OWN_PRODUCER_GROUP, value.as_str()),
        key => (key, value.as_str()),
    });
    let system = system.iter().map(|(key, value)| (*key, value.as_ref()));
    // If a name occurs twice, the last value counts.
    properties::encode(own.chain(senders).chain(system))
}

/// The `sysFlag` of a message.
pub(super) fn system_flags(message: &Message) -> i32 {
    let compressed = if message.body_encoding == BodyEncoding::Gzip { flags::COMPRESSED } else { 0 };
    let prepared = if message.half { flags::TRANSACTION_PREPARED } else { 0 };
    compressed | prepared
}

/// Converts a stored message. Bodies with a compression other than gzip, which `apache.rocketmq.v2` can't express, are
/// inflated here.
fn message(stored: &StoredMessage, budget: &mut InflateBudget) -> Message {
    let mut message = Message::default();
    let mut known = KnownProperties::default();
    let (mut origin_topic, mut origin_id) = (None, None);
    for (key, value) in properties::decode(&stored.properties) {
        if known.take(key, value) {
            if key == names::CHECK_IMMUNITY_SECONDS {
                // As with Apache's proxy, consumers see it among the user's properties.
                message.properties.push((key.to_owned(), value.to_owned()));
            }
            continue;
        }
        match key {
            names::BORN_HOST => message.born_host = value.to_owned(),
            names::TIMER_DELIVER_MS => {
                message.delay = Some(value.parse().map_or(Delay::Unknown, |at| Delay::Until(time(at))));
            }
            names::TIMER_DELAY_SEC => {
                let until = |seconds: i64| stored.born_at.saturating_add(seconds.saturating_mul(1000));
                let delay =
                    value.parse().map_or(Delay::Unknown, |seconds| Delay::Until(time(until(seconds))));
                message.delay = message.delay.filter(|known| *known != Delay::Unknown).or(Some(delay));
            }
            // These mark a delayed message whose delivery time is unknown, such as a dead letter.
            names::DELAY_LEVEL | names::TIMER_DELAY_MS => {
                message.delay = message.delay.or(Some(Delay::Unknown));
                if key == names::DELAY_LEVEL {
                    message.system_properties.push((key.to_owned(), value.to_owned()));
                }
            }
            names::DEAD_LETTER_ORIGIN_TOPIC => origin_topic = Some(value.to_owned()),
            names::DEAD_LETTER_ORIGIN_ID => origin_id = Some(value.to_owned()),
            // Contains the topic: see [`properties`].
            names::PRODUCER_GROUP => {}
            names::OWN_PRODUCER_GROUP => {
                message.system_properties.push((names::PRODUCER_GROUP.to_owned(), value.to_owned()));
            }
            // The record has a field for it.
            names::BORN_TIMESTAMP => {}
            names::POP_CHECK_POINT | names::FIRST_POP_TIME | names::REGION | names::TRACE_ON => {}
            _ if names::is_reserved(key) => {
                message.system_properties.push((key.to_owned(), value.to_owned()));
            }
            _ => message.properties.push((key.to_owned(), value.to_owned())),
        }
    }
    let recovery = known.recovery_secs.and_then(|seconds| u64::try_from(seconds).ok());
    let mut message = Message {
        id: known.id,
        tag: known.tag,
        keys: known.keys,
        group: known.group,
        priority: known.priority,
        lite_topic: known.lite_topic,
        half: known.half,
        recovery: recovery.map(Duration::from_secs),
        trace_context: known.trace_context,
        ..message
    };
    let origin = origin_topic.zip(origin_id);
    message.dead_letter_origin = origin.map(|(topic, message_id)| DeadLetterOrigin { topic, message_id });
    if message.id.is_empty() {
        message.id = stored.offset_id();
    }
    if message.born_host.is_empty() {
        message.born_host = stored.born_host.to_string();
    }
    message.flag = stored.flag;
    message.born_at = Some(time(stored.born_at));
    (message.body, message.body_encoding) = body(stored, budget);
    message
}

/// Converts a stored message to a delivery without a lease. The attempt is the one in the message itself.
pub(super) fn delivery(stored: &StoredMessage, topic: String, budget: &mut InflateBudget) -> Delivery {
    Delivery {
        message: message(stored, budget),
        topic,
        queue_id: stored.queue_id,
        queue_offset: stored.queue_offset,
        stored_at: time(stored.stored_at),
        store_host: stored.store_host.to_string(),
        attempt: stored.reconsume_times.saturating_add(1),
        attempts_of_others: 0,
        received_at: SystemTime::now(),
        invisible: Duration::ZERO,
        coordinates: String::new(),
    }
}

/// As [`delivery`], for administrators: also fills in the origin of a dead letter, which Apache's proxy hides from clients.
pub(super) fn delivery_with_origin(
    stored: &StoredMessage,
    topic: String,
    budget: &mut InflateBudget,
) -> Delivery {
    let mut delivery = delivery(stored, topic, budget);
    if delivery.message.dead_letter_origin.is_none()
        && let Some(group) = delivery.topic.strip_prefix(DEAD_LETTER_PREFIX)
    {
        let mut pairs = properties::decode(&stored.properties);
        let topic =
            pairs.find(|(key, _)| *key == names::RETRY_TOPIC).map(|(_, from)| normal_topic(from, group));
        let message_id = delivery.message.id.clone();
        delivery.message.dead_letter_origin = topic.map(|topic| DeadLetterOrigin { topic, message_id });
    }
    delivery
}

/// The topic for which a group's retry topic was created: the part after the group's name. Brokers use two separators.
/// Other topics are returned unchanged.
fn normal_topic(topic: &str, group: &str) -> String {
    let retry = topic.strip_prefix(RETRY_PREFIX).and_then(|rest| rest.strip_prefix(group));
    let normal = retry.and_then(|rest| rest.strip_prefix(['_', '+']));
    normal.unwrap_or(topic).to_owned()
}

fn body(stored: &StoredMessage, budget: &mut InflateBudget) -> (Bytes, BodyEncoding) {
    const GZIP: [u8; 2] = [0x1F, 0x8B];
    let body = stored.body.clone();
    if stored.system_flags & flags::COMPRESSED == 0 {
        return (body, BodyEncoding::Identity);
    }
    if body.starts_with(&GZIP) {
        return (body, BodyEncoding::Gzip);
    }
    let limit = budget.0;
    let inflated = compression::inflate(stored.system_flags, &body, limit);
    match inflated {
        Some(inflated) => {
            budget.0 -= inflated.len() as u64;
            (inflated.into(), BodyEncoding::Identity)
        }
        // The client can't decode the body, but still gets its bytes.
        None => (body, BodyEncoding::Gzip),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_inflated_bodies_of_one_answer_are_bounded() {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&vec![0; 30 << 20]).unwrap();
        let host = std::net::SocketAddr::from(([127, 0, 0, 1], 10911));
        let stored = StoredMessage {
            topic: "t".to_owned(),
            queue_id: 0,
            queue_offset: 0,
            commit_log_offset: 0,
            flag: 0,
            system_flags: flags::COMPRESSED,
            born_at: 0,
            born_host: host,
            stored_at: 0,
            store_host: host,
            reconsume_times: 0,
            properties: String::new(),
            body: zlib.finish().unwrap().into(),
        };
        let mut budget = InflateBudget::default();
        let mut inflated = || message(&stored, &mut budget).body_encoding == BodyEncoding::Identity;
        assert_eq!([inflated(), inflated(), inflated()], [true, true, false]);
    }

    #[test]
    fn properties_that_are_too_long_for_brokers_are_refused() {
        let full = Message {
            id: "i".repeat(30),
            tag: Some("t".repeat(40)),
            keys: vec!["k".to_owned(); 50],
            group: Some("g".repeat(60)),
            lite_topic: Some("l".repeat(60)),
            trace_context: Some("c".repeat(70)),
            born_host: "127.0.0.1:1".to_owned(),
            properties: vec![("p".to_owned(), "v".to_owned()); 100],
            delay: Some(Delay::Until(SystemTime::now())),
            half: true,
            recovery: Some(Duration::from_secs(3600)),
            priority: Some(i32::MAX),
            ..Message::default()
        };
        assert!(properties("topic", &full).len() <= properties_bound("topic", &full));
        assert_eq!(check_properties("topic", std::slice::from_ref(&full)), Ok(()));
        let long = Message { trace_context: Some("c".repeat(PROPERTIES_LIMIT)), ..full.clone() };
        let refused = check_properties("topic", &[full, long]);
        assert_eq!(refused.unwrap_err().kind, ServiceErrorKind::Rejected);
    }
}
