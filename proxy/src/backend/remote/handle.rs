//! Brokers' receipt handles, which are this backend's coordinates of a delivery.

use std::fmt;
use std::str::FromStr;

use crate::remoting::message::StoredMessage;
use crate::service::Receive;
use crate::service::names::RETRY_PREFIX;

/// The topic and the group of a delivery.
#[derive(Clone, Copy)]
pub(super) struct TopicGroup<'a> {
    pub(super) topic: &'a str,
    pub(super) group: &'a str,
}

/// A broker's receipt handle: nine fields separated by spaces (Apache's `ReceiptHandle`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    /// The first offset of the popped batch, by which the broker finds its check-point.
    pub(super) start_offset: i64,
    /// When the lease began, in milliseconds since the Unix epoch by the broker's clock.
    pub(super) pop_time: i64,
    /// The length of the lease, in milliseconds.
    pub(super) invisible: i64,
    /// The queue of the broker's revive topic that has the check-point; 999 for orderly groups.
    pub(super) revive_queue: i32,
    /// Whether the message is in the topic itself or in a retry topic.
    pub(super) variant: TopicVariant,
    pub(super) broker: String,
    pub(super) queue_id: i32,
    pub(super) queue_offset: i64,
    /// The offset in the broker's commit log, by which the message is moved to the dead-letter topic. -1 if unknown.
    pub(super) commit_log_offset: i64,
}

/// The topic itself, or the group's retry topic in one of its two spellings (Apache's `KeyBuilder`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TopicVariant {
    /// The topic.
    Normal,
    /// `%RETRY%group_topic`.
    RetryV1,
    /// `%RETRY%group+topic`.
    RetryV2,
}

impl TopicVariant {
    /// The variant of the topic in which a received message is stored.
    pub(super) fn of(message: &StoredMessage, receive: &Receive) -> Self {
        if message.topic == Self::RetryV2.topic(&receive.topic, &receive.group) {
            Self::RetryV2
        } else if message.topic == Self::RetryV1.topic(&receive.topic, &receive.group) {
            Self::RetryV1
        } else {
            Self::Normal
        }
    }

    /// The number of the variant in handles and answers.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Normal => "0",
            Self::RetryV1 => "1",
            Self::RetryV2 => "2",
        }
    }

    /// The name of the topic that the message is stored in. Settling requests must contain this name.
    pub(super) fn topic(self, topic: &str, group: &str) -> String {
        match self {
            Self::Normal => topic.to_owned(),
            Self::RetryV1 => format!("{RETRY_PREFIX}{group}_{topic}"),
            Self::RetryV2 => format!("{RETRY_PREFIX}{group}+{topic}"),
        }
    }
}

impl Handle {
    /// Parses a handle of nine fields, or of eight, as brokers write it: without the commit log offset.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split(' ').collect();
        let malformed = || format!("a malformed receipt handle of a broker: {} fields", words.len());
        fn number<T: FromStr>(words: &[&str], at: usize) -> Option<T> {
            words.get(at)?.parse().ok()
        }
        let parsed = || {
            Some(Self {
                start_offset: number(&words, 0)?,
                pop_time: number(&words, 1)?,
                invisible: number(&words, 2)?,
                revive_queue: number(&words, 3)?,
                variant: match *words.get(4)? {
                    "0" => TopicVariant::Normal,
                    "1" => TopicVariant::RetryV1,
                    "2" => TopicVariant::RetryV2,
                    _ => return None,
                },
                broker: (*words.get(5)?).to_owned(),
                queue_id: number(&words, 6)?,
                queue_offset: number(&words, 7)?,
                commit_log_offset: number(&words, 8).unwrap_or(-1),
            })
        };
        parsed().ok_or_else(malformed)
    }

    /// Whether the lease has ended at this time, in milliseconds since the Unix epoch.
    pub(super) fn is_expired(&self, now: i64) -> bool {
        self.pop_time.saturating_add(self.invisible) <= now
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start_offset, pop_time, invisible, revive_queue, variant, broker, .. } = self;
        write!(f, "{start_offset} {pop_time} {invisible} {revive_queue} {} {broker} ", variant.code())?;
        write!(f, "{} {} {}", self.queue_id, self.queue_offset, self.commit_log_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_written_as_they_are_read() {
        let text = "100 1700000000000 60000 3 1 broker-a 2 105 98765";
        assert_eq!(Handle::parse(text).unwrap().to_string(), text);
        let eight = Handle::parse("100 1700000000000 60000 3 0 broker-a 2 105").unwrap();
        assert_eq!(eight.commit_log_offset, -1);
    }

    #[test]
    fn malformed_handles_are_refused() {
        for text in ["", "junk", "1 2 3 4 5 b 6 7", "x 1 2 3 0 b 1 1", "1 2 3 4 0 b 6"] {
            assert!(Handle::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lease_expires_at_its_end() {
        let handle = Handle::parse("1 1000 500 0 0 b 0 1 2").unwrap();
        assert!(!handle.is_expired(1499) && handle.is_expired(1500));
    }
}
