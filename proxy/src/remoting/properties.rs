//! A message's properties as text: `key 0x01 value 0x02`, again and again, without escaping.

const BETWEEN_KEY_AND_VALUE: char = '\u{1}';
const BEHIND_PAIR: char = '\u{2}';

/// Writes properties. Pairs that the form can't carry are left out, as readers would drop them or cut them in two: empty
/// ones, and such that hold what ends their key or their pair.
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        let carried = |part: &str, ends: &[char]| !part.is_empty() && !part.contains(ends);
        if carried(key, &[BETWEEN_KEY_AND_VALUE, BEHIND_PAIR]) && carried(value, &[BEHIND_PAIR]) {
            text.push_str(key);
            text.push(BETWEEN_KEY_AND_VALUE);
            text.push_str(value);
            text.push(BEHIND_PAIR);
        }
    }
    text
}

/// Reads properties; what is not a pair is passed over.
pub fn decode(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(BEHIND_PAIR)
        .filter_map(|pair| pair.split_once(BETWEEN_KEY_AND_VALUE))
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_separator_may_be_missing_and_odd_pairs_are_dropped() {
        let read: Vec<_> = decode("a\u{1}1\u{2}\u{1}x\u{2}b\u{1}\u{2}noise\u{2}c\u{1}d\u{1}e").collect();
        assert_eq!(read, [("a", "1"), ("c", "d\u{1}e")]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in vec(("[^\\x01\\x02]{1,9}", "[^\\x02]{1,9}"), 0..9)) {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let text = encode(pairs.iter().copied());
            prop_assert_eq!(decode(&text).collect::<Vec<_>>(), pairs);
        }
    }
}
