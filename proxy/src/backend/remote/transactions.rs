//! Commits half messages and rolls them back (Apache's `EndTransactionProcessor`).

use async_trait::async_trait;

use super::answer::success;
use super::cluster::Cluster;
use super::half_message::HalfMessage;
use super::services::Remote;
use crate::remoting::{RemotingCommand, request, response};
use crate::service::{EndTransaction, Resolution, ServiceError, ServiceErrorKind, Transactions};

/// Values of `commitOrRollback` (Apache's `MessageSysFlag`).
const COMMIT: i32 = 8;
const ROLLBACK: i32 = 12;

#[async_trait]
impl Transactions for Remote {
    async fn end(&self, request: EndTransaction) -> Result<(), ServiceError> {
        self.cluster.end(&request).await
    }
}

impl Cluster {
    // Unlike Apache's proxy, waits for the broker's answer, so that a client can rely on an OK. Never retries: see
    // `Transactions::end`.
    async fn end(&self, end: &EndTransaction) -> Result<(), ServiceError> {
        let half = HalfMessage::parse(&end.coordinates).ok_or_else(|| {
            ServiceError::new(ServiceErrorKind::InvalidHandle, "not the coordinates of a half message")
        })?;
        let command = RemotingCommand::request(request::END_TRANSACTION)
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
            .field("fromTransactionCheck", end.answers_check)
            .field("msgId", &end.message_id)
            .field("transactionId", &end.message_id)
            .field("bname", &half.broker);
        let answer = self.call_master(&half.broker, command, end.deadline).await?;
        if answer.code == response::ILLEGAL_OPERATION {
            // Brokers with `rejectCommitOrRollback` send this code without a text.
            let text = "the transaction's recovery time is over: the broker accepts a decision only in answer to its check";
            return Err(ServiceError::new(ServiceErrorKind::Rejected, text));
        }
        success(answer).map(drop)
    }
}
