//! Retry topics: messages that a group has read by offset and could not consume. The retry topic of a group has one
//! queue, and is created with the first such message. Messages under leases stay in their queue instead.

use std::time::{Instant, SystemTime};

use super::broker::Broker;
use super::catalog::{Group, group_not_found};
use super::codec;
use super::dead_letter::{QUEUES, as_dead_letter};
use super::new_message::NewMessage;
use super::send::{due, sent};
use crate::service::names::properties::{ORIGIN_MESSAGE_ID, RETRY_TOPIC};
use crate::service::{
    Delay, Filter, Message, Offsets, Pull, PullOutcome, SendBack, SentBack, ServiceError, ServiceErrorKind,
    StoreReceipt, delay_level, names,
};

impl Broker {
    /// See [`Offsets::send_back`].
    pub(super) async fn copy_to_retry_topic(&self, back: SendBack) -> Result<(), ServiceError> {
        let SendBack { topic, group: name, broker, queue_id, offset, deadline, .. } = back;
        let group = self.existing_group(&name)?;
        let pull = Pull {
            topic: topic.clone(),
            group: name,
            broker,
            queue_id,
            offset,
            max: 1,
            filter: Filter::All,
            deadline: Instant::now(),
        };
        let found = match self.pull(pull).await?.outcome {
            PullOutcome::Messages(found) => found.into_iter().next(),
            PullOutcome::Nothing | PullOutcome::OffsetIllegal => None,
        };
        let Some(read) = found.filter(|read| read.queue_offset == offset) else {
            let text = format!("there is no message at offset {offset} of queue {queue_id} of topic {topic}");
            return Err(ServiceError::new(ServiceErrorKind::Rejected, text));
        };
        // Attempts of the group that failed do not count for a group that reads its dead letters.
        let deliveries = if names::group_of_dead_letters(&topic).is_some() { 1 } else { read.attempt };
        let mut message = read.message;
        // A message that is sent back again keeps its first topic and id.
        let properties = &mut message.system_properties;
        for (key, value) in [(RETRY_TOPIC, topic), (ORIGIN_MESSAGE_ID, back.message_id)] {
            if properties.iter().all(|(known, _)| known != key) && !value.is_empty() {
                properties.push((key.to_owned(), value));
            }
        }
        // A half message in a queue was committed.
        message.half = false;
        let level = delay_level::for_retry(back.level, deliveries.saturating_sub(1));
        message.delay = delay_level::duration(level).map(|pause| Delay::Until(SystemTime::now() + pause));
        let max_retries = if back.level < 0 { Some(0) } else { back.max_retries };
        message.sent_back = Some(SentBack { deliveries, max_retries });
        self.store_again(&group, message, deadline).await.map(drop)
    }

    /// Stores messages that clients send to the retry topic of a group themselves. If the group consumes queues in
    /// order, they become dead letters, as with Apache's brokers: clients of such a group send only exhausted messages
    /// there.
    pub(super) async fn store_retries(
        &self,
        name: &str,
        messages: Vec<Message>,
        deadline: Instant,
    ) -> Result<Vec<StoreReceipt>, ServiceError> {
        let group = self.existing_group(name)?;
        let in_order = self.queue_locks.has_any(name, Instant::now());
        let mut stored = Vec::with_capacity(messages.len());
        for mut message in messages {
            if in_order {
                message.sent_back = Some(SentBack::LAST);
            }
            stored.push(self.store_again(&group, message, deadline).await?);
        }
        Ok(stored)
    }

    /// Stores a message in the group's retry topic, or in its dead-letter topic if its attempts are exhausted.
    async fn store_again(
        &self,
        group: &Group,
        message: Message,
        deadline: Instant,
    ) -> Result<StoreReceipt, ServiceError> {
        let name = &group.config.name;
        let SentBack { deliveries, max_retries } = message.sent_back.unwrap_or_default();
        let limited = max_retries.map_or_else(|| group.config.max_attempts(), |max| max.saturating_add(1));
        let exhausted = deliveries >= limited.max(1);
        let (topic, message) = if exhausted {
            let from = message.system_properties.iter().find(|(key, _)| key == RETRY_TOPIC);
            let from = from.map_or_else(|| names::retry_topic(name), |(_, topic)| topic.clone());
            (names::dead_letter_topic(name), as_dead_letter(message, from))
        } else {
            (names::retry_topic(name), message)
        };
        let topic = self.ensure_topic(&topic, QUEUES).await?;
        let attempts = u32::try_from(deliveries).unwrap_or_default();
        let entry = NewMessage {
            message: codec::encode(&message, attempts),
            queue: 0,
            due: due(&message),
            first_check_after: None,
        };
        let placed = self.append(topic, vec![entry], deadline).await?.into_iter().next();
        let placed = placed.ok_or_else(|| {
            ServiceError::new(
                ServiceErrorKind::Internal,
                "the broker did not return where it stored a message",
            )
        })?;
        Ok(sent(placed, &message))
    }

    fn existing_group(&self, name: &str) -> Result<Group, ServiceError> {
        self.catalog.group(name).ok_or_else(|| group_not_found(name))
    }
}
