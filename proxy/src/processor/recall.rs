//! Recalls delayed messages.

use super::command::Command;
use super::environment::Environment;
use super::{message_type, validate};
use crate::context::Context;
use crate::error::Error;
use crate::layer::{Names, OperationKind, RequestTrace, TraceStep};
use crate::service::TopicKind;

/// Recalls a DELAY message that was not delivered yet. Returns the message's id.
///
/// # Errors
/// In this order: `IllegalTopic`, `TypeMismatch` (the topic does not exist, or does not accept DELAY messages),
/// `BadRequest` (an invalid handle, or the message was delivered already), then the backend's failures.
#[derive(Clone, Debug)]
pub struct RecallCommand {
    /// The message's topic.
    pub topic: String,
    /// The recall handle that the send returned.
    pub handle: String,
    /// Whether the client's protocol has no message types. Then topics without a declared type accept delayed messages, too.
    pub types_unknown: bool,
}

impl Command for RecallCommand {
    type Answer = String;
    const KIND: OperationKind = OperationKind::Recall;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    fn trace_end(result: Result<&String, &Error>, traced: &mut RequestTrace<'_>) {
        if let Ok(message_id) = result {
            traced.begin_decision(TraceStep::Recalled, message_id);
            traced.end_all(Ok(()));
        }
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<String, Error> {
        let Self { topic, handle, types_unknown } = self;
        validate::topic(&topic)?;
        let services = environment.services(context, &topic);
        let expected = message_type::of_topic(services, &topic).await?;
        message_type::check_accepted(expected, TopicKind::Delay, types_unknown)?;
        let deadline = context.deadline_within(environment.limits.call);
        let recalled = services.messages.recall(&topic, &handle, deadline).await;
        recalled.map_err(|error| Error::on_topic(error, &topic))
    }
}
