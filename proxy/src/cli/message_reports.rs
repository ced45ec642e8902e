//! The output of commands that find and show messages.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use super::output::{Report, Table, one_line};
use super::units;
use crate::service::{BodyEncoding, Delay, ReadMessage};

const PREVIEW_CHARS: usize = 50;

/// The result of `message peek`, `message find`, `dlq peek` and `dlq find`.
#[derive(Serialize)]
pub(super) struct FoundMessages {
    messages: Vec<MessageView>,
    looked_at: u64,
    /// Whether the search covered everything that it was asked for.
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl FoundMessages {
    /// `note` says why there may be more messages; `None` if there are none.
    pub(super) fn new(messages: Vec<ReadMessage>, looked_at: u64, note: Option<String>) -> Self {
        let messages = messages.into_iter().map(MessageView::new).collect();
        Self { messages, looked_at, complete: note.is_none(), note }
    }
}

impl Report for FoundMessages {
    fn text(&self) -> String {
        let mut text = String::new();
        if self.messages.is_empty() {
            text.push_str("no messages\n");
        } else {
            let dead = self.messages.iter().any(|message| message.origin.is_some());
            let mut table = Table::new(["QUEUE", "OFFSET", "STORED", "ID", "TAG", "KEYS", "BYTES", "BODY"]);
            for message in &self.messages {
                table.row([
                    message.queue.to_string(),
                    message.offset.to_string(),
                    message.stored_at.clone(),
                    one_line(&message.id, 64),
                    one_line(message.tag.as_deref().unwrap_or_default(), 20),
                    one_line(&message.keys.join(" "), 30),
                    message.body_bytes.to_string(),
                    message.preview(dead),
                ]);
            }
            text.push_str(&table.text());
        }
        if let Some(note) = &self.note {
            let _ = writeln!(text, "{note}");
        }
        text
    }
}

/// The result of `message show`.
#[derive(Serialize)]
pub(super) struct ShownMessage(MessageView);

impl ShownMessage {
    pub(super) fn new(message: ReadMessage) -> Self {
        Self(MessageView::new(message))
    }
}

impl Report for ShownMessage {
    fn text(&self) -> String {
        let message = &self.0;
        let mut table = Table::new(["id", &one_line(&message.id, usize::MAX)]);
        let mut row = |name: &str, value: &str| table.row([name.to_owned(), one_line(value, usize::MAX)]);
        row("topic", &message.topic);
        row("queue", &format!("{} of {}", message.queue, message.broker));
        row("offset", &message.offset.to_string());
        row("stored", &message.stored_at);
        let mut given = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                row(name, value);
            }
        };
        given("born", &message.born_at);
        given("born host", &message.born_host);
        given("tag", &message.tag);
        given("keys", &(!message.keys.is_empty()).then(|| message.keys.join(" ")));
        given("message group", &message.message_group);
        given("deliver at", &message.deliver_at);
        given("priority", &message.priority.map(|priority| priority.to_string()));
        given("lite topic", &message.lite_topic);
        given("trace", &message.trace_context);
        if let Some(origin) = &message.origin {
            given("origin topic", &Some(origin.topic.clone()));
            given("origin id", &Some(origin.id.clone()));
        }
        for (name, value) in &message.properties {
            given(&format!("property {}", one_line(name, usize::MAX)), &Some(value.clone()));
        }
        let mut text = table.text();
        let _ = match (&message.body, &message.body_base64) {
            (Some(body), _) => write!(text, "\n{}\n", printable(body)),
            (None, encoded) => {
                let what = if message.gzip { "compressed by gzip" } else { "not text" };
                let encoded = encoded.as_deref().unwrap_or_default();
                write!(text, "\n{} bytes, {what}, as base64:\n{encoded}\n", message.body_bytes)
            }
        };
        text
    }
}

#[derive(Serialize)]
struct MessageView {
    topic: String,
    broker: String,
    queue: i32,
    offset: i64,
    id: String,
    stored_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    born_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    born_host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    keys: Vec<String>,
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
    trace_context: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<OriginView>,
    body_bytes: usize,
    /// Whether the body is truncated.
    body_cut: bool,
    gzip: bool,
    /// The body, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The body, if it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

#[derive(Serialize)]
struct OriginView {
    topic: String,
    id: String,
}

impl MessageView {
    fn new(read: ReadMessage) -> Self {
        let ReadMessage { delivery, broker, body_bytes } = read;
        let message = delivery.message;
        let gzip = message.body_encoding == BodyEncoding::Gzip;
        let body_cut = message.body.len() < body_bytes;
        let body = text_of(&message.body, body_cut).filter(|_| !gzip);
        Self {
            topic: delivery.topic,
            broker,
            queue: delivery.queue_id,
            offset: delivery.queue_offset,
            id: message.id,
            stored_at: units::format_time(delivery.stored_at),
            born_at: message.born_at.map(units::format_time),
            born_host: Some(message.born_host).filter(|host| !host.is_empty()),
            tag: message.tag,
            keys: message.keys,
            properties: message.properties.into_iter().collect(),
            message_group: message.group,
            deliver_at: match message.delay {
                Some(Delay::Until(at)) => Some(units::format_time(at)),
                Some(Delay::Unknown) | None => None,
            },
            priority: message.priority,
            lite_topic: message.lite_topic,
            trace_context: message.trace_context,
            origin: message
                .dead_letter_origin
                .map(|origin| OriginView { topic: origin.topic, id: origin.message_id }),
            body_bytes,
            body_cut,
            gzip,
            body_base64: body.is_none().then(|| BASE64_STANDARD.encode(&message.body)),
            body,
        }
    }

    /// The text of the BODY column. `dead` adds the topic in which a dead letter failed.
    fn preview(&self, dead: bool) -> String {
        let body = match &self.body {
            Some(body) => one_line(body, PREVIEW_CHARS),
            None if self.gzip => "(gzip)".to_owned(),
            None => "(binary)".to_owned(),
        };
        match &self.origin {
            Some(origin) if dead => format!("{body}  (from {})", one_line(&origin.topic, 127)),
            _ => body,
        }
    }
}

/// Escapes control characters other than line feeds and tabs, so that a body can't control the terminal.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\t' => printable.push(char),
            char if char.is_control() => printable.extend(char.escape_default()),
            char => printable.push(char),
        }
    }
    printable
}

/// A body as text; `None` if it is not UTF-8. The last character of a truncated body may be incomplete.
fn text_of(body: &[u8], is_cut: bool) -> Option<String> {
    match std::str::from_utf8(body) {
        Ok(text) => Some(text.to_owned()),
        Err(error) if is_cut && error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).ok().map(str::to_owned)
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_character_does_not_make_a_text_binary() {
        assert_eq!(text_of("aü".as_bytes(), false).as_deref(), Some("aü"));
        assert_eq!(text_of(&"aü".as_bytes()[..2], true).as_deref(), Some("a"));
        assert_eq!(text_of(&"aü".as_bytes()[..2], false), None);
        assert_eq!(text_of(&[0xFF, b'a'], true), None);
    }
}
