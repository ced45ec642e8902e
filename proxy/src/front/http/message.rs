//! Messages in JSON <-> messages of the rules.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::times;
use crate::processor::{Draft, LeasedDelivery, TopicName};
use crate::service::{BodyEncoding, Delay, Delivery, Message, millis};

/// A message to send. It has a `text` or a `body`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NewMessage {
    /// The payload as text.
    #[schema(example = "hello")]
    pub(super) text: Option<String>,
    /// The payload in base64.
    #[schema(content_encoding = "base64")]
    pub(super) body: Option<String>,
    /// The sender's id for it. One is made by default.
    pub(super) message_id: Option<String>,
    /// A tag that consumers can filter by.
    pub(super) tag: Option<String>,
    /// Business keys.
    pub(super) keys: Vec<String>,
    /// Properties of your own.
    pub(super) properties: BTreeMap<String, String>,
    /// The message group of a FIFO message.
    pub(super) message_group: Option<String>,
    /// When to deliver it, in UTC, such as `2026-11-29T10:00:00Z`.
    pub(super) deliver_at: Option<String>,
    /// How long to wait before it is delivered, such as `30s`.
    pub(super) delay: Option<String>,
    /// Its priority; higher numbers first.
    pub(super) priority: Option<i32>,
    /// Its lite topic.
    pub(super) lite_topic: Option<String>,
    /// Whether it is delivered only once its transaction is committed.
    pub(super) transaction: bool,
    /// W3C trace context.
    pub(super) trace_parent: Option<String>,
}

impl NewMessage {
    /// The message as a draft in this topic.
    pub(super) fn into_draft(self, topic: &str) -> Result<Draft, Problem> {
        let body = match (self.text, self.body) {
            (Some(text), None) => text.into(),
            (None, Some(body)) => {
                let decoded = STANDARD.decode(body);
                decoded.map_err(|error| Problem::bad_request(format!("body is not base64: {error}")))?.into()
            }
            (None, None) => return Err(Problem::bad_request("a message needs a text or a body")),
            (Some(_), Some(_)) => {
                return Err(Problem::bad_request("a message has a text or a body, not both"));
            }
        };
        let deliver_at_ms = match (self.deliver_at, self.delay) {
            (Some(at), None) => Some(millis(times::parse("deliver_at", &at)?)),
            (None, Some(delay)) => {
                Some(millis(SystemTime::now()).saturating_add(times::millis("delay", &delay)?))
            }
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(Problem::bad_request("a message has deliver_at or delay, not both"));
            }
        };
        Ok(Draft {
            topic: TopicName { namespace: String::new(), name: topic.to_owned() },
            id: self.message_id.unwrap_or_else(new_id),
            tag: self.tag,
            keys: self.keys,
            properties: self.properties.into_iter().collect(),
            body,
            transaction: self.transaction,
            message_group: self.message_group,
            deliver_at_ms,
            priority: self.priority,
            lite_topic: self.lite_topic,
            born_at: Some(SystemTime::now()),
            trace_context: self.trace_parent,
            ..Draft::default()
        })
    }
}

/// An id for a message whose sender gave none.
fn new_id() -> String {
    hex::encode_upper(rand::random::<[u8; 16]>())
}

/// How bodies are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum BodyFormat {
    /// As `text` if it is UTF-8, and as `body` in base64 otherwise.
    #[default]
    Auto,
    /// Always as `body` in base64.
    Base64,
}

/// Where a dead letter was before.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterOrigin {
    topic: String,
    message_id: String,
}

/// A message as it is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StoredMessage {
    /// The sender's id for it.
    message_id: String,
    topic: String,
    /// Its queue.
    queue_id: i32,
    /// Its position in its queue.
    offset: i64,
    /// The payload as text, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The payload in base64, if it has no `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// `gzip` if the sender has compressed the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_parent: Option<String>,
    /// When the sender made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    born_at: Option<String>,
    /// Where the sender made it.
    born_host: String,
    /// When it was stored.
    stored_at: String,
    /// Where it was before it became a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<DeadLetterOrigin>,
}

impl StoredMessage {
    pub(super) fn new(message: Message, place: Place, format: BodyFormat) -> Self {
        let Place { topic, queue_id, offset, stored_at } = place;
        let as_text = format == BodyFormat::Auto && message.body_encoding == BodyEncoding::Identity;
        let text = match as_text {
            true => std::str::from_utf8(&message.body).ok().map(str::to_owned),
            false => None,
        };
        Self {
            message_id: message.id,
            topic,
            queue_id,
            offset,
            body: text.is_none().then(|| STANDARD.encode(&message.body)),
            text,
            content_encoding: (message.body_encoding == BodyEncoding::Gzip).then_some("gzip"),
            tag: message.tag,
            keys: message.keys,
            properties: message.properties.into_iter().collect(),
            message_group: message.group,
            deliver_at: match message.delay {
                Some(Delay::Until(at)) => Some(times::text(at)),
                Some(Delay::Unknown) | None => None,
            },
            priority: message.priority,
            lite_topic: message.lite_topic,
            trace_parent: message.trace_context,
            born_at: message.born_at.map(times::text),
            born_host: message.born_host,
            stored_at: times::text(stored_at),
            dead_letter: message
                .dead_letter_origin
                .map(|origin| DeadLetterOrigin { topic: origin.topic, message_id: origin.message_id }),
        }
    }
}

/// Where a message is stored.
pub(super) struct Place {
    topic: String,
    queue_id: i32,
    offset: i64,
    stored_at: SystemTime,
}

/// Takes a delivery apart.
pub(super) fn place(delivery: Delivery) -> (Message, Place) {
    let Delivery { message, topic, queue_id, queue_offset, stored_at, .. } = delivery;
    (message, Place { topic, queue_id, offset: queue_offset, stored_at })
}

/// A message with the lease under which it is delivered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReceivedMessage {
    /// What settles this delivery.
    handle: String,
    /// The number of this delivery, beginning with 1.
    attempt: i32,
    /// When the lease ends. A message that is not settled until then is delivered again.
    invisible_until: String,
    #[serde(flatten)]
    message: StoredMessage,
}

impl ReceivedMessage {
    pub(super) fn new(LeasedDelivery { delivery, handle }: LeasedDelivery, format: BodyFormat) -> Self {
        let attempt = delivery.attempt;
        let until = delivery.received_at.checked_add(delivery.invisible).unwrap_or(delivery.received_at);
        let (message, place) = place(delivery);
        Self {
            handle,
            attempt,
            invisible_until: times::text(until),
            message: StoredMessage::new(message, place, format),
        }
    }

    pub(super) fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// About how many bytes a message takes in JSON.
pub(super) fn size_hint(message: &Message) -> usize {
    message.body.len() / 3 * 4 + 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: NewMessage) -> String {
        serde_json::to_value(message.into_draft("t").expect_err("a refusal")).expect("JSON")["detail"]
            .to_string()
    }

    #[test]
    fn a_message_has_one_body_and_one_time() {
        let message = |json: &str| serde_json::from_str::<NewMessage>(json).expect("a message");
        for (json, expected) in [
            (r#"{}"#, "needs a text or a body"),
            (r#"{"text": "a", "body": "YQ=="}"#, "not both"),
            (r#"{"body": "?"}"#, "not base64"),
            (r#"{"text": "a", "delay": "1s", "deliver_at": "2026-11-29T10:00:00Z"}"#, "not both"),
            (r#"{"text": "a", "delay": "soon"}"#, "delay is not a duration"),
        ] {
            let refusal = refused(message(json));
            assert!(refusal.contains(expected), "{json}: {refusal}");
        }
        let draft = message(r#"{"body": "YQ==", "tag": "x"}"#).into_draft("t").expect("a draft");
        assert_eq!((&draft.body[..], draft.tag.as_deref(), draft.id.len()), (&b"a"[..], Some("x"), 32));
    }

    #[test]
    fn what_is_not_text_comes_in_base64() {
        let stored = |body: &'static [u8], encoding, format| {
            let message = Message { body: body.into(), body_encoding: encoding, ..Message::default() };
            let place =
                Place { topic: "t".to_owned(), queue_id: 0, offset: 0, stored_at: SystemTime::UNIX_EPOCH };
            let StoredMessage { text, body, .. } = StoredMessage::new(message, place, format);
            (text, body)
        };
        let (text, base64) =
            (|text: &str| (Some(text.to_owned()), None), |text: &str| (None, Some(text.to_owned())));
        assert_eq!(stored(b"a", BodyEncoding::Identity, BodyFormat::Auto), text("a"));
        assert_eq!(stored(b"a", BodyEncoding::Gzip, BodyFormat::Auto), base64("YQ=="));
        assert_eq!(stored(b"a", BodyEncoding::Identity, BodyFormat::Base64), base64("YQ=="));
        assert_eq!(stored(b"\xff", BodyEncoding::Identity, BodyFormat::Auto), base64("/w=="));
    }
}
