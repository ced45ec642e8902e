//! Reads queues by offset, and stores the offsets of groups (Apache's `PullMessageProcessor`, `ConsumerManageProcessor`).

use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::answer::{refusal, required, success};
use super::cluster::Cluster;
use super::convert::{self, InflateBudget};
use super::filter;
use super::services::Remote;
use super::topology::BrokerAddress;
use crate::remoting::message::{StoredMessage, decode_all};
use crate::remoting::{RemotingCommand, request, response};
use crate::service::{
    Delivery, Filter, Offsets, Pull, PullOutcome, Pulled, QueueLock, QueueRef, SendBack, ServiceError,
    ServiceErrorKind, TopicQueue, Whence, millis,
};

/// Bits of a pull's `sysFlag` (Apache's `PullSysFlag`): the broker waits for a message; the request has a filter.
const SUSPEND: i32 = 0x2;
const WITH_FILTER: i32 = 0x4;
/// The longest time by which a broker may exceed the wait of a pull.
const MAX_SUSPEND_OVERRUN: Duration = Duration::from_secs(5);

#[async_trait]
impl Offsets for Remote {
    async fn pull(&self, pull: Pull) -> Result<Pulled, ServiceError> {
        self.cluster.pull(&pull, convert::delivery).await
    }

    async fn commit(&self, queue: QueueRef<'_>, group: &str, offset: i64) -> Result<(), ServiceError> {
        let command = queue_command(request::UPDATE_CONSUMER_OFFSET, queue)
            .field("consumerGroup", group)
            .field("commitOffset", offset);
        success(self.cluster.call_queue_broker(queue, command).await?).map(drop)
    }

    async fn committed(&self, queue: QueueRef<'_>, group: &str) -> Result<Option<i64>, ServiceError> {
        let command = queue_command(request::QUERY_CONSUMER_OFFSET, queue)
            .field("consumerGroup", group)
            // By default, brokers answer 0 for a group without an offset if the queue starts at 0.
            .field("setZeroIfNotFound", false);
        let answer = self.cluster.call_queue_broker(queue, command).await?;
        match answer.code {
            response::QUERY_NOT_FOUND => Ok(None),
            _ => required(&success(answer)?, "offset").map(Some),
        }
    }

    async fn offset(&self, queue: QueueRef<'_>, whence: Whence) -> Result<i64, ServiceError> {
        let command = match whence {
            Whence::Beginning => queue_command(request::GET_MIN_OFFSET, queue),
            Whence::End => queue_command(request::GET_MAX_OFFSET, queue),
            Whence::Time(time) => {
                queue_command(request::SEARCH_OFFSET_BY_TIMESTAMP, queue).field("timestamp", millis(time))
            }
        };
        required(&success(self.cluster.call_queue_broker(queue, command).await?)?, "offset")
    }

    async fn send_back(&self, back: SendBack) -> Result<(), ServiceError> {
        self.cluster.send_back(&back).await
    }

    async fn lock(&self, lock: QueueLock) -> Result<Vec<TopicQueue>, ServiceError> {
        self.cluster.lock_queues(&lock).await
    }

    async fn unlock(&self, lock: QueueLock) -> Result<(), ServiceError> {
        self.cluster.unlock_queues(&lock).await
    }
}

fn queue_command(code: i32, queue: QueueRef<'_>) -> RemotingCommand {
    RemotingCommand::request(code)
        .field("topic", queue.topic)
        .field("queueId", queue.id)
        .field("bname", queue.broker)
}

/// A function that converts a stored message of this topic.
type Convert = fn(&StoredMessage, String, &mut InflateBudget) -> Delivery;

impl Cluster {
    async fn call_queue_broker(
        &self,
        queue: QueueRef<'_>,
        command: RemotingCommand,
    ) -> Result<RemotingCommand, ServiceError> {
        let broker = self.broker_of(queue.topic, queue.broker).await?;
        Ok(self.call(&broker, command, self.time_left(queue.deadline)).await?)
    }

    /// Asks the broker to copy a message to the group's retry topic. The request needs the message's offset in the commit
    /// log, which consumers don't know, so the message is read first.
    async fn send_back(&self, back: &SendBack) -> Result<(), ServiceError> {
        let pull = Pull {
            topic: back.topic.clone(),
            group: back.group.clone(),
            broker: back.broker.clone(),
            queue_id: back.queue_id,
            offset: back.offset,
            max: 1,
            filter: Filter::All,
            deadline: Instant::now(),
        };
        let answer = self.read(&pull).await?;
        let mut stored = decode_all(answer.body.clone()).into_iter();
        let Some(message) = stored.find(|stored| stored.queue_offset == back.offset) else {
            let text = format!("there is no message at offset {} of queue {}", back.offset, back.queue_id);
            return Err(ServiceError::new(ServiceErrorKind::Rejected, text));
        };
        let command = RemotingCommand::request(request::CONSUMER_SEND_MSG_BACK)
            .field("offset", message.commit_log_offset)
            .field("group", &back.group)
            .field("delayLevel", back.level)
            .field("originMsgId", &back.message_id)
            .field("originTopic", &back.topic)
            .field("unitMode", false)
            .field("bname", &back.broker);
        let command = match back.max_retries {
            Some(max) => command.field("maxReconsumeTimes", max),
            None => command,
        };
        let master = self.master(&back.broker).await?;
        success(self.call(&master, command, self.time_left(back.deadline)).await?).map(drop)
    }

    /// Reads messages from a queue, and converts them with this function.
    pub(super) async fn pull(&self, pull: &Pull, convert: Convert) -> Result<Pulled, ServiceError> {
        let answer = self.read(pull).await?;
        let outcome = match answer.code {
            response::SUCCESS => {
                let mut budget = InflateBudget::default();
                let stored = decode_all(answer.body.clone());
                let read = stored.iter().map(|stored| convert(stored, pull.topic.clone(), &mut budget));
                PullOutcome::Messages(
                    read.filter(|delivery| filter::matches(&pull.filter, delivery)).collect(),
                )
            }
            response::PULL_NOT_FOUND | response::PULL_RETRY_IMMEDIATELY => PullOutcome::Nothing,
            response::PULL_OFFSET_MOVED => PullOutcome::OffsetIllegal,
            _ => return Err(refusal(&answer)),
        };
        let range = required(&answer, "minOffset")?..required(&answer, "maxOffset")?;
        Ok(Pulled { outcome, next_offset: required(&answer, "nextBeginOffset")?, range })
    }

    /// Sends a pull. Returns the broker's answer.
    async fn read(&self, pull: &Pull) -> Result<RemotingCommand, ServiceError> {
        let broker = self.broker_of(&pull.topic, &pull.broker).await?;
        let left = pull.deadline.saturating_duration_since(Instant::now());
        // The broker is asked to wait for a shorter time, so that its answer is in time even if it overruns.
        let (suspend, max_wait) =
            if left.is_zero() { (0, left) } else { (SUSPEND, left.max(MAX_SUSPEND_OVERRUN)) };
        let (kind, expression) = filter::expression(&pull.filter);
        let command = RemotingCommand::request(request::PULL_MESSAGE)
            .field("consumerGroup", &pull.group)
            .field("topic", &pull.topic)
            .field("queueId", pull.queue_id)
            .field("queueOffset", pull.offset)
            .field("maxMsgNums", pull.max)
            .field("sysFlag", suspend | WITH_FILTER)
            .field("commitOffset", 0)
            .field("suspendTimeoutMillis", left.saturating_sub(MAX_SUSPEND_OVERRUN).as_millis())
            .field("subscription", expression)
            .field("subVersion", 0)
            .field("expressionType", kind)
            .field("bname", &pull.broker);
        Ok(self.peers.call(&broker.address, command, max_wait + self.options.call_timeout).await?)
    }

    /// The address for reading a topic's queues on this broker: its master, or a replica while there is no master.
    ///
    /// # Errors
    /// `Rejected` if the broker, which a client has named, is not in the topic's route.
    pub(super) async fn broker_of(&self, topic: &str, broker: &str) -> Result<BrokerAddress, ServiceError> {
        let route = self.route(topic).await?;
        let address = route.broker(broker).and_then(|broker| broker.master().or(broker.readable_address()));
        let address = address.ok_or_else(|| {
            let message = format!("broker {broker} has no queues of topic {topic}");
            ServiceError::new(ServiceErrorKind::Rejected, message)
        })?;
        Ok(BrokerAddress { name: broker.to_owned(), address: address.to_owned() })
    }
}
