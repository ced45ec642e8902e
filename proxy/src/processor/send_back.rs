//! Sends back messages that a consumer has read by offset and could not consume.

use super::command::Command;
use super::environment::Environment;
use super::pull::{QueueName, check_queue};
use super::validate;
use crate::context::Context;
use crate::error::Error;
use crate::layer::{Names, OperationKind, RequestTrace, Size, TraceStep};
use crate::service::{SendBack, ServiceErrorKind, TopicConfig, TopicKind, names};

/// Copies a message to its group's retry topic, from which the group reads it again later. After the last attempt, the
/// message becomes a dead letter.
///
/// # Errors
/// In this order: `IllegalTopic`, `BadRequest` (an invalid queue), `IllegalGroup`, then the backend's failures. These are
/// `BadRequest` if there is no such message.
#[derive(Clone, Debug)]
pub struct SendBackCommand {
    /// The queue from which the message was read.
    pub queue: QueueName,
    /// The consumer group.
    pub group: String,
    /// The message's offset in the queue.
    pub offset: i64,
    /// The message's id.
    pub message_id: String,
    /// The delay level of the next delivery. With 0, the delay grows with each retry. With a negative number, the message
    /// becomes a dead letter at once.
    pub level: i32,
    /// The maximum number of deliveries after the first one; `None` if the group's limit applies.
    pub max_retries: Option<i32>,
}

/// Creates the retry topic of a group if it does not exist.
///
/// # Errors
/// `IllegalGroup`, `GroupNotFound`, or the backend's failure.
#[derive(Clone, Debug)]
pub struct MakeRetryTopicCommand {
    /// The consumer group.
    pub group: String,
}

impl Command for SendBackCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::SendBack;

    fn topics(&self) -> &dyn Names {
        &self.queue.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    fn size(&self) -> Size {
        Size::of_messages(1)
    }

    fn trace(&self, traced: &mut RequestTrace<'_>) {
        let step = if self.level < 0 { TraceStep::DeadLettered } else { TraceStep::Retried };
        traced.begin_decision(step, &self.message_id);
    }

    fn trace_end(result: Result<&(), &Error>, traced: &mut RequestTrace<'_>) {
        traced.end_all(result.copied());
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        let Self { queue, group, offset, message_id, level, max_retries } = self;
        check_queue(&queue)?;
        validate::group(&group)?;
        let QueueName { topic, broker, id: queue_id } = queue;
        let offsets = &environment.services(context, &topic).offsets;
        let deadline = context.deadline_within(environment.limits.call);
        let topic_name = topic.clone();
        let back =
            SendBack { topic, group, broker, queue_id, offset, message_id, level, max_retries, deadline };
        offsets.send_back(back).await.map_err(|error| Error::on_topic(error, &topic_name))
    }
}

impl Command for MakeRetryTopicCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::SendBack;

    fn topics(&self) -> &dyn Names {
        &()
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        validate::group(&self.group)?;
        let name = names::retry_topic(&self.group);
        let metadata = &environment.services(context, &name).metadata;
        metadata.group(&self.group).await?;
        let topic = TopicConfig::new(name, TopicKind::Normal, 1);
        match metadata.create_topic(topic, false).await {
            Err(error) if error.kind != ServiceErrorKind::AlreadyExists => Err(error.into()),
            _ => Ok(()),
        }
    }
}
