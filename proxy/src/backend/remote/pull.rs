//! Reading a queue by offset (Apache's `PullMessageProcessor`, `ConsumerManageProcessor`).

use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::answer::{refusal, required, success};
use super::cluster::Cluster;
use super::convert::{self, InflateBudget};
use super::filter;
use super::services::Remote;
use super::topology::BrokerAddress;
use crate::remoting::message::{StoredMessage, decode_all};
use crate::remoting::{Command, request, response};
use crate::service::{
    Delivery, Filter, Found, Offsets, Pull, Pulled, QueueLock, QueueOf, SendBack, ServiceError,
    ServiceErrorKind, TopicQueue, Whence, millis,
};

/// Bits of a pull's `sysFlag` (Apache's `PullSysFlag`): wait for a message; the filter comes with the request.
const SUSPEND: i32 = 0x2;
const WITH_FILTER: i32 = 0x4;
/// How long a broker takes at most to notice that the time of a read that waits is over.
const NOTICES_WITHIN: Duration = Duration::from_secs(5);

#[async_trait]
impl Offsets for Remote {
    async fn pull(&self, pull: Pull) -> Result<Pulled, ServiceError> {
        self.cluster.pull(&pull, convert::delivery).await
    }

    async fn commit(&self, queue: QueueOf<'_>, group: &str, offset: i64) -> Result<(), ServiceError> {
        let command = about(request::UPDATE_CONSUMER_OFFSET, queue)
            .field("consumerGroup", group)
            .field("commitOffset", offset);
        success(self.cluster.call_about(queue, command).await?).map(drop)
    }

    async fn committed(&self, queue: QueueOf<'_>, group: &str) -> Result<Option<i64>, ServiceError> {
        let command = about(request::QUERY_CONSUMER_OFFSET, queue)
            .field("consumerGroup", group)
            // A group that has not begun has no offset, even if the queue begins at 0.
            .field("setZeroIfNotFound", false);
        let answer = self.cluster.call_about(queue, command).await?;
        match answer.code {
            response::QUERY_NOT_FOUND => Ok(None),
            _ => required(&success(answer)?, "offset").map(Some),
        }
    }

    async fn offset(&self, queue: QueueOf<'_>, whence: Whence) -> Result<i64, ServiceError> {
        let command = match whence {
            Whence::Beginning => about(request::GET_MIN_OFFSET, queue),
            Whence::End => about(request::GET_MAX_OFFSET, queue),
            Whence::Time(time) => {
                about(request::SEARCH_OFFSET_BY_TIMESTAMP, queue).field("timestamp", millis(time))
            }
        };
        required(&success(self.cluster.call_about(queue, command).await?)?, "offset")
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

fn about(code: i32, queue: QueueOf<'_>) -> Command {
    Command::request(code).field("topic", queue.topic).field("queueId", queue.id).field("bname", queue.broker)
}

/// The domain's form of a stored message, by its topic.
type Convert = fn(&StoredMessage, String, &mut InflateBudget) -> Delivery;

impl Cluster {
    async fn call_about(&self, queue: QueueOf<'_>, command: Command) -> Result<Command, ServiceError> {
        let broker = self.broker_of(queue.topic, queue.broker).await?;
        Ok(self.call(&broker, command, self.time_left(queue.deadline)).await?)
    }

    /// Has the broker move a message to the group's retry topic, by its position in the commit log, which readers are not
    /// told.
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
            let text = format!("no message is at offset {} of queue {}", back.offset, back.queue_id);
            return Err(ServiceError::new(ServiceErrorKind::Rejected, text));
        };
        let command = Command::request(request::CONSUMER_SEND_MSG_BACK)
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

    /// Reads from a queue, and converts the messages with this function.
    pub(super) async fn pull(&self, pull: &Pull, convert: Convert) -> Result<Pulled, ServiceError> {
        let answer = self.read(pull).await?;
        let found = match answer.code {
            response::SUCCESS => {
                let mut budget = InflateBudget::default();
                let stored = decode_all(answer.body.clone());
                let read = stored.iter().map(|stored| convert(stored, pull.topic.clone(), &mut budget));
                Found::Messages(read.filter(|delivery| filter::wanted(&pull.filter, delivery)).collect())
            }
            response::PULL_NOT_FOUND | response::PULL_RETRY_IMMEDIATELY => Found::Nothing,
            response::PULL_OFFSET_MOVED => Found::OffsetIllegal,
            _ => return Err(refusal(&answer)),
        };
        let range = required(&answer, "minOffset")?..required(&answer, "maxOffset")?;
        Ok(Pulled { found, next_offset: required(&answer, "nextBeginOffset")?, range })
    }

    /// The broker's answer to a read.
    async fn read(&self, pull: &Pull) -> Result<Command, ServiceError> {
        let broker = self.broker_of(&pull.topic, &pull.broker).await?;
        let left = pull.deadline.saturating_duration_since(Instant::now());
        // It is asked to wait for a shorter time, so that its answer is not late.
        let (wait, longest) = if left.is_zero() { (0, left) } else { (SUSPEND, left.max(NOTICES_WITHIN)) };
        let (kind, expression) = filter::expression(&pull.filter);
        let command = Command::request(request::PULL_MESSAGE)
            .field("consumerGroup", &pull.group)
            .field("topic", &pull.topic)
            .field("queueId", pull.queue_id)
            .field("queueOffset", pull.offset)
            .field("maxMsgNums", pull.max)
            .field("sysFlag", wait | WITH_FILTER)
            .field("commitOffset", 0)
            .field("suspendTimeoutMillis", left.saturating_sub(NOTICES_WITHIN).as_millis())
            .field("subscription", expression)
            .field("subVersion", 0)
            .field("expressionType", kind)
            .field("bname", &pull.broker);
        Ok(self.peers.call(&broker.address, command, longest + self.options.call_timeout).await?)
    }

    /// Where to read a topic's queues on this broker, which a client has named.
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
