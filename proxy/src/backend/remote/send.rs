//! Sends messages to brokers (Apache's `SendMessageProcessor`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::future::join_all;

use super::answer::{refusal, required};
use super::cluster::Cluster;
use super::convert;
use super::half_message::HalfMessage;
use super::topology::{TopicRoute, WritableQueue};
use crate::backend::queue_choice;
use crate::remoting::message::{self, BatchEntry, put_batch_entry};
use crate::remoting::{HeaderType, RemotingCommand, request, response};
use crate::service::{
    ChosenQueue, Message, Persistence, SentBack, ServiceError, ServiceErrorKind, StoreReceipt, TopicKind,
    millis,
};

/// The header field with a message's `sysFlag`.
const SYSTEM_FLAGS: &str = "f";
/// The topic whose configuration a broker copies if it creates topics on first use.
const TEMPLATE_TOPIC: &str = "TBW102";

impl Cluster {
    /// Stores messages of one topic. Returns one outcome per message, in order.
    pub(super) async fn send(
        &self,
        topic: &str,
        messages: &[Message],
        deadline: Instant,
    ) -> Result<Vec<Result<StoreReceipt, ServiceError>>, ServiceError> {
        let route = self.route(topic).await?;
        if route.writable().is_empty() {
            return Err(no_writable_queue(&route));
        }
        let queues = route.writable();
        if need_single_sends(messages) {
            let single = SingleSends { topic, messages, queues, deadline };
            return Ok(self.send_each(&single).await);
        }
        let choices = self.choices(&messages[0], queues)?;
        let first = self.store(|| batch(topic, messages), &choices, deadline).await?;
        // The broker returns the offset of the first message. Those of the other messages follow it.
        let sent = |n| StoreReceipt { queue_offset: first.queue_offset + n, ..first.clone() };
        Ok((0..messages.len() as i64).map(|n| Ok(sent(n))).collect())
    }

    /// Sends each message in a request of its own. Messages with the same queue key are sent one after the other, all
    /// others concurrently.
    async fn send_each(&self, sends: &SingleSends<'_>) -> Vec<Result<StoreReceipt, ServiceError>> {
        let SingleSends { topic, messages, queues, deadline } = *sends;
        let sequences = sequences(messages).into_iter().map(async |indexes| {
            let mut outcomes: Vec<(usize, Result<StoreReceipt, ServiceError>)> =
                Vec::with_capacity(indexes.len());
            for index in indexes {
                let outcome = match outcomes.last() {
                    // If a message was not stored, the next ones must not overtake it.
                    Some((_, Err(error))) => Err(error.clone()),
                    _ => {
                        let message = &messages[index];
                        match self.choices(message, queues) {
                            Ok(choices) => self.store(|| single(topic, message), &choices, deadline).await,
                            Err(error) => Err(error),
                        }
                    }
                };
                outcomes.push((index, outcome));
            }
            outcomes
        });
        let mut outcomes = join_all(sequences).await.concat();
        outcomes.sort_by_key(|(index, _)| *index);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// The queues to try, in this order. A message with a chosen queue or a queue key has one choice.
    fn choices<'a>(
        &self,
        message: &Message,
        queues: &'a [WritableQueue],
    ) -> Result<Vec<&'a WritableQueue>, ServiceError> {
        if let Some(chosen) = &message.queue {
            return chosen_queue(chosen, queues).map(|queue| vec![queue]);
        }
        Ok(match queue_key(message) {
            Some(key) => queues.get(queue_choice::of_group(key, queues.len())).into_iter().collect(),
            None => {
                let queue = self.sends.next(queues, |queue| &queue.broker.name);
                queue.map(|queue| one_per_broker(queue, queues)).unwrap_or_default()
            }
        })
    }

    /// Sends to the first of these queues. Tries the next one only if the message certainly was not stored. `command`
    /// creates the command for each attempt.
    async fn store(
        &self,
        command: impl Fn() -> RemotingCommand,
        choices: &[&WritableQueue],
        deadline: Instant,
    ) -> Result<StoreReceipt, ServiceError> {
        let mut failed =
            ServiceError::new(ServiceErrorKind::Timeout, "the deadline expired before the message was sent");
        for queue in choices {
            let left = self.time_left(deadline);
            if left.is_zero() {
                break;
            }
            let command = command().field("e", queue.id).field("n", &queue.broker.name);
            match self.store_once(queue, command, left).await {
                Ok(sent) => return Ok(sent),
                Err(NotSent { not_stored: true, error }) => failed = error,
                Err(NotSent { error, .. }) => return Err(error),
            }
        }
        Err(failed)
    }

    async fn store_once(
        &self,
        queue: &WritableQueue,
        command: RemotingCommand,
        within: Duration,
    ) -> Result<StoreReceipt, NotSent> {
        let begin = Instant::now();
        let flags: i32 = command.number(SYSTEM_FLAGS).unwrap_or_default();
        let half = flags & message::flags::TRANSACTION_PREPARED != 0;
        let answer = self.call(&queue.broker, command, within).await;
        let answer =
            answer.map_err(|error| NotSent { not_stored: !error.maybe_done(), error: error.into() })?;
        let not_stored = |error: ServiceError| NotSent { not_stored: true, error };
        match answer.code {
            response::SUCCESS
            | response::FLUSH_DISK_TIMEOUT
            | response::FLUSH_SLAVE_TIMEOUT
            | response::SLAVE_NOT_AVAILABLE => {
                self.sends.breaker.answered(&queue.broker.name, begin.elapsed());
                sent(&answer, half.then_some(&queue.broker.name))
                    .map_err(|error| NotSent { not_stored: false, error })
            }
            response::SYSTEM_BUSY | response::SERVICE_NOT_AVAILABLE => {
                let error = refusal(&answer);
                self.avoid(&queue.broker.name, &[&self.sends], &error);
                Err(not_stored(error))
            }
            _ if is_route_outdated(&answer) => {
                self.mark_routes_stale(&queue.broker.name);
                Err(not_stored(ServiceError::new(ServiceErrorKind::Unavailable, refusal(&answer).message)))
            }
            _ => Err(NotSent { not_stored: false, error: refusal(&answer) }),
        }
    }
}

/// Messages of one topic that are sent in requests of their own.
struct SingleSends<'a> {
    topic: &'a str,
    messages: &'a [Message],
    queues: &'a [WritableQueue],
    deadline: Instant,
}

/// The failure of a send to one queue.
struct NotSent {
    /// Whether the broker certainly has not stored the message.
    not_stored: bool,
    error: ServiceError,
}

/// The error for a topic whose route has no queue to send to.
fn no_writable_queue(route: &TopicRoute) -> ServiceError {
    if route.queues.iter().any(|queues| queues.writable() && queues.write > 0) {
        let text = "the brokers with the topic's writable queues have no master now";
        return ServiceError::new(ServiceErrorKind::Unavailable, text);
    }
    ServiceError::new(ServiceErrorKind::Forbidden, "no writable queue")
}

/// Whether a broker refused because it does not have the topic or the queue any more.
fn is_route_outdated(answer: &RemotingCommand) -> bool {
    let illegal_queue = || answer.remark.as_ref().is_some_and(|remark| remark.contains("queueId"));
    answer.code == response::TOPIC_NOT_EXIST || answer.code == response::INVALID_PARAMETER && illegal_queue()
}

/// Splits messages into sequences that must be sent in order, as indexes. Messages with the same queue key are one
/// sequence; every other message is its own sequence.
fn sequences(messages: &[Message]) -> Vec<Vec<usize>> {
    let mut sequences: Vec<Vec<usize>> = Vec::with_capacity(messages.len());
    let mut by_key: HashMap<&str, usize> = HashMap::new();
    for (index, message) in messages.iter().enumerate() {
        let next = sequences.len();
        let sequence = queue_key(message).map_or(next, |key| *by_key.entry(key).or_insert(next));
        match sequences.get_mut(sequence) {
            Some(sequence) => sequence.push(index),
            None => sequences.push(vec![index]),
        }
    }
    sequences
}

/// The key that determines the queue of a message, whatever its type (Apache's `SendMessageQueueSelector`).
fn queue_key(message: &Message) -> Option<&str> {
    if message.queue.is_some() {
        // A sender that chooses queues is responsible for the order, too.
        return None;
    }
    message.group.as_deref().or(message.lite_topic.as_deref())
}

/// The queue that a sender chose. If the sender named no broker, the queue's id decides among the brokers that have such a
/// queue, so that an id always means the same queue.
fn chosen_queue<'a>(
    chosen: &ChosenQueue,
    queues: &'a [WritableQueue],
) -> Result<&'a WritableQueue, ServiceError> {
    let named = |queue: &&WritableQueue| chosen.broker.as_ref().is_none_or(|name| queue.broker.name == *name);
    let candidates: Vec<_> = queues.iter().filter(|queue| queue.id == chosen.id).filter(named).collect();
    let index = usize::try_from(chosen.id).unwrap_or_default() % candidates.len().max(1);
    candidates.get(index).copied().ok_or_else(|| {
        let broker = chosen.broker.as_deref().unwrap_or("any broker");
        let text = format!("request queueId[{}] is illegal: no such queue on {broker}", chosen.id);
        ServiceError::new(ServiceErrorKind::Rejected, text)
    })
}

/// This queue, followed by one queue of every other broker.
fn one_per_broker<'a>(queue: &'a WritableQueue, queues: &'a [WritableQueue]) -> Vec<&'a WritableQueue> {
    let mut choices = vec![queue];
    for other in queues {
        if choices.iter().all(|choice| choice.broker.name != other.broker.name) {
            choices.push(other);
        }
    }
    choices
}

/// Whether each message needs a request of its own. Brokers don't support message groups, priorities, lite topics, half
/// messages and delays in a batch.
fn need_single_sends(messages: &[Message]) -> bool {
    messages.len() == 1 || messages.iter().any(|message| message.kind() != TopicKind::Normal)
}

fn single(topic: &str, message: &Message) -> RemotingCommand {
    header(request::SEND_MESSAGE_V2, topic, message)
        .field("i", convert::properties(topic, message))
        .field("m", false)
        .body(message.body.clone())
}

fn batch(topic: &str, messages: &[Message]) -> RemotingCommand {
    let mut batch = BytesMut::with_capacity(messages.iter().map(|message| message.body.len() + 512).sum());
    for message in messages {
        let (flag, body) = (message.flag, message.body.clone());
        put_batch_entry(
            &mut batch,
            &BatchEntry { flag, properties: convert::properties(topic, message), body },
        );
    }
    let first = messages.first().cloned().unwrap_or_default();
    header(request::SEND_BATCH_MESSAGE, topic, &first).field("m", true).body(batch.freeze())
}

/// The header of a send, with the short field names (Apache's `SendMessageRequestHeaderV2`).
fn header(code: i32, topic: &str, message: &Message) -> RemotingCommand {
    let SentBack { deliveries, max_retries } = message.sent_back.unwrap_or_default();
    let command = RemotingCommand::request(code)
        .header(HeaderType::Binary)
        .field("a", topic) // The producer group: one for all gRPC producers of a topic.
        .field("b", topic)
        .field("c", TEMPLATE_TOPIC)
        .field("d", 4)
        .field(SYSTEM_FLAGS, convert::system_flags(message))
        .field("g", millis(message.born_at.unwrap_or(std::time::UNIX_EPOCH)))
        .field("h", message.flag)
        .field("j", deliveries)
        .field("k", false);
    match max_retries {
        Some(max) => command.field("l", max),
        None => command,
    }
}

/// Reads the answer to a send. For a half message, `half_on` is the broker that stored it.
fn sent(answer: &RemotingCommand, half_on: Option<&String>) -> Result<StoreReceipt, ServiceError> {
    Ok(StoreReceipt {
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
    use crate::backend::remote::topology::BrokerAddress;

    #[test]
    fn messages_of_one_group_are_one_sequence() {
        let message = |group: &str| Message {
            group: (!group.is_empty()).then(|| group.to_owned()),
            ..Message::default()
        };
        let messages = ["a", "", "b", "a", ""].map(message);
        assert_eq!(sequences(&messages), [vec![0, 3], vec![1], vec![2], vec![4]]);
    }

    #[test]
    fn chosen_queues_without_a_broker_are_spread_over_the_brokers() {
        let broker = |name: &str| BrokerAddress { name: name.to_owned(), address: "h:1".to_owned() };
        let queue = |name, id| WritableQueue { broker: broker(name), id };
        let queues = [queue("a", 0), queue("a", 1), queue("b", 0), queue("b", 1)];
        let chosen = |name: Option<&str>, id| {
            let chosen = ChosenQueue { broker: name.map(str::to_owned), id };
            chosen_queue(&chosen, &queues).map(|queue| queue.broker.name.as_str()).map_err(|error| error.kind)
        };
        assert_eq!([chosen(Some("a"), 1), chosen(Some("b"), 0)], [Ok("a"), Ok("b")]);
        assert_eq!([chosen(None, 0), chosen(None, 1)], [Ok("a"), Ok("b")]);
        assert_eq!(chosen(Some("a"), 2), Err(ServiceErrorKind::Rejected));
        assert_eq!(chosen(None, -1), Err(ServiceErrorKind::Rejected));
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
        assert_eq!(no_writable_queue(&route(6)).kind, ServiceErrorKind::Unavailable);
        assert_eq!(no_writable_queue(&route(4)).kind, ServiceErrorKind::Forbidden);
    }
}
