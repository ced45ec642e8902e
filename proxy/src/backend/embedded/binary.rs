//! The primitives of the record formats: LEB128 numbers and length-prefixed texts.

use bytes::Buf;

/// A value ends early or is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Appends a number. Small numbers take few bytes.
pub(super) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number that may be negative.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_number(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a text.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads a number.
pub(super) fn number(input: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = input.try_get_u8().map_err(|_| Malformed)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Reads a number that may be negative.
pub(super) fn signed(input: &mut &[u8]) -> Result<i64, Malformed> {
    let value = number(input)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// Reads a text without copying it.
pub(super) fn text<'a>(input: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    let length = usize::try_from(number(input)?).map_err(|_| Malformed)?;
    let (text, rest) = input.split_at_checked(length).ok_or(Malformed)?;
    *input = rest;
    std::str::from_utf8(text).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_are_decoded_as_they_were_encoded(a in any::<u64>(), b in any::<i64>(), c in ".*") {
            let mut out = Vec::new();
            put_number(&mut out, a);
            put_signed(&mut out, b);
            put_text(&mut out, &c);
            let mut input = out.as_slice();
            prop_assert_eq!(number(&mut input), Ok(a));
            prop_assert_eq!(signed(&mut input), Ok(b));
            prop_assert_eq!(text(&mut input), Ok(c.as_str()));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(junk in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut input = junk.as_slice();
            let _ = text(&mut input);
            let _ = number(&mut input);
            let _ = signed(&mut input);
        }
    }
}
