use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::answer::{refusal, required, success};
use super::batch_ack;
use super::cluster::Cluster;
use super::handle::Handle;
use super::pop::now;
use crate::remoting::{Command, request, response};
use crate::service::{
    AckOutcome, Acknowledge, ChangeInvisible, Forward, InvisibleOutcome, ServiceError, ServiceErrorKind,
    Settle, time,
};

/// Tells CONSUMER_SEND_MSG_BACK to move the message to the dead-letter topic at once.
const TO_DEAD_LETTER: i32 = -1;

impl Cluster {
    /// Acknowledges every entry; one outcome each, in order.
    pub(super) async fn acknowledge(&self, request: &Acknowledge) -> Vec<AckOutcome> {
        let (left, now) = (request.deadline.saturating_duration_since(Instant::now()), now());
        let mut outcomes = vec![AckOutcome::Expired; request.entries.len()];
        let mut together: BTreeMap<String, Vec<Ack<'_>>> = BTreeMap::new();
        let mut alone = Vec::new();
        for (place, entry) in request.entries.iter().enumerate() {
            match Handle::parse(&entry.coordinates) {
                Ok(handle) if handle.is_expired(now) => {}
                Ok(handle) if entry.lite_topic.is_none() && batch_ack::takes(&handle) => {
                    together.entry(handle.broker.clone()).or_default().push(Ack { place, entry, handle });
                }
                Ok(handle) => alone.push(vec![Ack { place, entry, handle }]),
                Err(reason) => outcomes[place] = AckOutcome::Invalid(reason),
            }
        }
        let scope = (request.topic.as_str(), request.group.as_str());
        let acks = alone.into_iter().chain(together.into_values());
        let acks = acks.map(|acks| self.acknowledge_at_one(scope, acks, left));
        for (place, outcome) in futures::future::join_all(acks).await.into_iter().flatten() {
            outcomes[place] = outcome;
        }
        outcomes
    }

    /// Acknowledges deliveries of one broker, in one request if the broker knows how to.
    async fn acknowledge_at_one(
        &self,
        scope: (&str, &str),
        acks: Vec<Ack<'_>>,
        left: Duration,
    ) -> Vec<(usize, AckOutcome)> {
        let outcome = match acks.as_slice() {
            [] | [_] => None,
            acks => self.ack_all(scope, acks, left).await,
        };
        if let Some(outcome) = outcome {
            return acks.iter().map(|ack| (ack.place, outcome.clone())).collect();
        }
        let acks = acks.iter().map(|ack| async { (ack.place, self.ack(scope, ack, left).await) });
        futures::future::join_all(acks).await
    }

    /// The outcome of all; `None` if the broker does not know such requests, and has done nothing.
    async fn ack_all(&self, scope: (&str, &str), acks: &[Ack<'_>], left: Duration) -> Option<AckOutcome> {
        let broker = &acks.first()?.handle.broker;
        let handles: Vec<_> = acks.iter().map(|ack| &ack.handle).collect();
        let command = batch_ack::command(scope, broker, &handles).ok()?;
        match self.ask_broker(broker, command, left).await {
            Ok(answer) if answer.code == response::REQUEST_CODE_NOT_SUPPORTED => None,
            answer => Some(outcome(answer)),
        }
    }

    async fn ack(&self, scope: (&str, &str), ack: &Ack<'_>, left: Duration) -> AckOutcome {
        let command = settlement(request::ACK_MESSAGE, scope, &ack.handle);
        outcome(self.ask_broker(&ack.handle.broker, with_lite_topic(command, ack.entry), left).await)
    }

    /// Gives a delivery a new lease from now.
    pub(super) async fn change(&self, change: &ChangeInvisible) -> Result<InvisibleOutcome, ServiceError> {
        let handle = parse(&change.entry)?;
        if handle.is_expired(now()) {
            return Ok(InvisibleOutcome::Expired);
        }
        let left = change.deadline.saturating_duration_since(Instant::now());
        let command =
            settlement(request::CHANGE_MESSAGE_INVISIBLE_TIME, (&change.topic, &change.group), &handle)
                .field("invisibleTime", change.invisible.as_millis())
                .field("suspend", change.suspend);
        let command = with_lite_topic(command, &change.entry);
        let answer = success(self.ask_broker(&handle.broker, command, left).await?)?;
        // Orderly and lite groups keep the time of the pop, and count the lease from there. Where the message is already
        // behind the committed offset, they answer zeros: nothing to hold any more, and a lease that is over at once.
        let renewed = Handle {
            start_offset: handle.queue_offset,
            pop_time: required(&answer, "popTime")?,
            invisible: required(&answer, "invisibleTime")?,
            revive_queue: required(&answer, "reviveQid")?,
            ..handle
        };
        let end = renewed.pop_time.saturating_add(renewed.invisible);
        let asked = i64::try_from(change.invisible.as_millis()).unwrap_or(i64::MAX);
        Ok(InvisibleOutcome::Changed {
            received_at: time(end.saturating_sub(asked)),
            coordinates: renewed.to_string(),
        })
    }

    /// Moves a delivery to the dead-letter topic, and takes it off the topic.
    pub(super) async fn forward(&self, forward: &Forward) -> Result<(), ServiceError> {
        let handle = parse(&forward.entry)?;
        if handle.commit_log_offset < 0 {
            return Err(ServiceError::new(ServiceErrorKind::InvalidHandle, "commit log offset is empty"));
        }
        let left = forward.deadline.saturating_duration_since(Instant::now());
        let address = self.master(&handle.broker).await?;
        let command = Command::request(request::CONSUMER_SEND_MSG_BACK)
            .field("offset", handle.commit_log_offset)
            .field("group", &forward.group)
            .field("delayLevel", TO_DEAD_LETTER)
            .field("originMsgId", &forward.entry.message_id)
            .field("originTopic", handle.variant.topic(&forward.topic, &forward.group))
            .field("unitMode", false)
            .field("maxReconsumeTimes", 0)
            .field("bname", &handle.broker);
        let broker = (handle.broker.as_str(), address.as_str());
        success(self.ask(broker, command, left).await?)?;
        // The dead letter is safe. If this ack is lost, the message comes back and is forwarded once more.
        let ack = settlement(request::ACK_MESSAGE, (&forward.topic, &forward.group), &handle);
        if let Err(error) = self.ask(broker, with_lite_topic(ack, &forward.entry), left).await {
            tracing::warn!(group = forward.group, %error, "a dead letter could not be taken off its topic");
        }
        Ok(())
    }
}

/// A delivery to acknowledge.
struct Ack<'a> {
    /// Its place in the answer.
    place: usize,
    entry: &'a Settle,
    handle: Handle,
}

fn outcome(answer: Result<Command, ServiceError>) -> AckOutcome {
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

/// The fields that every settlement of a lease has.
fn settlement(code: i32, (topic, group): (&str, &str), handle: &Handle) -> Command {
    Command::request(code)
        .field("consumerGroup", group)
        .field("topic", handle.variant.topic(topic, group))
        .field("queueId", handle.queue_id)
        .field("extraInfo", handle)
        .field("offset", handle.queue_offset)
        .field("bname", &handle.broker)
}

fn with_lite_topic(command: Command, entry: &Settle) -> Command {
    match &entry.lite_topic {
        Some(lite_topic) => command.field("liteTopic", lite_topic),
        None => command,
    }
}
