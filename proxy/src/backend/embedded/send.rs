//! Sending: chooses queues, encodes the messages, and waits until the writer thread has stored them.

use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::broker::Broker;
use super::clock;
use super::codec;
use super::topic::Topic;
use super::writer::{Entry, Job, Placed};
use crate::backend::queue_choice;
use crate::service::{Delay, Message, Sent, ServiceError, ServiceErrorKind, TopicKind, millis};

impl Broker {
    /// See [`crate::service::Messages::send`].
    pub(super) async fn store_messages(
        &self,
        topic: &str,
        messages: Vec<Message>,
        deadline: Instant,
    ) -> Result<Vec<Sent>, ServiceError> {
        let topic = self.topic(topic).await?;
        let queues = topic.write_queues();
        if queues == 0 {
            return Err(ServiceError::new(ServiceErrorKind::Forbidden, "no writable queue"));
        }
        // The other messages of a request go to one queue, so that they stay in order.
        let turn = topic.take_turn() % queues;
        let now = clock::now();
        let entries = messages
            .iter()
            .map(|message| {
                let queue = choose_queue(message, queues, turn)?;
                let due = due(message).filter(|due| *due > now);
                Ok(Entry { message: codec::encode(message, 0), queue: queue as u32, due })
            })
            .collect::<Result<Vec<_>, ServiceError>>()?;
        self.append(topic, entries, deadline).await
    }

    /// Stores entries through the writer thread.
    pub(super) async fn append(
        &self,
        topic: std::sync::Arc<Topic>,
        entries: Vec<Entry>,
        deadline: Instant,
    ) -> Result<Vec<Sent>, ServiceError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        self.writer.submit(Job { topic, entries, reply })?;
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(placed)) => Ok(placed?.into_iter().map(sent).collect()),
            Ok(Err(_)) => Err(ServiceError::new(ServiceErrorKind::Unavailable, "the broker has stopped")),
            Err(_) => Err(ServiceError::new(ServiceErrorKind::Timeout, "the disk did not answer in time")),
        }
    }
}

fn choose_queue(message: &Message, queues: usize, turn: usize) -> Result<usize, ServiceError> {
    match message.kind() {
        TopicKind::Transaction => Err(unsupported("transactions are")),
        TopicKind::Fifo => {
            let group = message.group.as_deref().expect("a FIFO message has a group");
            Ok(queue_choice::of_group(group, queues))
        }
        TopicKind::Priority => {
            let priority = message.priority.expect("a PRIORITY message has a priority");
            Ok(queue_choice::of_priority(priority, queues))
        }
        _ => Ok(turn),
    }
}

fn due(message: &Message) -> Option<u64> {
    match message.delay {
        Some(Delay::Until(time)) => u64::try_from(millis(time)).ok(),
        _ => None,
    }
}

fn sent(placed: Placed) -> Sent {
    match placed {
        Placed::Queued { queue, offset } => {
            Sent { queue_id: queue as i32, queue_offset: offset as i64, ..Sent::default() }
        }
        // It has no offset before it is due. A recall needs its timer.
        Placed::Waiting { queue, timer: (due, sequence) } => Sent {
            queue_id: queue as i32,
            queue_offset: 0,
            recall_handle: Some(format!("{due}.{sequence:x}")),
            ..Sent::default()
        },
    }
}

fn unsupported(what: &str) -> ServiceError {
    ServiceError::new(
        ServiceErrorKind::Unsupported,
        format!("{what} not supported by the embedded broker yet"),
    )
}
