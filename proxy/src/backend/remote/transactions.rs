//! Half messages: their coordinates, and the decision about them (Apache's `EndTransactionProcessor`).

use std::fmt;
use std::time::Instant;

use async_trait::async_trait;

use super::answer::success;
use super::cluster::Cluster;
use super::services::Remote;
use crate::remoting::{Command, request, response};
use crate::service::{EndTransaction, Resolution, ServiceError, ServiceErrorKind, Transactions};

/// Bits of `commitOrRollback` (Apache's `MessageSysFlag`).
const COMMIT: i32 = 8;
const ROLLBACK: i32 = 12;

/// Where a half message lies, as three words with blanks between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HalfMessage {
    pub(super) broker: String,
    /// Its position in the broker's topic of half messages.
    pub(super) table_offset: i64,
    /// Its position in the broker's commit log.
    pub(super) commit_log_offset: i64,
}

impl HalfMessage {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let half = Self {
            broker: words.next().filter(|broker| !broker.is_empty())?.to_owned(),
            table_offset: words.next()?.parse().ok()?,
            commit_log_offset: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(half)
    }

    /// The place of a half message that a broker has just stored: its answer tells the one offset, and the
    /// message id it made the other.
    pub(super) fn stored(broker: &str, answer: &Command) -> Option<Self> {
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

#[async_trait]
impl Transactions for Remote {
    async fn end(&self, request: EndTransaction) -> Result<(), ServiceError> {
        self.cluster.end(&request).await
    }
}

impl Cluster {
    // Asked and answered, where Apache's proxy only tells the broker: a client that hears OK can rely on it.
    // Never asked twice: see `Transactions::end`.
    async fn end(&self, end: &EndTransaction) -> Result<(), ServiceError> {
        let half = HalfMessage::parse(&end.coordinates).ok_or_else(|| {
            ServiceError::new(ServiceErrorKind::InvalidHandle, "not a transaction of a broker")
        })?;
        let command = Command::request(request::END_TRANSACTION)
            .field("topic", &end.topic)
            // All gRPC producers of a topic are one group, as in `convert::properties`.
            .field("producerGroup", &end.topic)
            .field("tranStateTableOffset", half.table_offset)
            .field("commitLogOffset", half.commit_log_offset)
            .field(
                "commitOrRollback",
                match end.resolution {
                    Resolution::Commit => COMMIT,
                    Resolution::Rollback => ROLLBACK,
                },
            )
            .field("fromTransactionCheck", end.asked)
            .field("msgId", &end.message_id)
            .field("transactionId", &end.message_id)
            .field("bname", &half.broker);
        let left = end.deadline.saturating_duration_since(Instant::now());
        let answer = self.ask_broker(&half.broker, command, left).await?;
        if answer.code == response::ILLEGAL_OPERATION {
            // `rejectCommitOrRollback`, without a text of its own.
            let text = "the recovery time has passed: the broker takes the decision as the answer to its question alone";
            return Err(ServiceError::new(ServiceErrorKind::Rejected, text));
        }
        success(answer).map(drop)
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
    fn the_answer_to_a_send_tells_both_offsets() {
        let mut answer = Command::default().field("msgId", "7F00000100002A9F00000000000004D2");
        answer = answer.field("queueOffset", 3);
        let half = HalfMessage { broker: "b".to_owned(), table_offset: 3, commit_log_offset: 1234 };
        assert_eq!(HalfMessage::stored("b", &answer), Some(half));
        for id in ["", "4D2", "zz00000100002A9F00000000000004DZ", "7F00000100002A9Fö00000000004D2"] {
            assert_eq!(HalfMessage::stored("b", &answer.clone().field("msgId", id)), None, "{id}");
        }
    }
}
