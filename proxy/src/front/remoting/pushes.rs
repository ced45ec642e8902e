//! What the proxy asks of a client on its own account.

use super::session::Session;
use super::{reply, transaction};
use crate::processor::{Push, PushReceiver};

/// Passes the processor's requests on to the client. Never returns before the connection is gone.
pub(super) async fn pass_on(session: &Session, mut pushed: PushReceiver) {
    while let Some(push) = pushed.recv().await {
        match push {
            Push::RecoverTransaction { delivery, transaction_id } => {
                session.notify(transaction::check(session, &delivery, &transaction_id));
            }
            Push::Reply(reply) => session.notify(reply::push(session, &reply)),
            // Classic clients of lite topics are not served.
            Push::LiteUnsubscribed(_) => {}
        }
    }
    session.closed().cancelled().await;
}
