//! Messages on the wire <-> messages of the rules.

use std::collections::HashMap;
use std::time::SystemTime;

use md5::{Digest, Md5};
use rocketmq_thin_proto::v2 as pb;

use super::convert;
use crate::processor::{Draft, TopicName};
use crate::service::{BodyEncoding, Delay, Delivery, Message, TopicKind, time};

/// Properties of the broker that Apache's proxy shows among the user's.
const MESSAGE_GROUP_PROPERTY: &str = "__SHARDINGKEY";
const TRACE_CONTEXT_PROPERTY: &str = "TRACE_CONTEXT";
const RETRY_PREFIX: &str = "%RETRY%";
const DEAD_LETTER_PREFIX: &str = "%DLQ%";

/// A message as a producer sent it. What only a server may set is not looked at, the digest included.
pub(super) fn draft(message: pb::Message) -> (TopicName, Draft) {
    let topic = message.topic.unwrap_or_default();
    let system = message.system_properties.unwrap_or_default();
    let draft = Draft {
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
        // What is no time is too late for every limit.
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
    };
    (TopicName { namespace: topic.resource_namespace, name: topic.name }, draft)
}

/// A delivery as a client receives it, with the handle that settles it, if it is leased.
pub(super) fn delivered(delivery: Delivery, handle: Option<String>) -> pb::Message {
    let Delivery { message, topic, queue_id, queue_offset, stored_at, store_host, attempt, .. } = delivery;
    let message_type = message_type(message.kind()).into();
    let mut user_properties: HashMap<String, String> = message.properties.into_iter().collect();
    let mut system = pb::SystemProperties {
        tag: message.tag,
        keys: message.keys,
        message_id: message.id,
        body_digest: Some(pb::Digest { r#type: pb::DigestType::Md5.into(), checksum: md5(&message.body) }),
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
            Some(Delay::Untold) | None => None,
        },
        priority: message.priority,
        lite_topic: message.lite_topic,
        ..pb::SystemProperties::default()
    };
    if let Some(group) = message.group {
        user_properties.insert(MESSAGE_GROUP_PROPERTY.to_owned(), group.clone());
        system.message_group = Some(group);
    }
    if let Some(trace_context) = message.trace_context {
        user_properties.insert(TRACE_CONTEXT_PROPERTY.to_owned(), trace_context.clone());
        system.trace_context = Some(trace_context);
    }
    pb::Message {
        topic: Some(resource(topic)),
        user_properties,
        system_properties: Some(system),
        body: message.body,
    }
}

/// About how many bytes a message takes on the wire.
pub(super) fn size_hint(message: &Message) -> usize {
    message.body.len() + 512
}

fn message_type(kind: TopicKind) -> pb::MessageType {
    match kind {
        // The others are no types of a message.
        TopicKind::Normal | TopicKind::Mixed | TopicKind::Unspecified => pb::MessageType::Normal,
        TopicKind::Fifo => pb::MessageType::Fifo,
        TopicKind::Delay => pb::MessageType::Delay,
        TopicKind::Transaction => pb::MessageType::Transaction,
        TopicKind::Priority => pb::MessageType::Priority,
        TopicKind::Lite => pb::MessageType::Lite,
    }
}

// Namespace and name are told apart by the first percent sign; retry and dead-letter topics begin with one of
// their own.
fn resource(topic: String) -> pb::Resource {
    let prefix = [RETRY_PREFIX, DEAD_LETTER_PREFIX].into_iter().find(|prefix| topic.starts_with(prefix));
    let prefix = prefix.unwrap_or_default();
    match topic[prefix.len()..].split_once('%') {
        Some((namespace, name)) if !namespace.is_empty() => {
            pb::Resource { resource_namespace: namespace.to_owned(), name: format!("{prefix}{name}") }
        }
        _ => pb::Resource { resource_namespace: String::new(), name: topic },
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
        assert_eq!(md5(b"hello"), "5D41402ABC4B2A76B9719D911017C592");
    }

    #[test]
    fn namespaces_end_at_the_first_percent_sign() {
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
