//! The coordinates of a half message.

use std::fmt;

use crate::remoting::RemotingCommand;

/// Where a half message is stored. The text form has the three fields, separated by spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HalfMessage {
    pub(super) broker: String,
    /// The offset in the broker's topic of half messages.
    pub(super) table_offset: i64,
    /// The offset in the broker's commit log.
    pub(super) commit_log_offset: i64,
}

impl HalfMessage {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let half = Self {
            broker: words.next().filter(|broker| !broker.is_empty())?.to_owned(),
            table_offset: words.next()?.parse().ok()?,
            commit_log_offset: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(half)
    }

    /// Reads the coordinates from a broker's answer to the send. The answer has a field for the table offset; the commit
    /// log offset is the end of the message id.
    pub(super) fn stored(broker: &str, answer: &RemotingCommand) -> Option<Self> {
        const OFFSET_DIGITS: usize = 16;
        let id = answer.text("msgId")?;
        let digits = id.get(id.len().checked_sub(OFFSET_DIGITS)?..)?;
        Some(Self {
            broker: broker.to_owned(),
            table_offset: answer.number("queueOffset")?,
            commit_log_offset: i64::from_str_radix(digits, 16).ok()?,
        })
    }
}

impl fmt::Display for HalfMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.broker, self.table_offset, self.commit_log_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_read_as_they_are_written() {
        let half = HalfMessage { broker: "broker-a".to_owned(), table_offset: 7, commit_log_offset: 123_456 };
        assert_eq!(HalfMessage::parse(&half.to_string()), Some(half));
        for junk in ["", "b", "b 1", "b x 1", "b 1 2 3", " 1 2"] {
            assert_eq!(HalfMessage::parse(junk), None, "{junk}");
        }
    }

    #[test]
    fn both_offsets_are_read_from_the_answer_to_a_send() {
        let mut answer = RemotingCommand::default().field("msgId", "7F00000100002A9F00000000000004D2");
        answer = answer.field("queueOffset", 3);
        let half = HalfMessage { broker: "b".to_owned(), table_offset: 3, commit_log_offset: 1234 };
        assert_eq!(HalfMessage::stored("b", &answer), Some(half));
        for id in ["", "4D2", "zz00000100002A9F00000000000004DZ", "7F00000100002A9Fö00000000004D2"] {
            assert_eq!(HalfMessage::stored("b", &answer.clone().field("msgId", id)), None, "{id}");
        }
    }
}
