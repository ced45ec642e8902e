//! Converts CloudEvents 1.0 to messages and back. The attributes of an event are user properties with the prefix `CE_`, as in
//! the RocketMQ binding of the CloudEvents SDK for Java.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::call::parse;
use super::headers::{media_type, text};
use super::message::NewMessage;
use super::problem::Problem;
use super::shared::Shared;
use super::times;
use crate::processor::{Draft, LeasedDelivery};
use crate::service::{BodyEncoding, Delivery};

/// The media type of one event in structured mode.
pub(super) const JSON: &str = "application/cloudevents+json";
/// The media type of a batch of events.
pub(super) const BATCH_JSON: &str = "application/cloudevents-batch+json";

/// The prefix of headers in binary mode.
const HEADER_PREFIX: &str = "ce-";
/// The prefix of properties that hold attributes.
const PROPERTY_PREFIX: &str = "CE_";
/// The property of the attribute `datacontenttype`.
const CONTENT_TYPE_PROPERTY: &str = "CE_contenttype";
const VERSION: &str = "1.0";
/// Attributes of a delivery, and the members of an event that are not attributes. As properties of a message they would repeat
/// what the event of a delivery contains.
const RESERVED: [&str; 4] = ["rocketmqhandle", "rocketmqattempt", "data", "data_base64"];
/// The members of an event that hold its payload.
const DATA: [&str; 2] = ["data", "data_base64"];
/// Attributes that are strings.
const STRINGS: [&str; 5] = ["specversion", "id", "source", "type", "datacontenttype"];
/// The body that is stored for an event without data, because the body of a message can't be empty.
const NO_DATA: &[u8] = b"\0";

/// A CloudEvent in structured mode.
#[derive(ToSchema)]
#[allow(dead_code)] // Only for the schema: events are parsed by hand.
pub(super) struct CloudEvent {
    /// `1.0`
    #[schema(pattern = "^1\\.0$")]
    specversion: String,
    #[schema(min_length = 1)]
    id: String,
    #[schema(min_length = 1)]
    source: String,
    #[schema(min_length = 1)]
    r#type: String,
    datacontenttype: Option<String>,
    /// The payload as JSON, or as text if `datacontenttype` is not JSON.
    data: Option<serde_json::Value>,
    /// The payload in base64.
    #[schema(value_type = String, required = false, content_encoding = "base64", pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$")]
    data_base64: Option<String>,
}

/// Parses one event in structured mode.
pub(super) fn parse_structured(topic: &str, json: &[u8], shared: &Shared) -> Result<Draft, Problem> {
    draft(topic, parse(json, shared)?)
}

/// Parses a batch of events.
pub(super) fn parse_batch(topic: &str, json: &[u8], shared: &Shared) -> Result<Vec<Draft>, Problem> {
    let events: Vec<BTreeMap<String, &RawValue>> = parse(json, shared)?;
    events.into_iter().map(|event| draft(topic, event)).collect()
}

fn invalid(error: serde_json::Error) -> Problem {
    Problem::bad_request(format!("the event is not valid: {error}"))
}

/// Converts an event in structured mode.
pub(super) fn draft(topic: &str, mut event: BTreeMap<String, &RawValue>) -> Result<Draft, Problem> {
    event.keys().filter(|name| !DATA.contains(&name.as_str())).try_for_each(|name| check_name(name))?;
    for name in STRINGS {
        if event.get(name).is_some_and(|value| !value.get().starts_with('"') && value.get() != "null") {
            return Err(Problem::bad_request(format!("the attribute {name} of an event is a string")));
        }
    }
    let content_type = event.get("datacontenttype").filter(|value| value.get() != "null");
    let content_type = content_type.map(|value| attribute("datacontenttype", value)).transpose()?;
    let body = match (event.remove("data"), event.remove("data_base64")) {
        (None, None) => Bytes::from_static(NO_DATA),
        (Some(data), None) => match content_type.as_deref().is_none_or(is_json) {
            true => data.get().to_owned().into(),
            // Data of other content types is a JSON string with the text.
            false => match serde_json::from_str::<String>(data.get()) {
                Ok(text) => text.into(),
                Err(_) => data.get().to_owned().into(),
            },
        },
        (None, Some(base64)) => {
            let text: String = serde_json::from_str(base64.get()).map_err(invalid)?;
            let decoded = STANDARD.decode(text);
            decoded
                .map_err(|error| Problem::bad_request(format!("data_base64 is not base64: {error}")))?
                .into()
        }
        (Some(_), Some(_)) => return Err(Problem::bad_request("an event has data or data_base64, not both")),
    };
    let attributes: Vec<_> = event
        .into_iter()
        .filter(|(_, value)| value.get() != "null")
        .map(|(name, value)| attribute(&name, value).map(|value| (name, value)))
        .collect::<Result<_, _>>()?;
    draft_from_attributes(topic, attributes, body)
}

/// The value of an attribute as text. Numbers and booleans are written as in JSON.
fn attribute(name: &str, value: &RawValue) -> Result<String, Problem> {
    match value.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(value.get()).map_err(invalid),
        Some(b'{' | b'[') => Err(Problem::bad_request(format!("the attribute {name} is not a simple value"))),
        _ => Ok(value.get().to_owned()),
    }
}

/// Parses an event in binary mode. Returns `None` if the headers are not those of an event.
pub(super) fn parse_binary(topic: &str, headers: &HeaderMap, body: &Bytes) -> Result<Option<Draft>, Problem> {
    if !headers.contains_key("ce-specversion") {
        return Ok(None);
    }
    let mut attributes = Vec::new();
    for name in headers.keys() {
        if let Some(attribute) = name.as_str().strip_prefix(HEADER_PREFIX) {
            let value = text(headers, name)?.unwrap_or_default();
            attributes.push((attribute.to_owned(), percent_decoded(value)));
        }
    }
    if let Some(content_type) = text(headers, &CONTENT_TYPE)? {
        attributes.push(("datacontenttype".to_owned(), content_type.to_owned()));
    }
    let body = if body.is_empty() { Bytes::from_static(NO_DATA) } else { body.clone() };
    draft_from_attributes(topic, attributes, body).map(Some)
}

/// Decodes a header value, in which characters other than printable ASCII are percent-encoded. Malformed parts stay unchanged.
fn percent_decoded(value: &str) -> String {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let byte =
            (*first == b'%').then(|| others.get(..2)).flatten().and_then(|digits| hex::decode(digits).ok());
        match byte {
            Some(byte) => {
                decoded.extend(byte);
                rest = &others[2..];
            }
            None => {
                decoded.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| value.to_owned())
}

/// Checks the attributes of an event, and creates its message.
fn draft_from_attributes(
    topic: &str,
    attributes: Vec<(String, String)>,
    body: Bytes,
) -> Result<Draft, Problem> {
    for required in ["id", "source", "type"] {
        if !attributes.iter().any(|(name, value)| name == required && !value.is_empty()) {
            return Err(Problem::bad_request(format!("an event needs the attribute {required}")));
        }
    }
    let version = attributes.iter().find(|(name, _)| name == "specversion").map(|(_, value)| value.as_str());
    if version != Some(VERSION) {
        return Err(Problem::bad_request(format!("the specversion of an event must be {VERSION}")));
    }
    let mut properties = Vec::with_capacity(attributes.len());
    for (name, value) in attributes {
        check_name(&name)?;
        let property = match name.as_str() {
            "datacontenttype" => CONTENT_TYPE_PROPERTY.to_owned(),
            _ => format!("{PROPERTY_PREFIX}{name}"),
        };
        properties.push((property, value));
    }
    // The other fields of a draft are those of a message without any setting.
    let empty = NewMessage { text: Some(String::new()), ..NewMessage::default() };
    Ok(Draft { properties, body, ..empty.into_draft(topic)? })
}

/// Checks the name of an attribute.
fn check_name(name: &str) -> Result<(), Problem> {
    match !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        true => Ok(()),
        false => Err(Problem::bad_request(format!(
            "{name:?} is not a valid attribute name: expected lower-case letters and digits"
        ))),
    }
}

fn is_json(content_type: &str) -> bool {
    let media_type = media_type(content_type);
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

/// A delivery as an event in structured mode, with extensions for the receipt handle and the attempt. A message that was not
/// sent as an event becomes one with the type `rocketmq.message`.
pub(super) struct ReceivedEvent(pub(super) LeasedDelivery);

impl ReceivedEvent {
    pub(super) fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

impl Serialize for ReceivedEvent {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let LeasedDelivery { delivery, handle } = &self.0;
        let Delivery { message, topic, stored_at, attempt, .. } = delivery;
        let is_event = message.properties.iter().any(|(name, _)| name == "CE_specversion");
        let mut map = to.serialize_map(None)?;
        let mut content_type = None;
        if is_event {
            for (name, value) in &message.properties {
                if name == CONTENT_TYPE_PROPERTY {
                    content_type = Some(value.as_str());
                    map.serialize_entry("datacontenttype", value)?;
                } else if let Some(attribute) = name.strip_prefix(PROPERTY_PREFIX)
                    && !RESERVED.contains(&attribute)
                {
                    map.serialize_entry(attribute, value)?;
                }
            }
        } else {
            map.serialize_entry("specversion", VERSION)?;
            map.serialize_entry("id", &message.id)?;
            map.serialize_entry("source", &format!("/v1/topics/{topic}"))?;
            map.serialize_entry("type", "rocketmq.message")?;
            map.serialize_entry("time", &times::format_time(*stored_at))?;
        }
        map.serialize_entry("rocketmqhandle", handle)?;
        map.serialize_entry("rocketmqattempt", attempt)?;
        let is_uncompressed = message.body_encoding == BodyEncoding::Identity;
        let text = is_uncompressed.then(|| std::str::from_utf8(&message.body).ok()).flatten();
        let json = text
            .filter(|_| is_event && content_type.is_none_or(is_json))
            .and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        match (json, text) {
            // An event without data.
            _ if is_event && message.body == NO_DATA => {}
            (Some(json), _) => map.serialize_entry("data", json)?,
            (None, Some(text)) if content_type.is_some_and(|name| !is_json(name)) => {
                map.serialize_entry("data", text)?;
            }
            _ => map.serialize_entry("data_base64", &STANDARD.encode(&message.body))?,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_message_with_properties() {
        let event = r#"{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "count": 3, "no": null,
                        "data": {"z": 1.50, "a": 2}}"#;
        let event = serde_json::from_str(event).expect("JSON");
        let mut draft = draft("t", event).expect("an event");
        draft.properties.sort();
        let expected = [
            ("CE_count", "3"),
            ("CE_id", "1"),
            ("CE_source", "/s"),
            ("CE_specversion", "1.0"),
            ("CE_type", "t"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(draft.properties, expected);
        // The sender's bytes, with numbers in their original form.
        assert_eq!(&draft.body[..], br#"{"z": 1.50, "a": 2}"#);
    }

    #[test]
    fn invalid_events_are_refused() {
        for event in [
            r#"{"specversion": "0.3", "id": "1", "source": "/s", "type": "t"}"#,
            r#"{"specversion": "1.0", "id": "", "source": "/s", "type": "t"}"#,
            r#"{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "Big": 1}"#,
            r#"{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "list": [1]}"#,
            r#"{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": 1, "data_base64": "YQ=="}"#,
            r#"{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data_base64": "?"}"#,
        ] {
            assert!(draft("t", serde_json::from_str(event).expect("JSON")).is_err(), "{event}");
        }
    }

    #[test]
    fn headers_are_percent_decoded() {
        for (encoded, decoded) in
            [("a%20b", "a b"), ("%E2%82%AC", "€"), ("100%", "100%"), ("%zz", "%zz"), ("%ff", "%ff")]
        {
            assert_eq!(percent_decoded(encoded), decoded);
        }
    }
}
