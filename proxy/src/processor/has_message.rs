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
            found = cluster.services.messages.clone().has_message(request) => found,
            () = environment.draining.cancelled() => return Ok(false),
        };
        found.map_err(|error| Error::on_topic(error, &topic))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use futures::FutureExt;

    use super::super::scripted;
    use crate::service::{Filter, NextAttempt, Receive};

    #[tokio::test]
    async fn a_message_is_given_back_even_if_the_caller_is_cancelled() {
        let ([services], [mut calls]) = scripted::backends();
        let request = Receive {
            topic: scripted::TOPIC_WITH_MESSAGE.to_owned(),
            group: "g".to_owned(),
            broker: None,
            filter: Filter::All,
            max: 1,
            invisible: Duration::from_secs(60),
            deadline: Instant::now(),
            fifo: true,
            attempt_id: None,
            lite_client: None,
        };
        assert!(services.messages.clone().has_message(request).now_or_never().is_none());
        let (change, answer) = scripted::change(&mut calls).await;
        assert_eq!((change.invisible, change.next_attempt), (Duration::ZERO, NextAttempt::GivenBack));
        assert!(!answer.is_closed(), "the call still runs");
    }
}
