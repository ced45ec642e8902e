//! Forwards the processor's requests (orphan checks, replies) to the client of a connection.

use std::sync::Arc;

use super::answer::Refusal;
use super::answer_bodies::{AnswerBodies, Fit};
use super::client_connection::ClientConnection;
use super::request_charge::RequestCharge;
use super::{reply, transaction};
use crate::front::port::{Charge, ConnectionBudget};
use crate::processor::{Push, PushReceiver};
use crate::service::Message;

/// Forwards the processor's requests to the client, until the connection is closed.
pub(super) async fn forward(
    connection: &ClientConnection,
    budget: &Arc<ConnectionBudget>,
    mut pushed: PushReceiver,
) {
    while let Some(push) = pushed.recv().await {
        match push {
            Push::RecoverTransaction { mut delivery, transaction_id } => {
                match decompress(budget, &mut delivery.message).await {
                    Ok(Fit::Fits) => {
                        connection.notify(transaction::check(connection, &delivery, &transaction_id))
                    }
                    // The broker asks again later.
                    failed => {
                        tracing::debug!(peer = %connection.peer(), ?failed, "an orphan check is not sent")
                    }
                }
            }
            Push::Reply(reply) => connection.notify(reply::push(connection, &reply)),
            // Classic clients can't subscribe to lite topics.
            Push::LiteUnsubscribed(_) => {}
        }
    }
    connection.closed().cancelled().await;
}

async fn decompress(budget: &Arc<ConnectionBudget>, message: &mut Message) -> Result<Fit, Refusal> {
    let charge = RequestCharge::new(Charge::new(budget)?);
    AnswerBodies::new(&charge).add(message).await
}
