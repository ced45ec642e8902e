//! Reads queues by offset, and stores the offsets of groups.

use std::time::{Duration, SystemTime};

use super::command::Command;
use super::environment::Environment;
use super::{Expression, filter, group, trace_context, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind, RequestTrace, Size};
use crate::service::{Pull, PullOutcome, Pulled, QueueRef, Services, Whence};

/// A queue as a client names it.
#[derive(Clone, Debug)]
pub struct QueueName {
    /// The topic.
    pub topic: String,
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue's id on the broker.
    pub id: i32,
}

/// Reads messages by offset. Nothing is leased, and no stored offset changes.
///
/// # Errors
/// In this order: `IllegalTopic`, `BadRequest` (an invalid queue), `IllegalGroup`, `BadRequest` (an invalid batch size),
/// `IllegalOffset`, `IllegalFilter`, then the backend's failures. An offset outside of the queue is not an error: the
/// answer contains the offset from which to continue.
#[derive(Clone, Debug)]
pub struct PullCommand {
    /// The queue.
    pub queue: QueueName,
    /// The consumer group.
    pub group: String,
    /// The offset of the first message to read.
    pub offset: i64,
    /// The maximum number of messages.
    pub batch_size: i32,
    /// Which messages to return.
    pub expression: Expression,
    /// How long to wait for a first message, in milliseconds.
    pub polling_ms: i64,
}

/// Stores a group's offset in a queue.
///
/// # Errors
/// In this order: `IllegalTopic`, `BadRequest` (an invalid queue), `IllegalGroup`, `IllegalOffset`, then the backend's
/// failures.
#[derive(Clone, Debug)]
pub struct UpdateOffsetCommand {
    /// The queue.
    pub queue: QueueName,
    /// The consumer group.
    pub group: String,
    /// The offset of the next message to read.
    pub offset: i64,
}

/// Returns a group's stored offset in a queue.
///
/// # Errors
/// In this order: `IllegalTopic`, `BadRequest` (an invalid queue), `IllegalGroup`, the backend's failures,
/// `OffsetNotFound` if the group has no offset in the queue.
#[derive(Clone, Debug)]
pub struct GetOffsetCommand {
    /// The queue.
    pub queue: QueueName,
    /// The consumer group.
    pub group: String,
}

/// Returns the first or last offset of a queue, or the offset for a time.
///
/// # Errors
/// In this order: `IllegalTopic`, `BadRequest` (an invalid queue), then the backend's failures.
#[derive(Clone, Debug)]
pub struct QueryOffsetCommand {
    /// The queue.
    pub queue: QueueName,
    /// Which offset.
    pub whence: Whence,
}

impl Command for PullCommand {
    type Answer = Pulled;
    const KIND: OperationKind = OperationKind::Pull;

    fn topics(&self) -> &dyn Names {
        &self.queue.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    fn answer_size(answer: &Pulled) -> Size {
        let PullOutcome::Messages(messages) = &answer.outcome else { return Size::default() };
        Size::of_bodies(messages.iter().map(|delivery| &*delivery.message.body))
    }

    fn trace_end(result: Result<&Pulled, &Error>, traced: &mut RequestTrace<'_>) {
        if let Ok(Pulled { outcome: PullOutcome::Messages(messages), .. }) = result {
            messages.iter().for_each(|delivery| traced.record_delivery(delivery, None));
        }
    }

    fn answer_trace_contexts(answer: &Pulled, visit: &mut dyn FnMut(&str)) {
        let PullOutcome::Messages(deliveries) = &answer.outcome else { return };
        trace_context::of_messages(deliveries.iter().map(|delivery| &delivery.message), visit);
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<Pulled, Error> {
        let limits = &environment.limits;
        check_queue(&self.queue)?;
        validate::group(&self.group)?;
        let max = usize::try_from(self.batch_size).ok().filter(|max| *max > 0).ok_or_else(|| {
            let message = format!("the batch size must be positive: {}", self.batch_size);
            Error::new(ErrorKind::BadRequest, message)
        })?;
        check_offset(self.offset)?;
        let filter = filter::parse(self.expression)?;
        let _held = filter::hold(&environment.filters, context, &filter)?;
        let wait = Duration::from_millis(u64::try_from(self.polling_ms).unwrap_or_default());
        let QueueName { topic, broker, id } = self.queue;
        let services = environment.services(context, &topic);
        group::load_for_consuming(services, &self.group).await?;
        let pull = Pull {
            topic: topic.clone(),
            group: self.group,
            broker,
            queue_id: id,
            offset: self.offset,
            max: max.min(limits.receive_batch),
            filter,
            deadline: context.end_of_wait(wait.min(limits.max_polling)),
        };
        let range = pull.offset..pull.offset;
        let nothing = Pulled { outcome: PullOutcome::Nothing, next_offset: pull.offset, range };
        let pulled = tokio::select! {
            biased;
            pulled = services.offsets.pull(pull) => pulled,
            () = environment.draining.cancelled() => return Ok(nothing),
        };
        pulled.map_err(|error| Error::on_topic(error, &topic))
    }
}

impl Command for UpdateOffsetCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::UpdateOffset;

    fn topics(&self) -> &dyn Names {
        &self.queue.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        let Self { queue, group, offset } = &self;
        check_queue(queue)?;
        validate::group(group)?;
        check_offset(*offset)?;
        let offsets = &environment.services(context, &queue.topic).offsets;
        let committed = offsets.commit(queue_of(environment, context, queue), group, *offset).await;
        committed.map_err(|error| Error::on_topic(error, &queue.topic))
    }
}

impl Command for GetOffsetCommand {
    type Answer = i64;
    const KIND: OperationKind = OperationKind::GetOffset;

    fn topics(&self) -> &dyn Names {
        &self.queue.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<i64, Error> {
        let Self { queue, group } = &self;
        check_queue(queue)?;
        validate::group(group)?;
        let offsets = &environment.services(context, &queue.topic).offsets;
        let committed = offsets.committed(queue_of(environment, context, queue), group).await;
        committed.map_err(|error| Error::on_topic(error, &queue.topic))?.ok_or_else(|| {
            let message =
                format!("group {group} has no offset in queue {} of topic {}", queue.id, queue.topic);
            Error::new(ErrorKind::OffsetNotFound, message)
        })
    }
}

impl Command for QueryOffsetCommand {
    type Answer = i64;
    const KIND: OperationKind = OperationKind::QueryOffset;

    fn topics(&self) -> &dyn Names {
        &self.queue.topic
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<i64, Error> {
        check_queue(&self.queue)?;
        let services = environment.services(context, &self.queue.topic);
        query_offset(services, queue_of(environment, context, &self.queue), self.whence).await
    }
}

pub(super) async fn query_offset(
    services: &Services,
    queue: QueueRef<'_>,
    whence: Whence,
) -> Result<i64, Error> {
    let whence = match whence {
        // For a time in the future, the offset is always that after the last message.
        Whence::Time(time) if time > SystemTime::now() => Whence::End,
        other => other,
    };
    let offset = services.offsets.offset(queue, whence).await;
    offset.map_err(|error| Error::on_topic(error, queue.topic))
}

fn queue_of<'a>(environment: &Environment, context: &Context, queue: &'a QueueName) -> QueueRef<'a> {
    let deadline = context.deadline_within(environment.limits.call);
    QueueRef { topic: &queue.topic, broker: &queue.broker, id: queue.id, deadline }
}

/// Validates a queue's name.
///
/// # Errors
/// `IllegalTopic`, `BadRequest` (a blank broker, or a negative id).
pub(super) fn check_queue(queue: &QueueName) -> Result<(), Error> {
    validate::topic(&queue.topic)?;
    if validate::is_blank(&queue.broker) {
        return Err(Error::new(ErrorKind::BadRequest, "the message queue names no broker"));
    }
    if queue.id < 0 {
        let message = format!("the message queue's id must not be negative: {}", queue.id);
        return Err(Error::new(ErrorKind::BadRequest, message));
    }
    Ok(())
}

fn check_offset(offset: i64) -> Result<(), Error> {
    if offset < 0 {
        return Err(Error::new(
            ErrorKind::IllegalOffset,
            format!("the offset must not be negative: {offset}"),
        ));
    }
    Ok(())
}
