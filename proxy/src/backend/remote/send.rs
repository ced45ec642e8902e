use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::answer::{refusal, required};
use super::cluster::Cluster;
use super::convert;
use super::topology::Queue;
use super::transactions::HalfMessage;
use crate::backend::queue_choice;
use crate::remoting::message::{self, put_batch_entry};
use crate::remoting::{Command, HeaderType, request, response};
use crate::service::{Message, Persistence, Sent, ServiceError, ServiceErrorKind, TopicKind, millis};

/// The header field of a message's `sysFlag`.
const FLAGS: &str = "f";
/// The topic whose configuration a broker copies where it may create topics.
const TEMPLATE_TOPIC: &str = "TBW102";

impl Cluster {
    /// Stores messages of one topic.
    pub(super) async fn send(
        &self,
        topic: &str,
        messages: &[Message],
        deadline: Instant,
    ) -> Result<Vec<Sent>, ServiceError> {
        let route = self.route(topic).await?;
        let queues = route.writable();
        if alone(messages) {
            let mut sent = Vec::with_capacity(messages.len());
            for message in messages {
                let queue = self.queue_for(queues, Some(message))?;
                let choices = choices(message, queue, queues);
                let stored = self.store(|| single(topic, message), &choices, deadline).await?;
                sent.push(stored);
            }
            return Ok(sent);
        }
        let queue = self.queue_for(queues, None)?;
        // The broker tells the place of the first; the others follow it.
        let choices = one_per_broker(queue, queues);
        let first = self.store(|| batch(topic, messages), &choices, deadline).await?;
        Ok((0..messages.len() as i64)
            .map(|n| Sent { queue_offset: first.queue_offset + n, ..first.clone() })
            .collect())
    }

    fn queue_for<'a>(
        &self,
        queues: &'a [Queue],
        message: Option<&Message>,
    ) -> Result<&'a Queue, ServiceError> {
        let queue = match message.and_then(has_its_queue) {
            Some(key) => queues.get(queue_choice::of_group(key, queues.len())),
            None => self.send_turns.next(queues, &self.faults, |queue| &queue.broker),
        };
        queue.ok_or_else(|| ServiceError::new(ServiceErrorKind::Forbidden, "no writable queue"))
    }

    /// Sends to the first queue of the choices. The next one gets the message only if the one before surely
    /// has not stored it; the command is made anew for it.
    async fn store(
        &self,
        command: impl Fn() -> Command,
        choices: &[&Queue],
        deadline: Instant,
    ) -> Result<Sent, ServiceError> {
        let mut failed = ServiceError::new(ServiceErrorKind::Forbidden, "no writable queue");
        for queue in choices {
            let left = deadline.saturating_duration_since(Instant::now()).min(self.options.call_timeout);
            let command = command().field("e", queue.id).field("n", &queue.broker);
            match self.store_once(queue, command, left).await {
                Ok(sent) => return Ok(sent),
                Err(NotSent { not_stored: true, error }) => failed = error,
                Err(NotSent { error, .. }) => return Err(error),
            }
        }
        Err(failed)
    }

    async fn store_once(&self, queue: &Queue, command: Command, within: Duration) -> Result<Sent, NotSent> {
        let begin = Instant::now();
        let flags: i32 = command.number(FLAGS).unwrap_or_default();
        let half = flags & message::flags::TRANSACTION_PREPARED != 0;
        let answer = match self.peers.call(&queue.address, command, within).await {
            Ok(answer) => answer,
            Err(error) => {
                self.failed(&queue.broker, &error);
                return Err(NotSent { not_stored: !error.maybe_done(), error: error.into() });
            }
        };
        match answer.code {
            response::SUCCESS
            | response::FLUSH_DISK_TIMEOUT
            | response::FLUSH_SLAVE_TIMEOUT
            | response::SLAVE_NOT_AVAILABLE => {
                self.faults.answered(&queue.broker, begin.elapsed());
                sent(&answer, half.then_some(&queue.broker))
                    .map_err(|error| NotSent { not_stored: false, error })
            }
            response::SYSTEM_BUSY | response::SERVICE_NOT_AVAILABLE => {
                self.faults.failed(&queue.broker);
                Err(NotSent { not_stored: true, error: refusal(&answer) })
            }
            _ => Err(NotSent { not_stored: false, error: refusal(&answer) }),
        }
    }
}

struct NotSent {
    not_stored: bool,
    error: ServiceError,
}

/// Where a message may go, in order: where its kind fixes the queue, nowhere else.
fn choices<'a>(message: &Message, queue: &'a Queue, queues: &'a [Queue]) -> Vec<&'a Queue> {
    if has_its_queue(message).is_some() { vec![queue] } else { one_per_broker(queue, queues) }
}

/// What decides about the queue of a message that can go to one alone, whatever else it is (Apache's
/// `SendMessageQueueSelector`).
fn has_its_queue(message: &Message) -> Option<&str> {
    message.group.as_deref().or(message.lite_topic.as_deref())
}

/// The queue, and then one queue of every other broker.
fn one_per_broker<'a>(queue: &'a Queue, queues: &'a [Queue]) -> Vec<&'a Queue> {
    let mut choices = vec![queue];
    for other in queues {
        if choices.iter().all(|choice| choice.broker != other.broker) {
            choices.push(other);
        }
    }
    choices
}

/// Whether the messages must travel one by one: brokers choose queues by group, priority and lite topic, keep
/// half messages, and hold back delayed ones only for single sends.
fn alone(messages: &[Message]) -> bool {
    messages.len() == 1 || messages.iter().any(|message| message.kind() != TopicKind::Normal)
}

fn single(topic: &str, message: &Message) -> Command {
    header(request::SEND_MESSAGE_V2, topic, message)
        .field("i", convert::properties(topic, message))
        .field("m", false)
        .body(message.body.clone())
}

fn batch(topic: &str, messages: &[Message]) -> Command {
    let mut body = BytesMut::with_capacity(messages.iter().map(|message| message.body.len() + 512).sum());
    for message in messages {
        put_batch_entry(&mut body, &message.body, &convert::properties(topic, message));
    }
    let first = messages.first().cloned().unwrap_or_default();
    header(request::SEND_BATCH_MESSAGE, topic, &first).field("m", true).body(Bytes::from(body))
}

/// The header of a send, in its short names (Apache's `SendMessageRequestHeaderV2`).
fn header(code: i32, topic: &str, message: &Message) -> Command {
    Command::request(code)
        .header(HeaderType::Binary)
        .field("a", topic) // The producer group: one for all gRPC producers of a topic.
        .field("b", topic)
        .field("c", TEMPLATE_TOPIC)
        .field("d", 4)
        .field(FLAGS, convert::system_flags(message))
        .field("g", millis(message.born_at.unwrap_or(std::time::UNIX_EPOCH)))
        .field("h", 0)
        .field("j", 0)
        .field("k", false)
}

/// What the answer to a send tells; of a half message, also where it lies on its broker.
fn sent(answer: &Command, half_on: Option<&String>) -> Result<Sent, ServiceError> {
    Ok(Sent {
        queue_id: required(answer, "queueId")?,
        queue_offset: required(answer, "queueOffset")?,
        recall_handle: answer.text("recallHandle").map(str::to_owned),
        transaction: half_on
            .and_then(|broker| HalfMessage::stored(broker, answer))
            .map(|half| half.to_string()),
        persistence: match answer.code {
            response::FLUSH_DISK_TIMEOUT => Persistence::MasterTimeout,
            response::FLUSH_SLAVE_TIMEOUT => Persistence::ReplicaTimeout,
            response::SLAVE_NOT_AVAILABLE => Persistence::NoReplica,
            _ => Persistence::Done,
        },
    })
}
