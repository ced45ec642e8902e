//! LOCK_BATCH_MQ and UNLOCK_BATCH_MQ, by which consumers in order lock their queues.
//!
//! A group that is configured as FIFO does not need locks: pulls are pops, and an unsettled message blocks those after
//! it. Each client gets all the locks that it requests.

use serde::{Deserialize, Serialize};

use super::super::answer::{Answered, Refusal, json, success};
use super::super::request::Request;
use super::consume_mode::{note_consume_mode, reads_by_offset};
use super::consumer_state::ConsumeMode;
use super::queue_names::broker_of;
use crate::processor::{GetGroupConfigCommand, LockCommand, QueueName, UnlockCommand};

/// The body of both requests.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LockBody {
    client_id: String,
    consumer_group: String,
    #[serde(default)]
    mq_set: Vec<MessageQueue>,
}

/// A queue in a JSON body (Apache's `MessageQueue`).
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageQueue {
    #[serde(default)]
    pub(super) broker_name: String,
    pub(super) queue_id: i32,
    pub(super) topic: String,
}

/// LOCK_BATCH_MQ.
pub(super) async fn lock(request: Request) -> Answered {
    #[derive(Serialize)]
    struct Body {
        #[serde(rename = "lockOKMQSet")]
        locked: Vec<MessageQueue>,
    }
    let LockBody { client_id, consumer_group: group, mq_set } = request.json()?;
    if !reads_by_offset(&request.shared, &group)
        && request.run(GetGroupConfigCommand { group: group.clone() }).await?.fifo
    {
        return json(&Body { locked: mq_set });
    }
    note_consume_mode(&request, &group, ConsumeMode::InOrder);
    let queues = queue_names(&request, mq_set).await?;
    let context = request.context_of(&client_id);
    let locked = request.shared.processor.run(&context, LockCommand { group, queues }).await?;
    json(&Body { locked: locked.into_iter().map(MessageQueue::from).collect() })
}

/// UNLOCK_BATCH_MQ.
pub(super) async fn unlock(request: Request) -> Answered {
    let LockBody { client_id, consumer_group: group, mq_set } = request.json()?;
    let queues = queue_names(&request, mq_set).await?;
    let context = request.context_of(&client_id);
    request.shared.processor.run(&context, UnlockCommand { group, queues }).await?;
    Ok(success())
}

/// The names of queues. Missing brokers are found by the topics' routes.
async fn queue_names(request: &Request, queues: Vec<MessageQueue>) -> Result<Vec<QueueName>, Refusal> {
    let mut names = Vec::with_capacity(queues.len());
    for MessageQueue { broker_name, queue_id, topic } in queues {
        let broker = if broker_name.is_empty() { broker_of(request, &topic).await? } else { broker_name };
        names.push(QueueName { topic, broker, id: queue_id });
    }
    Ok(names)
}

impl From<QueueName> for MessageQueue {
    fn from(QueueName { topic, broker, id }: QueueName) -> Self {
        Self { broker_name: broker, queue_id: id, topic }
    }
}
