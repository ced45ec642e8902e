//! Converts between the messages of classic clients and the processor's messages.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::SystemTime;

use bytes::Bytes;
use thiserror::Error;

use super::log_position;
use crate::decompression::is_zlib;
use crate::processor::{Draft, PropertyRules, TopicName};
use crate::remoting::message::{StoredMessage, flags};
use crate::remoting::properties;
use crate::service::names::properties as names;
use crate::service::{
    BodyEncoding, ChosenQueue, Delay, Delivery, KnownProperties, Message, SentBack, delay_level, millis, time,
};

/// The fields of a send request that all its messages share.
#[derive(Clone, Debug)]
pub(super) struct SendHeader {
    pub(super) topic: String,
    pub(super) producer_group: String,
    pub(super) system_flags: i32,
    /// In milliseconds since 1970.
    pub(super) born_at: i64,
    pub(super) queue: Option<ChosenQueue>,
    /// A number that the application chooses. The messages of a batch have their own.
    pub(super) flag: i32,
    /// Set if a consumer sends the message to its group's retry topic.
    pub(super) sent_back: Option<SentBack>,
}

impl SendHeader {
    /// Whether the bodies are compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.system_flags & flags::COMPRESSED != 0
    }
}

/// The id of the client that waits for a reply, from the properties of the request or the reply.
pub(super) fn requester(text: &str) -> Option<&str> {
    properties::decode(text).find(|(key, _)| *key == names::REPLY_TO_CLIENT).map(|(_, client)| client)
}

/// What a draft and each of its properties take in memory besides their texts and the body, about.
const DRAFT_BYTES: usize = 1 << 10;
const PROPERTY_BYTES: usize = 128;

/// The error if a property that delays the message is not a number. Apache's brokers refuse the message, too.
#[derive(Debug, Error)]
#[error("the property {key} is not a number: {value:.100}")]
pub(super) struct UnreadableDelay {
    key: &'static str,
    value: String,
}

/// Approximately how many bytes a draft takes in memory, without its body.
pub(super) fn draft_bytes(header: &SendHeader, properties: &str) -> usize {
    let broker = header.queue.as_ref().and_then(|queue| queue.broker.as_ref()).map_or(0, String::len);
    let texts = header.topic.len() + header.producer_group.len() + broker + properties.len();
    DRAFT_BYTES + texts + PROPERTY_BYTES * properties::count(properties)
}

/// Converts a message that a producer sent. The body must be decompressed, so that consumers of all protocols can
/// read it.
///
/// # Errors
/// [`UnreadableDelay`].
pub(super) fn draft(header: &SendHeader, properties: &str, body: Bytes) -> Result<Draft, UnreadableDelay> {
    let mut draft = Draft {
        topic: TopicName { namespace: String::new(), name: header.topic.clone() },
        property_rules: PropertyRules::Broker,
        producer_group: header.producer_group.clone(),
        queue: header.queue.clone(),
        flag: header.flag,
        sent_back: header.sent_back,
        born_at: Some(time(header.born_at)),
        body,
        ..Draft::default()
    };
    let now = millis(SystemTime::now());
    let mut known = KnownProperties::default();
    let mut delays = Delays::default();
    for (key, value) in properties::decode(properties) {
        match key {
            _ if known.take(key, value) => {}
            names::DELAY_LEVEL => delays.level = Some(value),
            names::TIMER_DELAY_SEC => delays.seconds = Some(value),
            names::TIMER_DELAY_MS => delays.millis = Some(value),
            names::TIMER_DELIVER_MS => delays.deliver_at = Some(value),
            // Only brokers set these.
            names::POP_CHECK_POINT | names::BORN_HOST | names::BORN_TIMESTAMP => {}
            _ if names::is_reserved(key) => draft.system_properties.push((key.to_owned(), value.to_owned())),
            _ => draft.properties.push((key.to_owned(), value.to_owned())),
        }
    }
    let mut draft = Draft {
        id: known.id,
        tag: known.tag,
        keys: known.keys,
        message_group: known.group,
        priority: known.priority,
        lite_topic: known.lite_topic,
        transaction: known.half,
        recovery_secs: known.recovery_secs,
        trace_context: known.trace_context,
        ..draft
    };
    if draft.transaction {
        // Brokers, too, ignore the delay of a half message.
        if !draft.system_properties.iter().any(|(key, _)| key == names::PRODUCER_GROUP) {
            draft.system_properties.push((names::PRODUCER_GROUP.to_owned(), header.producer_group.clone()));
        }
    } else {
        let (level, deliver_at_ms) = delays.read(now)?;
        draft.deliver_at_ms = deliver_at_ms;
        // Consumers read the level.
        draft.system_properties.extend(level.map(|level| (names::DELAY_LEVEL.to_owned(), level.to_owned())));
    }
    if draft.id.is_empty() {
        draft.id = new_id();
    }
    Ok(draft)
}

/// The properties that delay a message, as the sender wrote them.
#[derive(Default)]
struct Delays<'a> {
    level: Option<&'a str>,
    seconds: Option<&'a str>,
    millis: Option<&'a str>,
    deliver_at: Option<&'a str>,
}

impl<'a> Delays<'a> {
    /// Returns the level, if it delays the message, and when to deliver the message, in milliseconds since 1970. Of
    /// several properties, one counts, in the order of Apache's brokers.
    fn read(self, now: i64) -> Result<(Option<&'a str>, Option<i64>), UnreadableDelay> {
        let after = |delay: i64| Some(now.saturating_add(delay));
        if let Some(level) = self.level
            && let Some(delay) = delay_level::duration(number(names::DELAY_LEVEL, level)?)
        {
            return Ok((Some(level), after(delay.as_millis().try_into().unwrap_or(i64::MAX))));
        }
        let deliver_at = match self {
            Self { seconds: Some(seconds), .. } => {
                after(number::<i64>(names::TIMER_DELAY_SEC, seconds)?.saturating_mul(1000))
            }
            Self { millis: Some(millis), .. } => after(number(names::TIMER_DELAY_MS, millis)?),
            Self { deliver_at: Some(at), .. } => Some(number(names::TIMER_DELIVER_MS, at)?),
            _ => None,
        };
        Ok((None, deliver_at))
    }
}

fn number<T: FromStr>(key: &'static str, value: &str) -> Result<T, UnreadableDelay> {
    value.parse().map_err(|_| UnreadableDelay { key, value: value.to_owned() })
}

/// A random id for a message without one.
fn new_id() -> String {
    let random: [u8; 16] = rand::random();
    random.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Where a client sees a message stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreLocation<'a> {
    /// The address that the client has connected to. The client sees it as the broker's.
    pub(super) store_host: SocketAddr,
    /// The cluster that a reply to the message is sent to.
    pub(super) cluster: &'a str,
    /// The offset in the queue.
    pub(super) queue_offset: i64,
    /// The id of the queue.
    pub(super) queue_id: i32,
}

impl<'a> StoreLocation<'a> {
    /// The queue and the offset at which the message is stored.
    pub(super) fn of(delivery: &Delivery, store_host: SocketAddr, cluster: &'a str) -> Self {
        Self { store_host, cluster, queue_offset: delivery.queue_offset, queue_id: delivery.queue_id }
    }
}

/// Converts a delivery to the record that a broker would return. The body must be decompressed: see `answer_bodies`.
pub(super) fn record(delivery: &Delivery, location: StoreLocation<'_>) -> StoredMessage {
    let Delivery { message, .. } = delivery;
    let born_host = message.born_host.parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    let v6 = |host: SocketAddr, flag| if host.is_ipv6() { flag } else { 0 };
    StoredMessage {
        topic: delivery.topic.clone(),
        queue_id: location.queue_id,
        queue_offset: location.queue_offset,
        commit_log_offset: log_position::of(delivery),
        flag: message.flag,
        system_flags: compressed_flag(message)
            | v6(born_host, flags::BORN_HOST_V6)
            | v6(location.store_host, flags::STORE_HOST_V6),
        born_at: message.born_at.map(millis).unwrap_or_default(),
        born_host,
        stored_at: millis(delivery.stored_at),
        store_host: location.store_host,
        reconsume_times: delivery.attempt.saturating_sub(1).max(0),
        properties: properties_of(message, location.cluster),
        body: message.body.clone(),
    }
}

fn properties_of(message: &Message, cluster: &str) -> String {
    let known: Vec<_> = KnownProperties::of(message).collect();
    let known = known.iter().map(|(key, value)| (*key, value.as_ref()));
    let sent = message.properties.iter().chain(&message.system_properties);
    let sent = sent.map(|(key, value)| (key.as_str(), value.as_str()));
    let until = match message.delay {
        // The delay level has the same information.
        Some(Delay::Until(at))
            if !message.system_properties.iter().any(|(key, _)| key == names::DELAY_LEVEL) =>
        {
            Some(millis(at).to_string())
        }
        _ => None,
    };
    let until = until.as_deref().map(|until| (names::TIMER_DELIVER_MS, until));
    // The message trace of classic consumers skips messages without a region, which Apache's brokers set.
    let has_region = message.system_properties.iter().any(|(key, _)| key == names::REGION);
    let region = (!has_region).then_some((names::REGION, names::DEFAULT_REGION));
    properties::encode(sent.chain(known).chain(until).chain(region).chain([(names::CLUSTER, cluster)]))
}

/// The flag of a compressed body, if it still is compressed, and clients can decompress it. Java clients drop a body
/// that they can't decompress, and the messages behind it, without an error: they get it without the flag.
fn compressed_flag(message: &Message) -> i32 {
    let is_compressed = message.body_encoding == BodyEncoding::Gzip && is_zlib(&message.body);
    if is_compressed { flags::COMPRESSED } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SendHeader {
        SendHeader {
            topic: "t".to_owned(),
            producer_group: "pg".to_owned(),
            system_flags: 0,
            born_at: 5,
            queue: Some(ChosenQueue { broker: None, id: 3 }),
            flag: 0,
            sent_back: None,
        }
    }

    fn drafted(pairs: &[(&str, &str)]) -> Draft {
        try_draft(pairs).expect("a draft")
    }

    fn try_draft(pairs: &[(&str, &str)]) -> Result<Draft, UnreadableDelay> {
        draft(&header(), &properties::encode(pairs.iter().copied()), "b".into())
    }

    #[test]
    fn known_properties_become_fields_and_the_others_stay() {
        let draft = drafted(&[
            ("UNIQ_KEY", "id"),
            ("TAGS", "a"),
            ("KEYS", "k1 k2"),
            ("WAIT", "true"),
            ("own", "x\ny"),
            ("POP_CK", "forged"),
        ]);
        assert_eq!((draft.id.as_str(), draft.tag.as_deref()), ("id", Some("a")));
        assert_eq!(draft.keys, ["k1", "k2"]);
        assert_eq!(draft.properties, [("own".to_owned(), "x\ny".to_owned())]);
        assert_eq!(draft.system_properties, [("WAIT".to_owned(), "true".to_owned())]);
        assert_eq!(draft.queue.map(|queue| queue.id), Some(3));
    }

    #[test]
    fn a_delay_level_has_precedence_and_a_half_message_has_no_delay() {
        let soon = |draft: Draft| draft.deliver_at_ms.map(|at| at - millis(SystemTime::now()) < 11_000);
        assert_eq!(soon(drafted(&[("DELAY", "3"), ("TIMER_DELAY_SEC", "900")])), Some(true));
        assert_eq!(soon(drafted(&[("TIMER_DELAY_SEC", "900")])), Some(false));
        assert_eq!(drafted(&[("DELAY", "3")]).system_properties, [("DELAY".to_owned(), "3".to_owned())]);
        let half = drafted(&[("DELAY", "3"), ("TRAN_MSG", "true")]);
        assert!(half.transaction && half.deliver_at_ms.is_none());
        assert_eq!(half.system_properties, [("PGROUP".to_owned(), "pg".to_owned())]);
    }

    #[test]
    fn a_delay_that_is_not_a_number_is_refused_unless_another_one_counts() {
        for key in ["DELAY", "TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS"] {
            for value in ["x", "1.5", "99999999999999999999"] {
                let refused = try_draft(&[(key, value)]).expect_err("refused").to_string();
                assert!(refused.contains(key) && refused.contains(value), "{refused}");
            }
        }
        assert!(drafted(&[("DELAY", "3"), ("TIMER_DELAY_SEC", "x")]).deliver_at_ms.is_some());
        assert!(drafted(&[("DELAY", "x"), ("TRAN_MSG", "true")]).deliver_at_ms.is_none());
        // The order of the properties does not matter.
        let late = drafted(&[("TIMER_DELIVER_MS", "7"), ("TIMER_DELAY_SEC", "900"), ("TIMER_DELAY_MS", "x")]);
        assert!(late.deliver_at_ms.is_some_and(|at| at > millis(SystemTime::now())));
    }
}
