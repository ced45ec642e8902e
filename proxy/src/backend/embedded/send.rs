//! Sends messages: chooses queues, encodes the messages, and waits until the writer thread has stored them.

use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::broker::Broker;
use super::clock;
use super::codec;
use super::commit::Commit;
use super::new_message::{NewMessage, StoredAt};
use super::recall;
use super::topic::Topic;
use super::writer::StoreRequest;
use super::writer_state::WriterState;
use crate::backend::queue_choice;
use crate::service::names::RETRY_PREFIX;
use crate::service::{Delay, Message, ServiceError, ServiceErrorKind, StoreReceipt, TopicKind, millis};

impl Broker {
    /// See [`crate::service::Messages::send`].
    pub(super) async fn store_messages(
        &self,
        topic: &str,
        messages: Vec<Message>,
        deadline: Instant,
    ) -> Result<Vec<StoreReceipt>, ServiceError> {
        if let Some(group) = topic.strip_prefix(RETRY_PREFIX) {
            return self.store_retries(group, messages, deadline).await;
        }
        let topic = self.topic(topic).await?;
        let queues = topic.write_queues();
        if queues == 0 {
            return Err(ServiceError::new(ServiceErrorKind::Forbidden, "no writable queue"));
        }
        // Messages without a message group, a priority or a chosen queue go to one queue, so that they stay in order.
        let next_queue = topic.next_round_robin() % queues;
        let entries = messages
            .iter()
            .map(|message| {
                let queue = choose_queue(message, queues, next_queue)?;
                let due = due(message);
                let first_check_after =
                    message.half.then(|| message.recovery.unwrap_or(self.config.transaction_timeout));
                Ok(NewMessage {
                    message: codec::encode(message, 0),
                    queue: queue as u32,
                    due,
                    first_check_after,
                })
            })
            .collect::<Result<_, ServiceError>>()?;
        let placed = self.append(topic, entries, deadline).await?;
        Ok(placed.into_iter().zip(&messages).map(|(placed, message)| sent(placed, message)).collect())
    }

    /// Has the writer thread store messages. Returns where each was stored.
    pub(super) async fn append(
        &self,
        topic: std::sync::Arc<Topic>,
        entries: Vec<NewMessage>,
        deadline: Instant,
    ) -> Result<Vec<StoredAt>, ServiceError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let wake_up = self.writer.submit(StoreRequest { topic, entries, reply })?;
        drop(wake_up.after_ready_tasks().await);
        until(deadline, answer).await
    }

    /// Changes the log through the writer thread: see [`super::writer::Writer::change`].
    pub(super) async fn change<T, F>(&self, deadline: Instant, apply: F) -> Result<T, ServiceError>
    where
        T: Send + 'static,
        F: FnOnce(&mut WriterState, &mut Commit) -> Result<T, ServiceError> + Send + 'static,
    {
        until(deadline, self.writer.change(apply)?).await
    }
}

/// Waits for the answer of the writer thread, up to the deadline.
async fn until<T>(
    deadline: Instant,
    answer: oneshot::Receiver<Result<T, ServiceError>>,
) -> Result<T, ServiceError> {
    match timeout_at(deadline.into(), answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(ServiceError::new(ServiceErrorKind::Unavailable, "the broker has stopped")),
        Err(_) => Err(ServiceError::new(ServiceErrorKind::Timeout, "the disk did not respond in time")),
    }
}

fn choose_queue(message: &Message, queues: usize, next_queue: usize) -> Result<usize, ServiceError> {
    match (message.kind(), &message.queue, &message.group, message.priority) {
        (TopicKind::Priority, _, _, Some(priority)) => Ok(queue_choice::of_priority(priority, queues)),
        (_, Some(chosen), ..) => {
            let queue = usize::try_from(chosen.id).ok().filter(|queue| *queue < queues);
            queue.ok_or_else(|| {
                let text =
                    format!("request queueId[{}] is illegal, the topic has {queues} queues", chosen.id);
                ServiceError::new(ServiceErrorKind::Rejected, text)
            })
        }
        // A half message takes the queue of its message group, so that it is delivered in order once it is committed.
        (TopicKind::Fifo | TopicKind::Transaction, _, Some(group), _) => {
            Ok(queue_choice::of_group(group, queues))
        }
        _ => Ok(next_queue),
    }
}

/// When a message is delivered, in ms. `None` means at once.
pub(super) fn due(message: &Message) -> Option<u64> {
    match message.delay {
        Some(Delay::Until(time)) => u64::try_from(millis(time)).ok().filter(|due| *due > clock::now()),
        _ => None,
    }
}

/// Returns the result of a send for a message.
pub(super) fn sent(placed: StoredAt, message: &Message) -> StoreReceipt {
    match placed {
        StoredAt::Queued { queue, offset } => {
            StoreReceipt { queue_id: queue as i32, queue_offset: offset as i64, ..StoreReceipt::default() }
        }
        // A delayed message has no offset before it is due.
        StoredAt::Delayed { queue, timer } => StoreReceipt {
            queue_id: queue as i32,
            recall_handle: Some(recall::handle(timer, &message.id)),
            ..StoreReceipt::default()
        },
        // A half message has no offset before it is committed.
        StoredAt::Half { queue, id } => StoreReceipt {
            queue_id: queue as i32,
            transaction: Some(id.to_string()),
            ..StoreReceipt::default()
        },
    }
}
