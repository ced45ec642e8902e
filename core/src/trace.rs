//! W3C trace context in messages.
//!
//! It is sent in the properties `traceparent` and `tracestate`, which OpenTelemetry's instrumentation of Apache's Java
//! client reads and writes. `traceparent` is also sent in the protocol's own field.

use crate::message::{Delivery, Message};

const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";

impl Message {
    /// Propagates a trace: sets the property `traceparent`, which has the format of the header `traceparent` of
    /// [W3C trace context](https://www.w3.org/TR/trace-context/), such as
    /// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
    ///
    /// Receivers get it as [`Delivery::trace_parent`]. A value that is not well-formed is only sent as a property.
    #[must_use]
    pub fn trace_parent(self, trace_parent: impl Into<String>) -> Self {
        self.replace(TRACE_PARENT, trace_parent.into())
    }

    /// Sets the property `tracestate`, which accompanies [`trace_parent`](Self::trace_parent).
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
    /// The `tracestate` that accompanies `trace_parent`, if the sender set one.
    #[must_use]
    pub fn trace_state(&self) -> Option<&str> {
        find(&self.properties, TRACE_STATE)
    }
}

/// The property `traceparent`, if there is one and it is well-formed.
pub(crate) fn trace_parent(properties: &[(String, String)]) -> Option<&str> {
    find(properties, TRACE_PARENT).filter(|value| is_trace_parent(value))
}

/// The last value of a property.
fn find<'a>(properties: &'a [(String, String)], name: &str) -> Option<&'a str> {
    properties.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Whether `value` has the format of version 00, which later versions may only extend: two, 32, 16 and two lower-case
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
    fn only_a_well_formed_trace_parent_is_accepted() {
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
    fn the_last_trace_parent_is_used() {
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
