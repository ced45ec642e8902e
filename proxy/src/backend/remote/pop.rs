//! Receives messages under a lease, which brokers call a pop (Apache's `PopMessageProcessor`).

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use super::answer::{refusal, required, success};
use super::cluster::Cluster;
use super::convert::{self, InflateBudget};
use super::filter::{self, expression};
use super::handle::{Handle, TopicVariant};
use super::lite;
use super::topology::{BrokerAddress, TopicRoute};
use crate::remoting::message::{StoredMessage, decode_all};
use crate::remoting::properties;
use crate::remoting::{RemotingCommand, request, response};
use crate::service::names::properties as names;
use crate::service::{
    Acknowledge, Delivered, Delivery, Receive, ServiceError, ServiceErrorKind, Settle, millis, time,
};

/// The queue id that stands for any queue of the broker.
const ANY_QUEUE: i32 = -1;
/// The `initMode` with which a new group starts at the end of the queues. Brokers start at the beginning
/// all the same if no message of the topic has been removed yet.
const START_AT_END: i32 = 1;

impl Cluster {
    /// Takes messages from one broker of the topic: the requested one, or the next in rotation.
    pub(super) async fn pop(&self, receive: &Receive) -> Result<Delivered, ServiceError> {
        let route = self.route(&receive.topic).await?;
        let broker = self.broker_for(receive, &route)?;
        let left = receive.deadline.saturating_duration_since(Instant::now());
        let command = match &receive.lite_client {
            Some(client_id) => lite::pop_command(receive, client_id, left),
            None => command(receive, left),
        };
        let answer = self.call(broker, command, left + self.options.call_timeout).await?;
        self.receives.breaker.answered(&broker.name, Duration::ZERO);
        match answer.code {
            response::SUCCESS => {
                self.filter_popped(receive, deliveries(&answer, receive, &broker.name)?).await
            }
            response::POLLING_TIMEOUT | response::PULL_NOT_FOUND => Ok(Delivered::Nothing),
            response::POLLING_FULL => Err(ServiceError::new(ServiceErrorKind::Busy, "polling full")),
            _ => Err(refusal(&answer)),
        }
    }

    fn broker_for<'a>(
        &self,
        receive: &Receive,
        route: &'a TopicRoute,
    ) -> Result<&'a BrokerAddress, ServiceError> {
        let brokers = route.readable();
        let named =
            receive.broker.as_ref().and_then(|name| brokers.iter().find(|broker| broker.name == *name));
        let next = || self.receives.next(brokers, |broker| &broker.name);
        named.or_else(next).ok_or_else(|| ServiceError::new(ServiceErrorKind::Forbidden, "no readable queue"))
    }

    /// Whether a pop would return a message. The broker waits for one until the deadline.
    pub(super) async fn has_message(&self, receive: &Receive) -> Result<bool, ServiceError> {
        let route = self.route(&receive.topic).await?;
        let broker = self.broker_for(receive, &route)?;
        let left = receive.deadline.saturating_duration_since(Instant::now());
        let (kind, expression) = expression(&receive.filter);
        let command = RemotingCommand::request(request::NOTIFICATION)
            .field("consumerGroup", &receive.group)
            .field("topic", &receive.topic)
            .field("queueId", ANY_QUEUE)
            .field("pollTime", left.as_millis())
            .field("bornTime", millis(SystemTime::now()))
            .field("expType", kind)
            .field("exp", expression)
            .field("order", receive.fifo);
        let answer = success(self.call(broker, command, left + self.options.call_timeout).await?)?;
        Ok(answer.text("hasMsg") == Some("true"))
    }

    // Messages that do not pass the filter count as consumed.
    async fn filter_popped(
        &self,
        receive: &Receive,
        popped: Vec<Delivery>,
    ) -> Result<Delivered, ServiceError> {
        let any_popped = !popped.is_empty();
        let (matching, filtered): (Vec<_>, Vec<_>) =
            popped.into_iter().partition(|delivery| filter::matches(&receive.filter, delivery));
        if !filtered.is_empty() {
            let consumed = Acknowledge {
                topic: receive.topic.clone(),
                group: receive.group.clone(),
                entries: filtered.iter().map(Settle::from).collect(),
                deadline: Instant::now() + self.options.call_timeout,
            };
            self.acknowledge(&consumed).await;
        }
        Ok(match matching.is_empty() {
            false => Delivered::Messages(matching),
            true if any_popped => Delivered::AllFiltered,
            true => Delivered::Nothing,
        })
    }
}

fn command(receive: &Receive, left: Duration) -> RemotingCommand {
    let (kind, expression) = expression(&receive.filter);
    let command = RemotingCommand::request(request::POP_MESSAGE)
        .field("consumerGroup", &receive.group)
        .field("topic", &receive.topic)
        .field("queueId", ANY_QUEUE)
        .field("maxMsgNums", receive.max)
        .field("invisibleTime", receive.invisible.as_millis())
        .field("pollTime", left.as_millis())
        // With 0 the broker uses its own clock, so that a wrong clock of the proxy does not matter.
        .field("bornTime", 0)
        .field("initMode", START_AT_END)
        .field("expType", kind)
        .field("exp", expression)
        .field("order", receive.fifo);
    match &receive.attempt_id {
        Some(attempt_id) => command.field("attemptId", attempt_id),
        None => command,
    }
}

fn deliveries(
    answer: &RemotingCommand,
    receive: &Receive,
    broker: &str,
) -> Result<Vec<Delivery>, ServiceError> {
    let stored = decode_all(answer.body.clone());
    if receive.lite_client.is_some() {
        return lite::deliveries(answer, &stored, receive, broker);
    }
    let info = PopInfo::read(answer, broker)?;
    let mut budget = InflateBudget::default();
    let mut positions: HashMap<(TopicVariant, i32), usize> = HashMap::new();
    let mut delivered = Vec::with_capacity(stored.len());
    for message in &stored {
        let variant = TopicVariant::of(message, receive);
        let position = positions.entry((variant, message.queue_id)).or_default();
        let handle = info.handle(message, variant, *position);
        *position += 1;
        let redelivered = info.attempts(message, variant).filter(|_| receive.fifo);
        delivered.push(Delivery {
            attempt: redelivered.unwrap_or(message.reconsume_times).saturating_add(1),
            received_at: time(handle.pop_time),
            invisible: Duration::from_millis(handle.invisible.max(0) as u64),
            coordinates: handle.to_string(),
            ..convert::delivery(message, receive.topic.clone(), &mut budget)
        });
    }
    Ok(delivered)
}

/// The leases in the header of a pop's answer (Apache's `ExtraInfoUtil`).
struct PopInfo<'a> {
    broker: &'a str,
    pop_time: i64,
    invisible: i64,
    revive_queue: i32,
    /// The first offset of the batch, by topic variant and queue.
    start_offsets: HashMap<(&'a str, &'a str), &'a str>,
    /// The offsets of the messages, by topic variant and queue.
    offsets: HashMap<(&'a str, &'a str), Vec<&'a str>>,
    /// The number of previous deliveries in an orderly group, by topic variant and queue or message.
    counts: HashMap<(&'a str, &'a str), &'a str>,
}

impl<'a> PopInfo<'a> {
    fn read(answer: &'a RemotingCommand, broker: &'a str) -> Result<Self, ServiceError> {
        Ok(Self {
            broker,
            pop_time: required(answer, "popTime")?,
            invisible: required(answer, "invisibleTime")?,
            revive_queue: required(answer, "reviveQid")?,
            start_offsets: triples(answer, "startOffsetInfo").collect(),
            offsets: triples(answer, "msgOffsetInfo")
                .map(|(key, offsets)| (key, offsets.split(',').collect()))
                .collect(),
            counts: triples(answer, "orderCountInfo").collect(),
        })
    }

    fn handle(&self, message: &StoredMessage, variant: TopicVariant, position: usize) -> Handle {
        let from_broker = properties::decode(&message.properties)
            .find_map(|(key, value)| (key == names::POP_CHECK_POINT).then(|| Handle::parse(value).ok())?);
        if let Some(handle) = from_broker {
            return Handle { commit_log_offset: message.commit_log_offset, ..handle };
        }
        let queue = message.queue_id.to_string();
        let key = (variant.code(), queue.as_str());
        let own_offset = message.queue_offset.to_string();
        // The position in the list is used only if the list does not contain the message's own offset: the list also has
        // entries for unreadable records, so positions may be shifted.
        let listed = self.offsets.get(&key).filter(|offsets| !offsets.contains(&own_offset.as_str()));
        let offset = listed.and_then(|offsets| offsets.get(position)?.parse().ok());
        let queue_offset = offset.unwrap_or(message.queue_offset);
        Handle {
            start_offset: self
                .start_offsets
                .get(&key)
                .and_then(|start| start.parse().ok())
                .unwrap_or(queue_offset),
            pop_time: self.pop_time,
            invisible: self.invisible,
            revive_queue: self.revive_queue,
            variant,
            broker: self.broker.to_owned(),
            queue_id: message.queue_id,
            queue_offset,
            commit_log_offset: message.commit_log_offset,
        }
    }

    fn attempts(&self, message: &StoredMessage, variant: TopicVariant) -> Option<i32> {
        let by_message = format!("qo{}%{}", message.queue_id, message.queue_offset);
        let by_queue = message.queue_id.to_string();
        [by_message, by_queue]
            .iter()
            .find_map(|key| self.counts.get(&(variant.code(), key.as_str()))?.parse().ok())
    }
}

/// Splits `variant key value;variant key value` into ((variant, key), value).
fn triples<'a>(
    answer: &'a RemotingCommand,
    field: &str,
) -> impl Iterator<Item = ((&'a str, &'a str), &'a str)> {
    answer.text(field).unwrap_or_default().split(';').filter_map(|part| {
        let mut words = part.split(' ');
        Some(((words.next()?, words.next()?), words.next()?))
    })
}

/// The current time in milliseconds since the Unix epoch, as in handles of brokers.
pub(super) fn now() -> i64 {
    millis(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::remote::batch_ack;
    use crate::backend::remote::handle::TopicGroup;
    use crate::service::Filter;

    fn receive(fifo: bool, lite_client: Option<String>) -> Receive {
        Receive {
            topic: "t".to_owned(),
            group: "g".to_owned(),
            broker: None,
            filter: Filter::All,
            max: 8,
            invisible: Duration::from_secs(1),
            deadline: Instant::now(),
            fifo,
            attempt_id: None,
            lite_client,
        }
    }

    prop_compose! {
        /// Messages of the topic and its retry topics, with arbitrary numbers.
        fn records()(
            topic in "t|%RETRY%g_t|%RETRY%g\\+t|other", numbers: (i32, i64, i64, i64, i64), attempts in prop_oneof![Just(i32::MAX), any::<i32>()], system_flags: i32,
            body in proptest::collection::vec(any::<u8>(), 0..40),
            (key, value) in ("1ST_POP_TIME|POP_CK|TIMER_DELIVER_MS|TIMER_DELAY_SEC|INNER_MULTI_QUEUE_OFFSET|UNIQ_KEY", words()),
        ) -> StoredMessage {
            let host = std::net::SocketAddr::from(([127, 0, 0, 1], 10911));
            StoredMessage {
                topic,
                queue_id: numbers.0,
                queue_offset: numbers.1,
                commit_log_offset: numbers.2,
                flag: 0,
                // Both hosts are IPv4.
                system_flags: system_flags & !0x30,
                born_at: numbers.3,
                born_host: host,
                stored_at: numbers.4,
                store_host: host,
                reconsume_times: attempts,
                properties: properties::encode([(key.as_str(), value.as_str())]),
                body: body.into(),
            }
        }
    }

    /// The numbers and separators of the answer's fields, in any order.
    fn words() -> impl Strategy<Value = String> {
        "([ ;,]|0|1|2|qo0%5|b|-?[0-9]{1,19}){0,12}"
    }

    proptest! {
        #[test]
        fn no_answer_panics(
            stored in proptest::collection::vec(records(), 0..4), times: (i64, i64, i32), fields in [words(), words(), words()],
            fifo: bool, lite: bool,
        ) {
            let body: Vec<u8> = stored.iter().flat_map(StoredMessage::encode).collect();
            let [start_offsets, offsets, counts] = fields;
            let answer = RemotingCommand::default()
                .field("popTime", times.0)
                .field("invisibleTime", times.1)
                .field("reviveQid", times.2)
                .field("startOffsetInfo", start_offsets)
                .field("msgOffsetInfo", offsets)
                .field("orderCountInfo", counts)
                .body(body);
            let receive = receive(fifo, lite.then(|| "c".to_owned()));
            let delivered = deliveries(&answer, &receive, "b").unwrap();
            let handles: Vec<_> = delivered.iter().map(|delivery| Handle::parse(&delivery.coordinates).unwrap()).collect();
            let together: Vec<_> = handles.iter().filter(|handle| batch_ack::is_batchable(handle)).collect();
            batch_ack::command(TopicGroup { topic: "t", group: "g" }, "b", &together).unwrap();
        }
    }
}
