//! Settles deliveries: acknowledges them, changes their leases, and moves them to the dead-letter topic.

use std::collections::BTreeMap;
use std::time::Instant;

use super::answer::{refusal, required, success};
use super::batch_ack;
use super::cluster::Cluster;
use super::handle::{Handle, TopicGroup};
use super::pop::now;
use crate::remoting::{RemotingCommand, request, response};
use crate::service::{
    AckOutcome, Acknowledge, ChangeInvisible, Forward, InvisibleOutcome, NextAttempt, ServiceError,
    ServiceErrorKind, Settle, time,
};

/// The delay level with which CONSUMER_SEND_MSG_BACK moves a message to the dead-letter topic at once.
const TO_DEAD_LETTER: i32 = -1;

impl Cluster {
    /// Acknowledges deliveries. Returns one outcome per entry, in order.
    pub(super) async fn acknowledge(&self, request: &Acknowledge) -> Vec<AckOutcome> {
        let now = now();
        let mut outcomes = vec![AckOutcome::Expired; request.entries.len()];
        let mut batches: BTreeMap<String, Vec<IndexedAck<'_>>> = BTreeMap::new();
        let mut singles = Vec::new();
        for (index, entry) in request.entries.iter().enumerate() {
            match Handle::parse(&entry.coordinates) {
                Ok(handle) if handle.is_expired(now) => {}
                Ok(handle) if entry.lite_topic.is_none() && batch_ack::is_batchable(&handle) => {
                    batches.entry(handle.broker.clone()).or_default().push(IndexedAck {
                        index,
                        entry,
                        handle,
                    });
                }
                Ok(handle) => singles.push(vec![IndexedAck { index, entry, handle }]),
                Err(reason) => outcomes[index] = AckOutcome::Invalid(reason),
            }
        }
        let source = TopicGroup { topic: &request.topic, group: &request.group };
        let acks = singles.into_iter().chain(batches.into_values());
        let acks = acks.map(|acks| self.acknowledge_at_broker(source, acks, request.deadline));
        for (index, outcome) in futures::future::join_all(acks).await.into_iter().flatten() {
            outcomes[index] = outcome;
        }
        outcomes
    }

    /// Acknowledges deliveries of one broker, in one request if the broker supports it. Returns outcomes by index.
    async fn acknowledge_at_broker(
        &self,
        source: TopicGroup<'_>,
        acks: Vec<IndexedAck<'_>>,
        deadline: Instant,
    ) -> Vec<(usize, AckOutcome)> {
        let outcome = match acks.as_slice() {
            [] | [_] => None,
            acks => self.ack_batch(source, acks, deadline).await,
        };
        if let Some(outcome) = outcome {
            return acks.iter().map(|ack| (ack.index, outcome.clone())).collect();
        }
        let acks = acks.iter().map(|ack| async { (ack.index, self.ack(source, ack, deadline).await) });
        futures::future::join_all(acks).await
    }

    /// Acknowledges deliveries in one request. Returns the common outcome; `None` if the broker does not support batches
    /// and did nothing.
    async fn ack_batch(
        &self,
        source: TopicGroup<'_>,
        acks: &[IndexedAck<'_>],
        deadline: Instant,
    ) -> Option<AckOutcome> {
        let broker = &acks.first()?.handle.broker;
        let handles: Vec<_> = acks.iter().map(|ack| &ack.handle).collect();
        let command = batch_ack::command(source, broker, &handles).ok()?;
        match self.call_master(broker, command, deadline).await {
            Ok(answer) if answer.code == response::REQUEST_CODE_NOT_SUPPORTED => None,
            answer => Some(outcome(answer)),
        }
    }

    async fn ack(&self, source: TopicGroup<'_>, ack: &IndexedAck<'_>, deadline: Instant) -> AckOutcome {
        let command = settlement(request::ACK_MESSAGE, source, &ack.handle);
        outcome(self.call_master(&ack.handle.broker, with_lite_topic(command, ack.entry), deadline).await)
    }

    /// Replaces the lease of a delivery by one that begins now.
    pub(super) async fn change(&self, change: &ChangeInvisible) -> Result<InvisibleOutcome, ServiceError> {
        let handle = parse(&change.entry)?;
        if handle.is_expired(now()) {
            return Ok(InvisibleOutcome::Expired);
        }
        let source = TopicGroup { topic: &change.topic, group: &change.group };
        let command = settlement(request::CHANGE_MESSAGE_INVISIBLE_TIME, source, &handle)
            .field("invisibleTime", change.invisible.as_millis())
            .field("suspend", change.next_attempt != NextAttempt::Counts);
        let command = with_lite_topic(command, &change.entry);
        let answer = success(self.call_master(&handle.broker, command, change.deadline).await?)?;
        // For orderly and lite groups, brokers keep the time of the pop and extend the lease instead. If such a message is
        // consumed already, they answer zeros, which is an expired lease.
        let renewed = Handle {
            start_offset: handle.queue_offset,
            pop_time: required(&answer, "popTime")?,
            invisible: required(&answer, "invisibleTime")?,
            revive_queue: required(&answer, "reviveQid")?,
            ..handle
        };
        let end = renewed.pop_time.saturating_add(renewed.invisible);
        let requested = i64::try_from(change.invisible.as_millis()).unwrap_or(i64::MAX);
        Ok(InvisibleOutcome::Changed {
            received_at: time(end.saturating_sub(requested)),
            coordinates: renewed.to_string(),
        })
    }

    /// Copies a delivery to the dead-letter topic, and acknowledges it.
    pub(super) async fn forward(&self, forward: &Forward) -> Result<(), ServiceError> {
        let handle = parse(&forward.entry)?;
        if handle.commit_log_offset < 0 {
            return Err(ServiceError::new(ServiceErrorKind::InvalidHandle, "commit log offset is empty"));
        }
        let broker = self.master(&handle.broker).await?;
        let command = RemotingCommand::request(request::CONSUMER_SEND_MSG_BACK)
            .field("offset", handle.commit_log_offset)
            .field("group", &forward.group)
            .field("delayLevel", TO_DEAD_LETTER)
            .field("originMsgId", &forward.entry.message_id)
            .field("originTopic", handle.variant.topic(&forward.topic, &forward.group))
            .field("unitMode", false)
            .field("maxReconsumeTimes", 0)
            .field("bname", &handle.broker);
        success(self.call(&broker, command, self.time_left(forward.deadline)).await?)?;
        // The dead letter is stored. If this acknowledgement fails, the message is delivered and forwarded once more.
        let source = TopicGroup { topic: &forward.topic, group: &forward.group };
        let ack = with_lite_topic(settlement(request::ACK_MESSAGE, source, &handle), &forward.entry);
        if let Err(error) = self.call(&broker, ack, self.time_left(forward.deadline)).await {
            tracing::warn!(group = forward.group, %error, "could not acknowledge a message that was moved to the dead-letter topic");
        }
        Ok(())
    }
}

/// A delivery to acknowledge.
struct IndexedAck<'a> {
    /// The index of the entry in the request.
    index: usize,
    entry: &'a Settle,
    handle: Handle,
}

fn outcome(answer: Result<RemotingCommand, ServiceError>) -> AckOutcome {
    match answer {
        Ok(answer) if answer.code == response::SUCCESS => AckOutcome::Done,
        Ok(answer) => AckOutcome::Failed(refusal(&answer)),
        Err(error) if error.kind == ServiceErrorKind::InvalidHandle => AckOutcome::Invalid(error.message),
        Err(error) => AckOutcome::Failed(error),
    }
}

fn parse(entry: &Settle) -> Result<Handle, ServiceError> {
    Handle::parse(&entry.coordinates)
        .map_err(|reason| ServiceError::new(ServiceErrorKind::InvalidHandle, reason))
}

/// A command with the fields that every settlement of a lease has.
fn settlement(code: i32, TopicGroup { topic, group }: TopicGroup<'_>, handle: &Handle) -> RemotingCommand {
    RemotingCommand::request(code)
        .field("consumerGroup", group)
        .field("topic", handle.variant.topic(topic, group))
        .field("queueId", handle.queue_id)
        .field("extraInfo", handle)
        .field("offset", handle.queue_offset)
        .field("bname", &handle.broker)
}

fn with_lite_topic(command: RemotingCommand, entry: &Settle) -> RemotingCommand {
    match &entry.lite_topic {
        Some(lite_topic) => command.field("liteTopic", lite_topic),
        None => command,
    }
}
