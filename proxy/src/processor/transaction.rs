//! Ends transactions. Any proxy of a fleet can do this, because the transaction id contains everything that is needed.

use super::command::Command;
use super::environment::Environment;
use super::recent_transactions::key;
use super::validate;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind, RequestTrace, Size, TraceStep};
use crate::service::{EndTransaction, Resolution};

/// Commits a half message, or rolls it back. The first decision counts. As long as this proxy remembers it, a later
/// decision has no effect and returns the outcome of the first one.
///
/// # Errors
/// `IllegalTopic`, `InvalidTransactionId` (blank, forged, or of another topic), then the backend's failures. If the broker
/// did not answer, it may have carried out the decision. Otherwise it will check the transaction.
#[derive(Clone, Debug)]
pub struct EndTransactionCommand {
    /// The half message's topic.
    pub topic: String,
    /// The half message's id.
    pub message_id: String,
    /// The transaction id that the send returned, or the check contained.
    pub transaction_id: String,
    /// The decision. `None` if the producer doesn't know it yet; then it is asked again.
    pub resolution: Option<Resolution>,
    /// Whether the decision answers a check of the broker.
    pub answers_check: bool,
}

impl Command for EndTransactionCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::EndTransaction;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    fn size(&self) -> Size {
        Size::of_messages(1)
    }

    fn trace(&self, traced: &mut RequestTrace<'_>) {
        let step = match self.resolution {
            Some(Resolution::Commit) => TraceStep::Committed,
            Some(Resolution::Rollback) => TraceStep::RolledBack,
            None => TraceStep::Undecided,
        };
        traced.begin_decision(step, &self.message_id);
    }

    fn trace_end(result: Result<&(), &Error>, traced: &mut RequestTrace<'_>) {
        traced.end_all(result.copied());
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        let Self { topic, message_id, transaction_id, resolution, answers_check } = self;
        let recent = &environment.transactions;
        validate::topic(&topic)?;
        let refuse = |message: &str| Err(Error::new(ErrorKind::InvalidTransactionId, message));
        if validate::is_blank(&transaction_id) {
            return refuse("transaction id cannot be empty");
        }
        let sealed = environment.handle_sealer.open_transaction(&topic, &transaction_id);
        // With Apache's proxy, the transaction id is the message's id, and some programs rely on this.
        let Some(transaction) = sealed.or_else(|| recent.half_message(&topic, &transaction_id)) else {
            return refuse("transaction id is not from this server, or of another topic");
        };
        let Some(resolution) = resolution else { return Ok(()) };
        // When a broker checks a half message, it stores the message at another position, and would apply a decision with
        // the old coordinates to another message.
        let last_check = recent.last_check(&topic, &message_id);
        let transaction = last_check
            .filter(|last_check| !answers_check && last_check.cluster == transaction.cluster)
            .unwrap_or(transaction);
        let services = &environment.clusters.get(&transaction.cluster)?.services;
        let repeatable = services.metadata.capabilities().repeatable_decisions;
        let transactions = services.transactions.clone();
        let decision = key(&transaction.cluster, &transaction.coordinates);
        let end = EndTransaction {
            topic: topic.clone(),
            message_id,
            coordinates: transaction.coordinates,
            resolution,
            answers_check,
            // The client's deadline is not used, because the client's next attempt needs the outcome, too.
            deadline: context.received + environment.limits.call,
        };
        let outcome = recent.decide(decision, repeatable, async move { transactions.end(end).await });
        outcome.await.map_err(|error| Error::on_topic(error, &topic))
    }
}
