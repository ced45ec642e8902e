//! Waiting for messages without taking them.

use super::command::Command;
use super::environment::Environment;
use super::receive::{Prepared, ReceiveCommand};
use crate::context::Context;
use crate::error::Error;
use crate::layer::{Names, OperationKind};

/// Waits until a receive would bring something. Returns whether it would.
///
/// # Errors
/// As the receive.
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
        let Prepared { cluster, request, .. } = self.receive.prepare(environment, context).await?;
        let topic = request.topic.clone();
        let found = tokio::select! {
            biased;
            found = cluster.services.messages.has_message(request) => found,
            () = environment.draining.cancelled() => return Ok(false),
        };
        found.map_err(|error| Error::on_topic(error, &topic))
    }
}
