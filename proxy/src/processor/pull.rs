//! Reading queues by offset, for consumers that remember themselves, or have the server remember, how far they are.

use std::time::{Duration, SystemTime};

use super::{Expression, Processor, filter, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::service::{Found, Pull, Pulled, QueueOf, Whence};

/// One queue, as a client names it.
#[derive(Clone, Debug)]
pub struct QueueName {
    /// The topic.
    pub topic: String,
    /// The broker.
    pub broker: String,
    /// The queue.
    pub id: i32,
}

/// A read by offset, as a client asks for it.
#[derive(Clone, Debug)]
pub struct PullCommand {
    /// The queue.
    pub queue: QueueName,
    /// The consumer group.
    pub group: String,
    /// Where to begin.
    pub offset: i64,
    /// How many messages at most.
    pub batch_size: i32,
    /// What to deliver.
    pub expression: Expression,
    /// How long to wait for a first message, in milliseconds.
    pub polling_ms: i64,
}

impl Processor {
    /// Reads messages by offset. Nothing is leased, and nothing moves.
    ///
    /// # Errors
    /// In this order: `IllegalTopic`, `IllegalGroup`, `BadRequest` (no broker, no queue, no batch), `IllegalOffset`,
    /// `IllegalFilter`, then the backend's failures. That the offset lies outside the queue is no error here:
    /// the answer says where to go on.
    pub async fn pull(&self, context: &Context, command: PullCommand) -> Result<Pulled, Error> {
        check(&command.queue)?;
        validate::group(&command.group)?;
        let max = usize::try_from(command.batch_size).ok().filter(|max| *max > 0).ok_or_else(|| {
            let message = format!("the batch size must be positive: {}", command.batch_size);
            Error::new(ErrorKind::BadRequest, message)
        })?;
        legal_offset(command.offset)?;
        let filter = filter::parse(command.expression)?;
        let asked = Duration::from_millis(u64::try_from(command.polling_ms).unwrap_or_default());
        let QueueName { topic, broker, id } = command.queue;
        let pull = Pull {
            topic: topic.clone(),
            group: command.group,
            broker,
            queue_id: id,
            offset: command.offset,
            max: max.min(self.limits.receive_batch),
            filter,
            deadline: context.end_of_wait(asked.min(self.limits.max_polling)),
        };
        let nothing = Pulled { found: Found::Nothing, next_offset: pull.offset };
        tokio::select! {
            biased;
            pulled = self.services(context, &topic).offsets.pull(pull) => pulled.map_err(|error| Error::on_topic(error, &topic)),
            () = self.draining.cancelled() => Ok(nothing),
        }
    }

    /// Remembers how far a group has got in a queue.
    ///
    /// # Errors
    /// In this order: `IllegalTopic`, `IllegalGroup`, `BadRequest`, `IllegalOffset`, then the backend's failures.
    pub async fn update_offset(
        &self,
        context: &Context,
        (queue, group): (&QueueName, &str),
        offset: i64,
    ) -> Result<(), Error> {
        check(queue)?;
        validate::group(group)?;
        legal_offset(offset)?;
        let committed = self
            .services(context, &queue.topic)
            .offsets
            .commit(self.place(context, queue), group, offset)
            .await;
        committed.map_err(|error| Error::on_topic(error, &queue.topic))
    }

    /// How far a group has got in a queue.
    ///
    /// # Errors
    /// In this order: `IllegalTopic`, `IllegalGroup`, `BadRequest`, the backend's failures, `OffsetNotFound` where the
    /// group has not begun.
    pub async fn get_offset(&self, context: &Context, queue: &QueueName, group: &str) -> Result<i64, Error> {
        check(queue)?;
        validate::group(group)?;
        let committed =
            self.services(context, &queue.topic).offsets.committed(self.place(context, queue), group).await;
        committed.map_err(|error| Error::on_topic(error, &queue.topic))?.ok_or_else(|| {
            let message =
                format!("group {group} has no offset in queue {} of topic {}", queue.id, queue.topic);
            Error::new(ErrorKind::OffsetNotFound, message)
        })
    }

    /// An offset of a queue.
    ///
    /// # Errors
    /// In this order: `IllegalTopic`, `BadRequest`, then the backend's failures.
    pub async fn query_offset(
        &self,
        context: &Context,
        queue: &QueueName,
        whence: Whence,
    ) -> Result<i64, Error> {
        check(queue)?;
        let whence = match whence {
            // What lies ahead is behind the last message, whatever a broker would make of such a time.
            Whence::Time(time) if time > SystemTime::now() => Whence::End,
            other => other,
        };
        let offset =
            self.services(context, &queue.topic).offsets.offset(self.place(context, queue), whence).await;
        offset.map_err(|error| Error::on_topic(error, &queue.topic))
    }

    fn place<'a>(&self, context: &Context, queue: &'a QueueName) -> QueueOf<'a> {
        let deadline = context.deadline_within(self.limits.call);
        QueueOf { topic: &queue.topic, broker: &queue.broker, id: queue.id, deadline }
    }
}

fn check(queue: &QueueName) -> Result<(), Error> {
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

fn legal_offset(offset: i64) -> Result<(), Error> {
    if offset < 0 {
        return Err(Error::new(
            ErrorKind::IllegalOffset,
            format!("the offset must not be negative: {offset}"),
        ));
    }
    Ok(())
}
