//! Locks queues at the brokers for one client of a group (Apache's `AdminBrokerProcessor`).

use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::success;
use super::cluster::Cluster;
use crate::remoting::{RemotingCommand, lenient, request};
use crate::service::{QueueLock, ServiceError, ServiceErrorKind, TopicQueue};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LockAnswer {
    #[serde(rename = "lockOKMQSet", default)]
    queues: Vec<LockedQueue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LockedQueue {
    topic: String,
    queue_id: i32,
}

impl Cluster {
    /// Locks queues. Returns those that are now locked for the client.
    pub(super) async fn lock_queues(&self, lock: &QueueLock) -> Result<Vec<TopicQueue>, ServiceError> {
        let answer = self.call_for_lock(request::LOCK_BATCH_MQ, lock).await?;
        let locked: LockAnswer = lenient::from_slice(&answer.body).map_err(|error| {
            let message = format!("the broker's answer about locked queues can't be read: {error}");
            ServiceError::new(ServiceErrorKind::Internal, message)
        })?;
        let queues = locked.queues.into_iter();
        Ok(queues.map(|queue| TopicQueue { topic: queue.topic, id: queue.queue_id }).collect())
    }

    /// Releases the client's locks of queues.
    pub(super) async fn unlock_queues(&self, lock: &QueueLock) -> Result<(), ServiceError> {
        self.call_for_lock(request::UNLOCK_BATCH_MQ, lock).await.map(drop)
    }

    async fn call_for_lock(&self, code: i32, lock: &QueueLock) -> Result<RemotingCommand, ServiceError> {
        let Some(first) = lock.queues.first() else {
            return Err(ServiceError::new(ServiceErrorKind::Rejected, "the request names no queue"));
        };
        let broker = self.broker_of(&first.topic, &lock.broker).await?;
        let command =
            RemotingCommand::request(code).field("bname", &lock.broker).body(body(lock).to_string());
        success(self.call(&broker, command, self.time_left(lock.deadline)).await?)
    }
}

fn body(lock: &QueueLock) -> Value {
    let queues = lock
        .queues
        .iter()
        .map(|queue| json!({"brokerName": lock.broker, "queueId": queue.id, "topic": queue.topic}));
    json!({
        "clientId": lock.client_id,
        "consumerGroup": lock.group,
        "mqSet": queues.collect::<Vec<_>>(),
        "onlyThisBroker": false,
    })
}
