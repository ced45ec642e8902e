//! W3C trace context in messages.
//!
//! It travels in the properties `traceparent` and `tracestate`, where OpenTelemetry's instrumentation of Apache's Java
//! client reads and writes it, and `traceparent` also in the field that the protocol has for it.

use crate::message::{Delivery, Message};

const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";

impl Message {
    /// Hands a trace on: sets the property `traceparent` to the header of this name of
    /// [W3C trace context](https://www.w3.org/TR/trace-context/), such as
    /// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
    ///
    /// Receivers find it as [`Delivery::trace_parent`]. A value that is not well-formed is sent as a property only.
    #[must_use]
    pub fn trace_parent(self, trace_parent: impl Into<String>) -> Self {
        self.replace(TRACE_PARENT, trace_parent.into())
    }

    /// Sets the property `tracestate`, which belongs to [`trace_parent`](Self::trace_parent).
    #[must_use]
    pub fn trace_state(self, trace_state: impl Into<String>) -> Self {
        self.replace(TRACE_STATE, trace_state.into())
    }

    fn replace(mut self, name: &str, value: String) -> Self {
        self.properties.retain(|(known, _)| known != name);
        self.property(name, value)
    }
}

impl Delivery {
    /// The `tracestate` that belongs to `trace_parent`, if the sender set one.
    #[must_use]
    pub fn trace_state(&self) -> Option<&str> {
        find(&self.properties, TRACE_STATE)
    }
}

/// The well-formed `traceparent` among properties.
pub(crate) fn trace_parent(properties: &[(String, String)]) -> Option<&str> {
    find(properties, TRACE_PARENT).filter(|value| is_trace_parent(value))
}

/// Of several values for one name, the last counts.
fn find<'a>(properties: &'a [(String, String)], name: &str) -> Option<&'a str> {
    properties.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Whether `value` has the form of version 00, which later versions may only add to: two, 32, 16 and two lower-case
/// hexadecimal digits, joined by hyphens.
fn is_trace_parent(value: &str) -> bool {
    const LENGTH: usize = 55;
    let known = value.as_bytes();
    let (known, added) = known.split_at(known.len().min(LENGTH));
    known.len() == LENGTH
        && known.iter().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
        && !known.starts_with(b"ff")
        && (added.is_empty() || (added[0] == b'-' && !known.starts_with(b"00")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn only_a_well_formed_trace_parent_counts() {
        for (value, sound) in [
            (GOOD, true),
            (&GOOD.replacen("00", "01", 1), true),
            (&format!("01{}-more", &GOOD[2..]), true),
            (&format!("{GOOD}-more"), false),
            (&GOOD.replacen("00", "ff", 1), false),
            (&GOOD.to_uppercase(), false),
            (&GOOD.replace('-', "_"), false),
            (&GOOD[1..], false),
            ("00-ü", false),
            ("", false),
        ] {
            assert_eq!(is_trace_parent(value), sound, "{value}");
        }
    }

    #[test]
    fn the_last_trace_parent_counts() {
        let message = Message::new("t", "x").trace_parent("first").trace_parent(GOOD).trace_state("a=1");
        assert_eq!(
            message.properties,
            [("traceparent".into(), GOOD.into()), ("tracestate".into(), "a=1".into())]
        );
        let mut properties = message.properties;
        assert_eq!(trace_parent(&properties), Some(GOOD));
        properties.push(("traceparent".into(), "nonsense".into()));
        assert_eq!(trace_parent(&properties), None);
    }
}
