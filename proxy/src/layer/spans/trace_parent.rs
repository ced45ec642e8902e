//! The position of a span in a trace, as [W3C trace context](https://www.w3.org/TR/trace-context/) writes it.

/// A span of another process, and whether that process has sampled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span in the trace.
    pub span_id: [u8; 8],
    /// Whether the span is recorded.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads a `traceparent`, such as `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`. Returns `None` if it is not
    /// well-formed. Later versions may append fields.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version] = hex(parts.next()?)?;
        let (trace_id, span_id) = (hex(parts.next()?)?, hex(parts.next()?)?);
        let [flags] = hex(parts.next()?)?;
        let has_known_length = version > 0 || parts.next().is_none();
        let is_valid = version != 0xff && trace_id != [0; 16] && span_id != [0; 8] && has_known_length;
        is_valid.then_some(Self { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }
}

/// Decodes lower-case hexadecimal digits.
fn hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower = !digits.bytes().any(|digit| digit.is_ascii_uppercase());
    (is_lower && hex::decode_to_slice(digits, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn well_formed_contexts_are_read() {
        let read = |text: String| {
            TraceParent::parse(&text).map(|parent| (hex::encode(parent.trace_id), parent.is_sampled))
        };
        assert_eq!(read(format!("00-{TRACE}-{SPAN}-01")), Some((TRACE.to_owned(), true)));
        assert_eq!(read(format!("00-{TRACE}-{SPAN}-00")), Some((TRACE.to_owned(), false)));
        assert_eq!(read(format!("01-{TRACE}-{SPAN}-03-later")), Some((TRACE.to_owned(), true)));
    }

    #[test]
    fn malformed_contexts_are_ignored() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}é-{SPAN}-01"),
        ] {
            assert_eq!(TraceParent::parse(&text), None, "{text}");
        }
    }
}
