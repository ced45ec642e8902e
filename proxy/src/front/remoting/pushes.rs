//! Forwards the processor's requests (orphan checks, replies) to the client of a connection.

use super::session::Session;
use super::{reply, transaction};
use crate::processor::{Push, PushReceiver};

/// Forwards the processor's requests to the client, until the connection is closed.
pub(super) async fn forward(session: &Session, mut pushed: PushReceiver) {
    while let Some(push) = pushed.recv().await {
        match push {
            Push::RecoverTransaction { delivery, transaction_id } => {
                session.notify(transaction::check(session, &delivery, &transaction_id));
            }
            Push::Reply(reply) => session.notify(reply::push(session, &reply)),
            // Classic clients can't subscribe to lite topics.
            Push::LiteUnsubscribed(_) => {}
        }
    }
    session.closed().cancelled().await;
}
