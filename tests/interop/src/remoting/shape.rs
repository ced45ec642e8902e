//! What is recorded of an answer: values that differ from run to run are replaced by what they are.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use regex::{Captures, Regex};
use rocketmq_thin_proxy::remoting::{
    HeaderType, RemotingCommand, lenient,
    message::{StoredMessage, decode_all},
    properties,
};
use serde_json::{Map, Value, json};

use super::{
    case::Step,
    play::{OPAQUE, now},
};

/// Addresses, message ids, and times in milliseconds.
static VARYING: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"\d+\.\d+\.\d+\.\d+:\d+|\b(?:[0-9A-F]{32}|[0-9A-F]{56})\b|\b\d{13}\b";
    Regex::new(pattern).expect("a regular expression")
});
/// Times that are as near as this are now.
const NOW: i64 = 90_000;
/// Longer bodies are recorded by their length.
const LONGEST: usize = 200;

/// Replaces the values of one run.
pub(super) struct Shapes<'a> {
    /// Values and their names, the longest first.
    names: Vec<(&'a str, &'a str)>,
}

impl<'a> Shapes<'a> {
    /// Names of the case's own topics and groups, of the broker and of its cluster stand for their values.
    pub(super) fn of(values: &'a BTreeMap<String, String>) -> Self {
        let mut names: Vec<_> = values
            .iter()
            .filter(|(_, value)| value.len() >= 5 && value.parse::<i64>().is_err())
            .map(|(name, value)| (value.as_str(), name.as_str()))
            .collect();
        names.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Self { names }
    }

    /// An answer as it is recorded.
    pub(super) fn answer(&self, answer: &RemotingCommand, step: &Step) -> Value {
        let mut recorded = Map::new();
        recorded.insert("code".to_owned(), answer.code.into());
        if let Some(remark) = &answer.remark {
            recorded.insert("remark".to_owned(), self.text(remark).into());
        }
        if !answer.fields.is_empty() {
            let fields = answer.fields.iter().map(|(key, value)| {
                let value = if step.any.iter().any(|any| any == key) { "<any>" } else { &self.text(value) };
                (key.to_string(), Value::from(value))
            });
            recorded.insert("fields".to_owned(), fields.collect::<Map<_, _>>().into());
        }
        if !answer.body.is_empty() {
            recorded.insert("body".to_owned(), self.body(&answer.body, step));
        }
        if step.binary {
            let form = if answer.header_type == HeaderType::Binary { "binary" } else { "JSON" };
            recorded.insert("header".to_owned(), form.into());
        }
        if answer.opaque != OPAQUE {
            recorded.insert("opaque".to_owned(), "of another request".into());
        }
        recorded.into()
    }

    fn body(&self, body: &Bytes, step: &Step) -> Value {
        if let Ok(json) = lenient::from_slice::<Value>(body) {
            return self.json(json);
        }
        match std::str::from_utf8(body) {
            Ok(text) if !text.contains('\0') => self.text(text).into(),
            _ => decode_all(body.clone()).iter().map(|message| self.message(message, step)).collect(),
        }
    }

    fn message(&self, message: &StoredMessage, step: &Step) -> Value {
        let properties: BTreeMap<_, _> = properties::decode(&message.properties)
            .map(|(key, value)| {
                let any = step.any.iter().any(|any| any == key);
                (key, if any { "<any>".to_owned() } else { self.text(value) })
            })
            .collect();
        let body = match std::str::from_utf8(&message.body) {
            Ok(text) if text.len() <= LONGEST => text.to_owned(),
            _ => format!("<{} bytes>", message.body.len()),
        };
        json!({
            "topic": self.text(&message.topic),
            "queue": message.queue_id,
            "offset": message.queue_offset,
            "flags": message.system_flags,
            "reconsumed": message.reconsume_times,
            "properties": properties,
            "body": body,
        })
    }

    fn json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.text(&text).into(),
            Value::Number(number) => match self.text(&number.to_string()) {
                text if text.starts_with('<') => text.into(),
                _ => number.into(),
            },
            Value::Array(values) => {
                let mut values: Vec<_> = values.into_iter().map(|value| self.json(value)).collect();
                // Sets of Java have no order.
                values.sort_by_key(Value::to_string);
                values.into()
            }
            Value::Object(map) => {
                let map = map.into_iter().map(|(key, value)| (self.text(&key), self.json(value)));
                map.collect::<Map<_, _>>().into()
            }
            other => other,
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (value, name) in &self.names {
            text = text.replace(value, &format!("{{{name}}}"));
        }
        let replaced = VARYING.replace_all(&text, |found: &Captures<'_>| match &found[0] {
            address if address.contains(':') => "<address>".to_owned(),
            id if id.len() >= 32 => "<id>".to_owned(),
            number => match number.parse::<i64>() {
                Ok(time) if (time - now()).abs() < NOW => "<now>".to_owned(),
                _ => number.to_owned(),
            },
        });
        replaced.into_owned()
    }
}

/// The lines in which an answer differs from a recorded one. Of remarks, only that of a refusal counts, and only that there
/// is one.
pub(super) fn differences(recorded: &Value, seen: &Value) -> Vec<String> {
    let (mut recorded, mut seen) = (recorded.clone(), seen.clone());
    let is_refusal = recorded["code"] != 0 && has_remark(&recorded);
    for answer in [&mut recorded, &mut seen] {
        let wanted = is_refusal && has_remark(answer);
        if let Some(answer) = answer.as_object_mut() {
            answer.remove("remark");
            answer.extend(wanted.then(|| ("remark".to_owned(), "a text".into())));
        }
    }
    let (recorded, seen) = (lines("", &recorded), lines("", &seen));
    let missing = recorded.iter().filter(|line| !seen.contains(line)).map(|line| format!("- {line}"));
    let more = seen.iter().filter(|line| !recorded.contains(line)).map(|line| format!("+ {line}"));
    missing.chain(more).collect()
}

fn has_remark(answer: &Value) -> bool {
    answer["remark"].as_str().is_some_and(|remark| !remark.is_empty())
}

fn lines(path: &str, value: &Value) -> Vec<String> {
    let below = |key: String, value: &Value| lines(&format!("{path}/{key}"), value);
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().flat_map(|(key, value)| below(key.clone(), value)).collect()
        }
        Value::Array(values) if !values.is_empty() => {
            values.iter().enumerate().flat_map(|(at, value)| below(at.to_string(), value)).collect()
        }
        Value::Null => Vec::new(),
        value => vec![format!("{path} {value}")],
    }
}
