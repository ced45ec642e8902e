//! Converts between the messages of classic clients and the processor's messages.

use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;

use super::log_position;
use crate::processor::{Draft, PropertyRules, TopicName};
use crate::remoting::compression;
use crate::remoting::message::{StoredMessage, flags};
use crate::remoting::properties;
use crate::service::names::properties as names;
use crate::service::{
    BodyEncoding, ChosenQueue, Delay, Delivery, KnownProperties, Message, SentBack, delay_level, millis, time,
};

/// The fields of a send request that all its messages share.
#[derive(Clone, Debug)]
pub(super) struct Header {
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

impl Header {
    /// Whether the bodies are compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.system_flags & flags::COMPRESSED != 0
    }
}

/// The error if a body can't be decompressed, or is longer than allowed.
#[derive(Debug)]
pub(super) struct UnreadableBody;

/// Converts a message that a producer sent. Its body is decompressed, so that consumers of all protocols can read it.
///
/// # Errors
/// [`UnreadableBody`], also if the body has more than `max_body` bytes.
pub(super) fn draft(
    header: &Header,
    properties: &str,
    body: Bytes,
    max_body: usize,
) -> Result<Draft, UnreadableBody> {
    let body = match header.is_compressed() {
        false => body,
        true => {
            compression::inflate(header.system_flags, &body, max_body as u64).ok_or(UnreadableBody)?.into()
        }
    };
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
    let mut level = None;
    for (key, value) in properties::decode(properties) {
        let after =
            |unit: i64| value.parse().ok().map(|delay: i64| now.saturating_add(delay.saturating_mul(unit)));
        match key {
            _ if known.take(key, value) => {}
            names::DELAY_LEVEL => level = Some(value),
            names::TIMER_DELIVER_MS => draft.deliver_at_ms = value.parse().ok(),
            names::TIMER_DELAY_SEC => draft.deliver_at_ms = after(1000),
            names::TIMER_DELAY_MS => draft.deliver_at_ms = after(1),
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
    let delay = level.and_then(|level| Some((level, delay_level::duration(level.parse().ok()?)?)));
    if let Some((level, delay)) = delay {
        if !draft.transaction {
            // Consumers read the level.
            draft.system_properties.push((names::DELAY_LEVEL.to_owned(), level.to_owned()));
        }
        draft.deliver_at_ms = Some(now.saturating_add(delay.as_millis().try_into().unwrap_or(i64::MAX)));
    }
    if draft.transaction {
        // Brokers, too, ignore the delay of a half message.
        draft.deliver_at_ms = None;
        if !draft.system_properties.iter().any(|(key, _)| key == names::PRODUCER_GROUP) {
            draft.system_properties.push((names::PRODUCER_GROUP.to_owned(), header.producer_group.clone()));
        }
    }
    if draft.id.is_empty() {
        draft.id = new_id();
    }
    Ok(draft)
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

/// Converts a delivery to the record that a broker would return.
pub(super) fn record(delivery: &Delivery, location: StoreLocation<'_>) -> StoredMessage {
    let Delivery { message, .. } = delivery;
    let born_host = message.born_host.parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    let (body, compressed) = plain_body(message);
    let v6 = |host: SocketAddr, flag| if host.is_ipv6() { flag } else { 0 };
    StoredMessage {
        topic: delivery.topic.clone(),
        queue_id: location.queue_id,
        queue_offset: location.queue_offset,
        commit_log_offset: log_position::of(delivery),
        flag: message.flag,
        system_flags: compressed
            | v6(born_host, flags::BORN_HOST_V6)
            | v6(location.store_host, flags::STORE_HOST_V6),
        born_at: message.born_at.map(millis).unwrap_or_default(),
        born_host,
        stored_at: millis(delivery.stored_at),
        store_host: location.store_host,
        reconsume_times: delivery.attempt.saturating_sub(1).max(0),
        properties: properties_of(message, location.cluster),
        body,
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

/// The body without gzip compression, which classic clients can't decompress, and 0. If it can't be decompressed,
/// returns it unchanged, with the flag of a compressed body.
fn plain_body(message: &Message) -> (Bytes, i32) {
    const MAX_BODY: u64 = 16 << 20;
    match message.body_encoding {
        BodyEncoding::Identity => (message.body.clone(), 0),
        BodyEncoding::Gzip => match compression::gunzip(&message.body, MAX_BODY) {
            Some(body) => (body.into(), 0),
            None => (message.body.clone(), flags::COMPRESSED),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
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
        draft(&header(), &properties::encode(pairs.iter().copied()), "b".into(), 100).expect("a body")
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
    fn a_compressed_body_is_decompressed() {
        use std::io::Write;
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&[7; 50]).expect("memory");
        let body = Bytes::from(zlib.finish().expect("memory"));
        let header = Header { system_flags: flags::COMPRESSED, ..header() };
        assert_eq!(draft(&header, "", body.clone(), 50).expect("a body").body.as_ref(), [7; 50]);
        assert!(draft(&header, "", body, 49).is_err());
        assert!(draft(&header, "", "junk".into(), 100).is_err());
    }
}
