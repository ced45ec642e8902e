//! Encodes and decodes a message's properties as text: `key 0x01 value 0x02` for each property, without escaping.

const BETWEEN_KEY_AND_VALUE: char = '\u{1}';
const END_OF_PAIR: char = '\u{2}';

/// Encodes properties. Leaves out pairs with an empty key or value, or with a separator in one of them: the text form can't
/// represent these.
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        let representable = |part: &str, ends: &[char]| !part.is_empty() && !part.contains(ends);
        if representable(key, &[BETWEEN_KEY_AND_VALUE, END_OF_PAIR]) && representable(value, &[END_OF_PAIR]) {
            text.push_str(key);
            text.push(BETWEEN_KEY_AND_VALUE);
            text.push_str(value);
            text.push(END_OF_PAIR);
        }
    }
    text
}

/// At most how many pairs a text has.
#[must_use]
pub fn count(text: &str) -> usize {
    text.matches(END_OF_PAIR).count() + 1
}

/// Decodes properties. Skips malformed parts.
pub fn decode(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(END_OF_PAIR)
        .filter_map(|pair| pair.split_once(BETWEEN_KEY_AND_VALUE))
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_separator_may_be_missing_and_malformed_pairs_are_skipped() {
        let read: Vec<_> = decode("a\u{1}1\u{2}\u{1}x\u{2}b\u{1}\u{2}noise\u{2}c\u{1}d\u{1}e").collect();
        assert_eq!(read, [("a", "1"), ("c", "d\u{1}e")]);
    }

    proptest! {
        #[test]
        fn properties_survive_a_round_trip(pairs in vec(("[^\\x01\\x02]{1,9}", "[^\\x02]{1,9}"), 0..9)) {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let text = encode(pairs.iter().copied());
            prop_assert_eq!(decode(&text).collect::<Vec<_>>(), pairs);
        }
    }
}
