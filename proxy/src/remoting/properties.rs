//! A message's properties as text: `key 0x01 value 0x02`, again and again, without escaping.

const BETWEEN_KEY_AND_VALUE: char = '\u{1}';
const BEHIND_PAIR: char = '\u{2}';

/// Names of properties that mean something to brokers (Apache's `MessageConst`).
pub mod names {
    /// The sender's message id.
    pub const UNIQUE_KEY: &str = "UNIQ_KEY";
    /// The tag.
    pub const TAGS: &str = "TAGS";
    /// Business keys, separated by blanks.
    pub const KEYS: &str = "KEYS";
    /// The message group of a FIFO message.
    pub const SHARDING_KEY: &str = "__SHARDINGKEY";
    /// When to deliver, in milliseconds since 1970.
    pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
    /// Seconds to wait before delivery.
    pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
    /// Milliseconds to wait before delivery.
    pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
    /// One of the broker's levels of delay.
    pub const DELAY_LEVEL: &str = "DELAY";
    /// `true` for the half message of a transaction.
    pub const TRANSACTION_PREPARED: &str = "TRAN_MSG";
    /// The group to ask about a transaction.
    pub const PRODUCER_GROUP: &str = "PGROUP";
    /// How long a producer may take before it is asked.
    pub const CHECK_IMMUNITY_SECONDS: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    /// Trace context.
    pub const TRACE_CONTEXT: &str = "TRACE_CONTEXT";
    /// Where the sender made the message.
    pub const BORN_HOST: &str = "__BORNHOST";
    /// When the sender made the message.
    pub const BORN_TIMESTAMP: &str = "BORN_TIMESTAMP";
    /// The priority.
    pub const PRIORITY: &str = "_SYS_MSG_PRIORITY_";
    /// The lite topic.
    pub const LITE_TOPIC: &str = "__LITE_TOPIC";
    /// A message's offset in its lite topic.
    pub const MULTI_QUEUE_OFFSET: &str = "INNER_MULTI_QUEUE_OFFSET";
    /// The lease, as the broker made it.
    pub const POP_CHECK_POINT: &str = "POP_CK";
}

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
