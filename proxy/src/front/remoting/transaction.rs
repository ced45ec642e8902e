//! Commits and rolls back half messages, sends orphan checks to producers, and encodes transaction ids.

use super::answer::{Answered, success};
use super::client_connection::ClientConnection;
use super::log_position;
use super::message::{self, StoreLocation};
use super::request::Request;
use crate::processor::{EndTransactionCommand, SendReceipt};
use crate::remoting::message::flags;
use crate::remoting::{RemotingCommand, properties, request};
use crate::service::names::properties as names;
use crate::service::{Delivery, Resolution};

/// Values of `commitOrRollback` (Apache's `MessageSysFlag`).
const COMMIT: i32 = 8;
const ROLLBACK: i32 = 12;
/// Separates a signed transaction id from its topic. Clients before 5.0 send the id but no topic when they commit or
/// roll back.
const TOPIC_SEPARATOR: char = ':';

/// The transaction id in the answer to a send. For a message that is not a half message, it is the message id.
pub(super) fn id(topic: &str, stored: &SendReceipt) -> String {
    if stored.transaction_id == stored.message_id {
        return stored.message_id.clone();
    }
    with_topic(&stored.transaction_id, topic)
}

fn with_topic(transaction_id: &str, topic: &str) -> String {
    format!("{transaction_id}{TOPIC_SEPARATOR}{topic}")
}

/// END_TRANSACTION: commits a half message, or rolls it back.
pub(super) async fn end(request: Request) -> Answered {
    let id = request.command.text("transactionId").unwrap_or_default();
    let (transaction_id, topic) = id.rsplit_once(TOPIC_SEPARATOR).unwrap_or((id, ""));
    let topic = request.command.text("topic").filter(|_| topic.is_empty()).unwrap_or(topic);
    let end = EndTransactionCommand {
        topic: topic.to_owned(),
        message_id: request.command.text("msgId").unwrap_or_default().to_owned(),
        transaction_id: transaction_id.to_owned(),
        resolution: match request.number("commitOrRollback")? {
            COMMIT => Some(Resolution::Commit),
            ROLLBACK => Some(Resolution::Rollback),
            _ => None,
        },
        answers_check: request.flag("fromTransactionCheck"),
    };
    request.run(end).await?;
    Ok(success())
}

/// CHECK_TRANSACTION_STATE: the request that asks a producer to decide about a half message. The producer answers with
/// an END_TRANSACTION.
pub(super) fn check(
    connection: &ClientConnection,
    delivery: &Delivery,
    transaction_id: &str,
) -> RemotingCommand {
    let mut record = message::record(delivery, StoreLocation::of(delivery, connection.local(), ""));
    record.system_flags |= flags::TRANSACTION_PREPARED;
    let transaction_id = with_topic(transaction_id, &delivery.topic);
    // The Go client commits with the id from this property. Apache's brokers store another id there.
    let others = properties::decode(&record.properties).filter(|(key, _)| *key != names::TRANSACTION_ID);
    record.properties = properties::encode(others.chain([(names::TRANSACTION_ID, &*transaction_id)]));
    RemotingCommand::request(request::CHECK_TRANSACTION_STATE)
        .field("topic", &delivery.topic)
        .field("tranStateTableOffset", delivery.queue_offset)
        .field("commitLogOffset", log_position::of(delivery))
        .field("msgId", &delivery.message.id)
        .field("transactionId", transaction_id)
        .field("offsetMsgId", record.offset_id())
        .body(record.encode())
}
