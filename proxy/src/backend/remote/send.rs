use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::future::join_all;

use super::answer::{refusal, required};
use super::cluster::Cluster;
use super::convert;
use super::topology::{Queue, TopicRoute};
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
    /// Stores messages of one topic; an outcome each, in order.
    pub(super) async fn send(
        &self,
        topic: &str,
        messages: &[Message],
        deadline: Instant,
    ) -> Result<Vec<Result<Sent, ServiceError>>, ServiceError> {
        let route = self.route(topic).await?;
        if route.writable().is_empty() {
            return Err(nowhere(&route));
        }
        let queues = route.writable();
        if alone(messages) {
            return Ok(self.send_each((topic, messages), queues, deadline).await);
        }
        let first = self.store(|| batch(topic, messages), &self.choices(None, queues), deadline).await?;
        // The broker tells the place of the first; the others follow it.
        let place = |n| Sent { queue_offset: first.queue_offset + n, ..first.clone() };
        Ok((0..messages.len() as i64).map(|n| Ok(place(n))).collect())
    }

    /// Sends messages one by one: side by side, but those in order that have a queue of their own.
    async fn send_each(
        &self,
        (topic, messages): (&str, &[Message]),
        queues: &[Queue],
        deadline: Instant,
    ) -> Vec<Result<Sent, ServiceError>> {
        let rows = rows(messages).into_iter().map(async |places| {
            let mut outcomes: Vec<(usize, Result<Sent, ServiceError>)> = Vec::with_capacity(places.len());
            for place in places {
                let outcome = match outcomes.last() {
                    // What stands behind one that is not stored would overtake it.
                    Some((_, Err(error))) => Err(error.clone()),
                    _ => {
                        let message = &messages[place];
                        let choices = self.choices(has_its_queue(message), queues);
                        self.store(|| single(topic, message), &choices, deadline).await
                    }
                };
                outcomes.push((place, outcome));
            }
            outcomes
        });
        let mut outcomes = join_all(rows).await.concat();
        outcomes.sort_by_key(|(place, _)| *place);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Where a message may go, in order: where its queue is fixed, nowhere else.
    fn choices<'a>(&self, fixed_by: Option<&str>, queues: &'a [Queue]) -> Vec<&'a Queue> {
        match fixed_by {
            Some(key) => queues.get(queue_choice::of_group(key, queues.len())).into_iter().collect(),
            None => {
                let queue = self.sends.next(queues, |queue| &queue.broker);
                queue.map(|queue| one_per_broker(queue, queues)).unwrap_or_default()
            }
        }
    }

    /// Sends to the first queue of the choices. The next one gets the message only if the one before surely
    /// has not stored it; the command is made anew for it.
    async fn store(
        &self,
        command: impl Fn() -> Command,
        choices: &[&Queue],
        deadline: Instant,
    ) -> Result<Sent, ServiceError> {
        let mut failed = ServiceError::new(ServiceErrorKind::Timeout, "no time is left to send");
        for queue in choices {
            let left = deadline.saturating_duration_since(Instant::now()).min(self.options.call_timeout);
            if left.is_zero() {
                break;
            }
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
        let answer = self.call((&queue.broker, &queue.address), command, within).await;
        let answer =
            answer.map_err(|error| NotSent { not_stored: !error.maybe_done(), error: error.into() })?;
        let elsewhere = |error: ServiceError| NotSent { not_stored: true, error };
        match answer.code {
            response::SUCCESS
            | response::FLUSH_DISK_TIMEOUT
            | response::FLUSH_SLAVE_TIMEOUT
            | response::SLAVE_NOT_AVAILABLE => {
                self.sends.breaker.answered(&queue.broker, begin.elapsed());
                sent(&answer, half.then_some(&queue.broker))
                    .map_err(|error| NotSent { not_stored: false, error })
            }
            response::SYSTEM_BUSY | response::SERVICE_NOT_AVAILABLE => {
                let error = refusal(&answer);
                self.leave_out(&queue.broker, &[&self.sends], &error);
                Err(elsewhere(error))
            }
            _ if moved(&answer) => {
                self.doubt_broker(&queue.broker);
                Err(elsewhere(ServiceError::new(ServiceErrorKind::Unavailable, refusal(&answer).message)))
            }
            _ => Err(NotSent { not_stored: false, error: refusal(&answer) }),
        }
    }
}

struct NotSent {
    not_stored: bool,
    error: ServiceError,
}

/// Why a topic with a route has no queue to send to.
fn nowhere(route: &TopicRoute) -> ServiceError {
    if route.queues.iter().any(|queues| queues.writable() && queues.write > 0) {
        let text = "the brokers of the topic's writable queues have no master now";
        return ServiceError::new(ServiceErrorKind::Unavailable, text);
    }
    ServiceError::new(ServiceErrorKind::Forbidden, "no writable queue")
}

/// Whether a broker refuses because the route was older than it: the topic, or the queue, is not there any more.
fn moved(answer: &Command) -> bool {
    let illegal_queue = || answer.remark.as_ref().is_some_and(|remark| remark.contains("queueId"));
    answer.code == response::TOPIC_NOT_EXIST || answer.code == response::INVALID_PARAMETER && illegal_queue()
}

/// The messages by place: those that one key sends to one queue in a row, the others each in its own.
fn rows(messages: &[Message]) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = Vec::with_capacity(messages.len());
    let mut by_key: HashMap<&str, usize> = HashMap::new();
    for (place, message) in messages.iter().enumerate() {
        let row = has_its_queue(message).map_or(rows.len(), |key| *by_key.entry(key).or_insert(rows.len()));
        match rows.get_mut(row) {
            Some(row) => row.push(place),
            None => rows.push(vec![place]),
        }
    }
    rows
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_one_group_stand_in_a_row() {
        let message = |group: &str| Message {
            group: (!group.is_empty()).then(|| group.to_owned()),
            ..Message::default()
        };
        let messages = ["a", "", "b", "a", ""].map(message);
        assert_eq!(rows(&messages), [vec![0, 3], vec![1], vec![2], vec![4]]);
    }

    #[test]
    fn a_topic_without_a_master_is_not_read_only() {
        let route = |perm| {
            let body = format!(
                r#"{{"brokerDatas":[{{"brokerAddrs":{{"1":"h:1"}},"brokerName":"b"}}],
                    "queueDatas":[{{"brokerName":"b","perm":{perm},"readQueueNums":4,"writeQueueNums":4}}]}}"#
            );
            TopicRoute::parse(body.as_bytes()).unwrap().unwrap()
        };
        assert_eq!(nowhere(&route(6)).kind, ServiceErrorKind::Unavailable);
        assert_eq!(nowhere(&route(4)).kind, ServiceErrorKind::Forbidden);
    }
}
