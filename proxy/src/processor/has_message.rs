//! Waits for messages without receiving them (Apache's `NotificationProcessor`).

use super::command::Command;
use super::environment::Environment;
use super::receive::{CheckedReceive, ReceiveCommand};
use crate::context::Context;
use crate::error::Error;
use crate::layer::{Names, OperationKind};

/// Waits until a receive would return a message, or its wait ends. Returns whether there is a message.
///
/// # Errors
/// As [`ReceiveCommand`].
#[derive(Clone, Debug)]
pub struct HasMessageCommand {
    /// The receive.
    pub receive: ReceiveCommand,
}

impl Command for HasMessageCommand {
    type Answer = bool;
    const KIND: OperationKind = OperationKind::Receive;

    fn topics(&self) -> &dyn Names {
        &self.receive.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.receive.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<bool, Error> {
        let CheckedReceive { cluster, request, filter_memory: _held, .. } =
            self.receive.check(environment, context).await?;
        let topic = request.topic.clone();
        let found = tokio::select! {
            biased;
            found = cluster.services.messages.has_message(request) => found,
            () = environment.draining.cancelled() => return Ok(false),
        };
        found.map_err(|error| Error::on_topic(error, &topic))
    }
}
