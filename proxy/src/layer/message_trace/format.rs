//! The classic format of message trace (Apache's `TraceDataEncoder`): records of fields, which consoles read by their
//! positions.
//!
//! A record ends with U+0002, and its fields are separated by U+0001. Consoles skip records whose first field is unknown. The
//! proxy therefore writes information that has no field in the format to a record of its own, before the record that it
//! refers to.

use std::fmt::{Display, Write};
use std::str::FromStr;

use strum::VariantArray;

use super::event::{
    TRACE_OK, TraceClient, TraceEvent, TraceMessageType, TraceStep, join_keys, sanitize_for_trace,
};
use crate::service::names::properties::DEFAULT_REGION;

const FIELD_END: char = '\u{1}';
const RECORD_END: char = '\u{2}';
/// The maximum number of records of one trace message that are read. Clients write about a hundred at most.
const MAX_RECORDS: usize = 10_000;
/// The text that Java writes for a missing value.
const NULL: &str = "null";
/// The result of a failed step, if its record has no reason.
const FAILED: &str = "failed";
/// The results of a consumption (Apache's `ConsumeReturnType`).
const CONSUMED: i32 = 0;
const NOT_CONSUMED: i32 = 4;

/// The first fields of records, which say what a record contains.
mod kind {
    pub(super) const SENT: &str = "Pub";
    pub(super) const DELIVERED: &str = "SubBefore";
    pub(super) const SETTLED: &str = "SubAfter";
    pub(super) const DECIDED: &str = "EndTransaction";
    pub(super) const RECALLED: &str = "Recall";
    /// A record of this proxy: the step and the result of the next record.
    pub(super) const DETAIL: &str = "ThinDetail";
}

impl TraceEvent {
    /// Appends the record of the event. The client's id and address are not part of it: the message that carries the record
    /// has them.
    pub(super) fn encode(&self, out: &mut String) {
        let Self { at_ms, step, message_id, topic, group, tag, keys, cost_ms, .. } = self;
        if *step == TraceStep::DeadLettered || !self.is_ok() {
            record(out, &[&kind::DETAIL, &<&str>::from(*step), &self.result]);
        }
        // A number that exceeds Java's `int` makes consoles fail.
        let cost = i32::try_from(*cost_ms).unwrap_or(i32::MAX);
        let message_type = self.message_type as i32;
        match step {
            TraceStep::Sent => {
                let bytes = i32::try_from(self.body_bytes).unwrap_or(i32::MAX);
                let address = not_empty(&self.client.address);
                #[rustfmt::skip]
                record(out, &[
                    &kind::SENT, at_ms, &DEFAULT_REGION, group, topic, message_id, tag, keys, &"", &bytes, &cost,
                    &message_type, &"", &self.is_ok(), &address,
                ]);
            }
            TraceStep::Delivered => {
                let again = self.attempt.saturating_sub(1).max(0);
                // The topic is an extension. It also keeps consoles from dropping empty keys, which would be the last field.
                #[rustfmt::skip]
                record(out, &[
                    &kind::DELIVERED, at_ms, &DEFAULT_REGION, group, &self.delivery_id, message_id, &again, keys,
                    &not_empty(topic),
                ]);
            }
            TraceStep::Acknowledged | TraceStep::Retried | TraceStep::DeadLettered => {
                let consumed = *step == TraceStep::Acknowledged && self.is_ok();
                let code = if consumed { CONSUMED } else { NOT_CONSUMED };
                #[rustfmt::skip]
                record(out, &[
                    &kind::SETTLED, &self.delivery_id, message_id, &cost, &consumed, keys, &code, at_ms,
                    &not_empty(group),
                ]);
            }
            TraceStep::Committed | TraceStep::RolledBack | TraceStep::Undecided => {
                let decision = match step {
                    TraceStep::Committed => "COMMIT_MESSAGE",
                    TraceStep::RolledBack => "ROLLBACK_MESSAGE",
                    _ => "UNKNOW",
                };
                #[rustfmt::skip]
                record(out, &[
                    &kind::DECIDED, at_ms, &DEFAULT_REGION, group, topic, message_id, tag, keys, &"", &message_type,
                    message_id, &decision, &false,
                ]);
            }
            TraceStep::Recalled => {
                let is_ok = self.is_ok();
                record(out, &[&kind::RECALLED, at_ms, &DEFAULT_REGION, group, topic, message_id, &is_ok]);
            }
        }
    }

    /// Parses a trace message that `client`, or a proxy on its behalf, has written. Malformed records are skipped: clients that
    /// may write to the trace topic can write anything.
    pub fn decode_all<'a>(body: &'a str, client: &'a TraceClient) -> impl Iterator<Item = Self> + 'a {
        let mut detail = None;
        body.split(RECORD_END).take(MAX_RECORDS).filter_map(move |record| {
            let fields: Vec<_> = record.split(FIELD_END).collect();
            if let [kind::DETAIL, step, result, ..] = fields[..] {
                detail = TraceStep::from_str(step).ok().map(|step| (step, sanitize_for_trace(result)));
                return None;
            }
            let detail = detail.take();
            let mut event = Self::decode(&TraceFields(&fields), client)?;
            if let Some((step, result)) = detail {
                (event.step, event.result) = (step, result);
            }
            Some(event)
        })
    }

    fn decode(fields: &TraceFields<'_>, client: &TraceClient) -> Option<Self> {
        let event = |step, id: usize| {
            let id = fields.text(id);
            (!id.is_empty()).then(|| Self::new(step, &id, client.clone()))
        };
        let failed = |is_ok: bool| if is_ok { TRACE_OK } else { FAILED }.to_owned();
        match fields.0[0] {
            kind::SENT => {
                // After the type, old versions have the success, and later ones the offset, the success, and the address.
                let success = if fields.0.len() <= 13 { 12 } else { 13 };
                let sent = event(TraceStep::Sent, 5)?;
                let address = fields.text(14);
                let client = match address.is_empty() {
                    true => sent.client,
                    false => TraceClient { address, ..sent.client },
                };
                Some(Self {
                    at_ms: fields.number(1)?,
                    group: fields.text(3),
                    topic: fields.text(4),
                    tag: fields.text(6),
                    keys: fields.keys(7),
                    client,
                    body_bytes: fields.number(9).unwrap_or_default(),
                    cost_ms: fields.number(10).unwrap_or_default(),
                    message_type: fields.message_type(11),
                    result: failed(fields.flag(success).unwrap_or(true)),
                    ..sent
                })
            }
            kind::DELIVERED => Some(Self {
                at_ms: fields.number(1)?,
                group: fields.text(3),
                delivery_id: fields.text(4),
                attempt: fields.number(6).unwrap_or(0_i32).saturating_add(1),
                keys: fields.keys(7),
                topic: fields.text(8),
                ..event(TraceStep::Delivered, 5)?
            }),
            kind::SETTLED => {
                let consumed = fields.flag(4)?;
                let step = if consumed { TraceStep::Acknowledged } else { TraceStep::Retried };
                Some(Self {
                    delivery_id: fields.text(1),
                    cost_ms: fields.number(3).unwrap_or_default(),
                    keys: fields.keys(5),
                    at_ms: fields.number(7).unwrap_or_default(),
                    group: fields.text(8),
                    ..event(step, 2)?
                })
            }
            kind::DECIDED => {
                let step = match fields.0.get(11) {
                    Some(&"COMMIT_MESSAGE") => TraceStep::Committed,
                    Some(&"ROLLBACK_MESSAGE") => TraceStep::RolledBack,
                    _ => TraceStep::Undecided,
                };
                Some(Self {
                    at_ms: fields.number(1)?,
                    group: fields.text(3),
                    topic: fields.text(4),
                    tag: fields.text(6),
                    keys: fields.keys(7),
                    message_type: fields.message_type(9),
                    ..event(step, 5)?
                })
            }
            kind::RECALLED => Some(Self {
                at_ms: fields.number(1)?,
                group: fields.text(3),
                topic: fields.text(4),
                result: failed(fields.flag(6)?),
                ..event(TraceStep::Recalled, 5)?
            }),
            _ => None,
        }
    }
}

fn record(out: &mut String, fields: &[&dyn Display]) {
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            out.push(FIELD_END);
        }
        // Writing to a String can't fail.
        let _ = write!(out, "{field}");
    }
    out.push(RECORD_END);
}

/// The last field of a record must not be empty: consoles drop empty fields at the end, and then fail.
fn not_empty(text: &str) -> &str {
    if text.is_empty() { NULL } else { text }
}

/// The fields of a record. They are not trusted, because any client may have written them.
struct TraceFields<'a>(&'a [&'a str]);

impl TraceFields<'_> {
    fn text(&self, index: usize) -> String {
        self.0
            .get(index)
            .filter(|text| **text != NULL)
            .map(|text| sanitize_for_trace(text))
            .unwrap_or_default()
    }

    fn keys(&self, index: usize) -> String {
        let keys = self.0.get(index).filter(|text| **text != NULL);
        keys.map(|keys| join_keys(keys.split(' '))).unwrap_or_default()
    }

    fn number<T: FromStr>(&self, index: usize) -> Option<T> {
        self.0.get(index)?.parse().ok()
    }

    fn flag(&self, index: usize) -> Option<bool> {
        self.0.get(index).map(|text| *text == "true")
    }

    fn message_type(&self, index: usize) -> TraceMessageType {
        let number = self.number::<usize>(index);
        number.and_then(|number| TraceMessageType::VARIANTS.get(number)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> TraceClient {
        TraceClient { id: "c".to_owned(), address: "10.0.0.1:5".to_owned() }
    }

    fn event(step: TraceStep) -> TraceEvent {
        TraceEvent {
            at_ms: 1_700_000_000_000,
            group: "g".to_owned(),
            ..TraceEvent::new(step, "id", client())
        }
    }

    fn decoded(body: &str) -> Vec<TraceEvent> {
        TraceEvent::decode_all(body, &client()).collect()
    }

    #[test]
    fn encoded_events_are_decoded() {
        let sent = TraceEvent {
            topic: "t".to_owned(),
            tag: "tag".to_owned(),
            keys: "k1 k2".to_owned(),
            cost_ms: 7,
            body_bytes: 9,
            message_type: TraceMessageType::Delayed,
            ..event(TraceStep::Sent)
        };
        let delivered = TraceEvent {
            topic: "t".to_owned(),
            attempt: 2,
            delivery_id: "d".to_owned(),
            ..event(TraceStep::Delivered)
        };
        let mut events = vec![sent.clone(), delivered.clone()];
        for step in [TraceStep::Acknowledged, TraceStep::Retried, TraceStep::DeadLettered] {
            events.push(TraceEvent { cost_ms: 3, delivery_id: "d".to_owned(), ..event(step) });
        }
        for step in [TraceStep::Committed, TraceStep::RolledBack, TraceStep::Undecided, TraceStep::Recalled] {
            events.push(TraceEvent { topic: "t".to_owned(), ..event(step) });
        }
        let refused = events.iter().map(|event| TraceEvent { result: "busy".to_owned(), ..event.clone() });
        let events: Vec<_> = events.iter().cloned().chain(refused).collect();
        let mut text = String::new();
        events.iter().for_each(|event| event.encode(&mut text));
        assert_eq!(decoded(&text), events);
    }

    // The positions at which consoles expect each field.
    #[test]
    fn consoles_find_every_field_at_its_position() {
        let mut text = String::new();
        let sent = TraceEvent { topic: "t".to_owned(), body_bytes: 9, ..event(TraceStep::Sent) };
        let acked = TraceEvent { delivery_id: "d".to_owned(), cost_ms: 3, ..event(TraceStep::Acknowledged) };
        let delivered = TraceEvent { delivery_id: "d".to_owned(), attempt: 1, ..event(TraceStep::Delivered) };
        [sent, delivered, acked].iter().for_each(|event| event.encode(&mut text));
        let expected = "Pub|1700000000000|DefaultRegion|g|t|id||||9|0|0||true|10.0.0.1:5;\
                        SubBefore|1700000000000|DefaultRegion|g|d|id|0||null;\
                        SubAfter|d|id|3|true||0|1700000000000|g;";
        assert_eq!(text.replace(FIELD_END, "|").replace(RECORD_END, ";"), expected);
    }

    #[test]
    fn records_of_all_versions_of_classic_clients_are_decoded() {
        let read = |text: &str| decoded(&text.replace('|', "\u{1}").replace(';', "\u{2}"));
        let v4 = "Pub|1700000000000|r|pg|t|id|null|null|10.0.0.2:10911|9|12|4|false;\
                  SubBefore|1700000000001|r|g|req|id|0|null;SubAfter|req|id|5|true|k;";
        let v5 = "Pub|1700000000000|r|pg|t|id|tag|k|10.0.0.2:10911|9|12|0|offset|true;\
                  SubAfter|req|id|5|false|k|4|1700000000002|g;\
                  EndTransaction|1700000000003|r|pg|t|id|tag|k|h|1|tx|COMMIT_MESSAGE|false;\
                  Recall|1700000000004|r|pg|t|id|true;";
        let [sent, delivered, acked] = &read(v4)[..] else { panic!("three records") };
        assert_eq!(
            (sent.cost_ms, sent.result.as_str(), sent.message_type),
            (12, FAILED, TraceMessageType::Ordered)
        );
        assert_eq!((sent.tag.as_str(), sent.client.address.as_str()), ("", "10.0.0.1:5"));
        assert_eq!((delivered.attempt, delivered.delivery_id.as_str()), (1, "req"));
        assert_eq!((acked.step, acked.cost_ms, acked.at_ms), (TraceStep::Acknowledged, 5, 0));
        let steps: Vec<_> =
            read(v5).iter().map(|event| (event.step, event.at_ms - 1_700_000_000_000)).collect();
        let [sent, retried, committed, recalled] =
            [TraceStep::Sent, TraceStep::Retried, TraceStep::Committed, TraceStep::Recalled];
        assert_eq!(steps, [(sent, 0), (retried, 2), (committed, 3), (recalled, 4)]);
    }

    #[test]
    fn no_name_forges_fields_or_records() {
        let hostile = "x\u{2}Pub\u{1}1\u{1}r\u{1}g\u{1}t\u{1}forged id";
        let mut text = String::new();
        let keys = join_keys([hostile, "", "k"].into_iter());
        TraceEvent {
            keys,
            tag: sanitize_for_trace(hostile),
            ..TraceEvent::new(TraceStep::Sent, hostile, client())
        }
        .encode(&mut text);
        let [event] = &decoded(&text)[..] else { panic!("one record: {text:?}") };
        assert_eq!(
            event.message_id,
            "x\u{FFFD}Pub\u{FFFD}1\u{FFFD}r\u{FFFD}g\u{FFFD}t\u{FFFD}forged\u{FFFD}id"
        );
        assert_eq!((&event.tag, event.keys.split(' ').count()), (&event.message_id, 2));
        assert!(sanitize_for_trace(&"é".repeat(1000)).len() <= 255);
    }

    #[test]
    fn malformed_records_are_skipped() {
        let garbage = "\u{1}\u{1}\u{2}Pub\u{2}Pub\u{1}x\u{2}SubAfter\u{1}\u{2}ThinDetail\u{1}sent\u{2}\u{2}\
                       ThinDetail\u{1}nothing\u{1}x\u{2}Recall\u{1}1\u{1}r\u{1}g\u{1}t\u{1}id\u{1}true\u{2}";
        assert_eq!(
            decoded(garbage).iter().map(|event| event.step).collect::<Vec<_>>(),
            [TraceStep::Recalled]
        );
    }
}
