//! Converts messages between the wire and the processor.

use std::collections::HashMap;
use std::time::SystemTime;

use md5::{Digest, Md5};
use rocketmq_thin_proto::v2 as pb;

use super::convert;
use crate::processor::{Draft, TopicName};
use crate::service::names::{self, QualifiedTopic, properties};
use crate::service::{BodyEncoding, Delay, Delivery, Message, TopicKind, time};

/// Converts a message that a producer sent. The digest and the fields that only a server may set are ignored.
pub(super) fn draft(message: pb::Message) -> Draft {
    let topic = message.topic.unwrap_or_default();
    let system = message.system_properties.unwrap_or_default();
    Draft {
        topic: TopicName { namespace: topic.resource_namespace, name: topic.name },
        transaction: system.message_type() == pb::MessageType::Transaction,
        body_encoding: match system.body_encoding() {
            pb::Encoding::Gzip => BodyEncoding::Gzip,
            pb::Encoding::Identity | pb::Encoding::Unspecified => BodyEncoding::Identity,
        },
        id: system.message_id,
        tag: system.tag,
        keys: system.keys,
        properties: message.user_properties.into_iter().collect(),
        body: message.body,
        recovery_secs: system
            .orphaned_transaction_recovery_duration
            .map(|recovery| convert::millis(Some(&recovery)).div_euclid(1000)),
        message_group: system.message_group,
        // An invalid time becomes one that exceeds every limit.
        deliver_at_ms: system
            .delivery_timestamp
            .map(|timestamp| convert::timestamp_millis(timestamp).unwrap_or(i64::MAX)),
        priority: system.priority,
        lite_topic: system.lite_topic,
        born_at: system
            .born_timestamp
            .map(|timestamp| convert::timestamp_millis(timestamp).map_or_else(SystemTime::now, time)),
        born_host: system.born_host,
        trace_context: system.trace_context,
        ..Draft::default()
    }
}

/// The digest by which a client checks a received body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum BodyDigest {
    /// MD5, which Apache's proxy sends and every client knows.
    #[default]
    Md5,
    /// CRC32, which takes a tenth of the time.
    Crc32,
}

impl BodyDigest {
    fn of(self, body: &[u8]) -> pb::Digest {
        let (kind, checksum) = match self {
            Self::Md5 => (pb::DigestType::Md5, md5(body)),
            Self::Crc32 => (pb::DigestType::Crc32, format!("{:08X}", crc32fast::hash(body))),
        };
        pb::Digest { r#type: kind.into(), checksum }
    }
}

/// Converts a delivery. `handle` is its receipt handle, if it is leased.
pub(super) fn delivered(delivery: Delivery, handle: Option<String>, digest: BodyDigest) -> pb::Message {
    let Delivery { message, topic, queue_id, queue_offset, stored_at, store_host, attempt, .. } = delivery;
    let message_type = message_type(message.kind()).into();
    let mut user_properties: HashMap<String, String> = message.properties.into_iter().collect();
    let mut system = pb::SystemProperties {
        tag: message.tag,
        keys: message.keys,
        message_id: message.id,
        body_digest: Some(digest.of(&message.body)),
        body_encoding: match message.body_encoding {
            BodyEncoding::Identity => pb::Encoding::Identity,
            BodyEncoding::Gzip => pb::Encoding::Gzip,
        }
        .into(),
        message_type,
        born_timestamp: Some(message.born_at.map(convert::timestamp).unwrap_or_default()),
        born_host: message.born_host,
        store_timestamp: Some(convert::timestamp(stored_at)),
        store_host,
        receipt_handle: handle,
        queue_id,
        queue_offset: Some(queue_offset),
        delivery_attempt: Some(attempt),
        delivery_timestamp: match message.delay {
            Some(Delay::Until(time)) => Some(convert::timestamp(time)),
            Some(Delay::Unknown) | None => None,
        },
        priority: message.priority,
        lite_topic: message.lite_topic,
        dead_letter_queue: message
            .dead_letter_origin
            .map(|origin| pb::DeadLetterQueue { topic: origin.topic, message_id: origin.message_id }),
        ..pb::SystemProperties::default()
    };
    // Like Apache's proxy, also adds these two to the user's properties.
    if let Some(group) = message.group {
        user_properties.insert(properties::SHARDING_KEY.to_owned(), group.clone());
        system.message_group = Some(group);
    }
    if let Some(trace_context) = message.trace_context {
        user_properties.insert(properties::TRACE_CONTEXT.to_owned(), trace_context.clone());
        system.trace_context = Some(trace_context);
    }
    pb::Message {
        topic: Some(resource(topic)),
        user_properties,
        system_properties: Some(system),
        body: message.body,
    }
}

/// The approximate number of bytes of a message on the wire.
pub(super) fn size_hint(message: &Message) -> usize {
    message.body.len() + 512
}

fn message_type(kind: TopicKind) -> pb::MessageType {
    match kind {
        // Of these, a message can only be NORMAL.
        TopicKind::Normal | TopicKind::Mixed | TopicKind::Unspecified | TopicKind::Undeclared => {
            pb::MessageType::Normal
        }
        TopicKind::Fifo => pb::MessageType::Fifo,
        TopicKind::Delay => pb::MessageType::Delay,
        TopicKind::Transaction => pb::MessageType::Transaction,
        TopicKind::Priority => pb::MessageType::Priority,
        TopicKind::Lite => pb::MessageType::Lite,
    }
}

fn resource(topic: String) -> pb::Resource {
    match names::split_namespace(&topic) {
        QualifiedTopic { namespace: "", .. } => {
            pb::Resource { resource_namespace: String::new(), name: topic }
        }
        QualifiedTopic { prefix, namespace, name } => {
            pb::Resource { resource_namespace: namespace.to_owned(), name: format!("{prefix}{name}") }
        }
    }
}

fn md5(body: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(32);
    for byte in Md5::digest(body) {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_upper_case() {
        assert_eq!(BodyDigest::Md5.of(b"hello").checksum, "5D41402ABC4B2A76B9719D911017C592");
        assert_eq!(BodyDigest::Crc32.of(b"hello").checksum, "3610A686");
    }

    #[test]
    fn a_topic_is_a_namespace_and_a_name() {
        for (topic, namespace, name) in [
            ("t", "", "t"),
            ("ns%t", "ns", "t"),
            ("%DLQ%g", "", "%DLQ%g"),
            ("%DLQ%ns%g", "ns", "%DLQ%g"),
            ("%t", "", "%t"),
        ] {
            let resource = resource(topic.to_owned());
            assert_eq!((resource.resource_namespace.as_str(), resource.name.as_str()), (namespace, name));
        }
    }
}
