//! Counts the values of a JSON text before it is decoded, because their number bounds its size in memory.

/// About how many values a JSON text has, at all levels.
pub(super) fn count(json: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (0, false, false);
    for byte in json {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b',' | b'[' | b'{') => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_texts() {
        for (json, expected) in
            [(r#"{"a": 1, "b": [2, 3]}"#, 4), (r#"{"a": ",[{\",,"}"#, 1), (r#""\\","#, 1), ("", 0)]
        {
            assert_eq!(count(json.as_bytes()), expected, "{json}");
        }
    }
}
