//! Decisions about half messages, and questions about undecided ones.

use super::message::{self, Place};
use super::position;
use super::request::{Answered, Request, success};
use super::session::Session;
use crate::processor::{EndTransactionCommand, Stored};
use crate::remoting::message::flags;
use crate::remoting::{Command, properties, request};
use crate::service::names::properties as names;
use crate::service::{Delivery, Resolution};

/// Values of `commitOrRollback` (Apache's `MessageSysFlag`).
const COMMIT: i32 = 8;
const ROLLBACK: i32 = 12;
/// Between a sealed transaction id and its topic. Clients before 5.0 don't name the topic when they decide, but repeat the
/// id.
const BEFORE_TOPIC: char = ':';

/// The transaction id of a message, as the answer to its send tells it. A message that is not a half message has its own
/// id.
pub(super) fn id(topic: &str, stored: &Stored) -> String {
    if stored.transaction_id == stored.message_id {
        return stored.message_id.clone();
    }
    with_topic(&stored.transaction_id, topic)
}

fn with_topic(transaction_id: &str, topic: &str) -> String {
    format!("{transaction_id}{BEFORE_TOPIC}{topic}")
}

/// END_TRANSACTION: commits a half message, or rolls it back.
pub(super) async fn end(request: Request) -> Answered {
    let told = request.command.text("transactionId").unwrap_or_default();
    let (transaction_id, topic) = told.rsplit_once(BEFORE_TOPIC).unwrap_or((told, ""));
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
        checked: request.flag("fromTransactionCheck"),
    };
    request.run(end).await?;
    Ok(success())
}

/// CHECK_TRANSACTION_STATE: asks a producer what became of a half message. Its answer is an END_TRANSACTION.
pub(super) fn check(session: &Session, delivery: &Delivery, transaction_id: &str) -> Command {
    let mut record = message::record(delivery, Place::stored(delivery, session.local(), ""));
    record.system_flags |= flags::TRANSACTION_PREPARED;
    let transaction_id = with_topic(transaction_id, &delivery.topic);
    // The Go client decides by this one, and Apache's brokers store another id there.
    let others = properties::decode(&record.properties).filter(|(key, _)| *key != names::TRANSACTION_ID);
    record.properties = properties::encode(others.chain([(names::TRANSACTION_ID, &*transaction_id)]));
    Command::request(request::CHECK_TRANSACTION_STATE)
        .field("topic", &delivery.topic)
        .field("tranStateTableOffset", delivery.queue_offset)
        .field("commitLogOffset", position::of(delivery))
        .field("msgId", &delivery.message.id)
        .field("transactionId", transaction_id)
        .field("offsetMsgId", record.offset_id())
        .body(record.encode())
}
