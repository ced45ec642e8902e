//! LOCK_BATCH_MQ and UNLOCK_BATCH_MQ, which consumers in order send.
//!
//! In a group that consumes in order by its configuration, nobody needs the locks: pulls stay pops, and what is delivered
//! and not settled holds back what comes after it. Each client gets all queues.

use serde::{Deserialize, Serialize};

use super::super::request::{Answered, Refusal, Request, json, success};
use super::{Way, offsets, reads_by_offset, shows};
use crate::processor::{GroupCommand, LockCommand, QueueName, UnlockCommand};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    client_id: String,
    consumer_group: String,
    #[serde(default)]
    mq_set: Vec<MessageQueue>,
}

/// A queue, as clients write it.
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
    let Asked { client_id, consumer_group: group, mq_set } = request.json()?;
    if !reads_by_offset(&request.shared, &group)
        && request.run(GroupCommand { group: group.clone() }).await?.fifo
    {
        return json(&Body { locked: mq_set });
    }
    shows(&request, &group, Way::InOrder);
    let queues = names(&request, mq_set).await?;
    let context = request.context_of(&client_id);
    let locked = request.shared.processor.run(&context, LockCommand { group, queues }).await?;
    json(&Body { locked: locked.into_iter().map(MessageQueue::from).collect() })
}

/// UNLOCK_BATCH_MQ.
pub(super) async fn unlock(request: Request) -> Answered {
    let Asked { client_id, consumer_group: group, mq_set } = request.json()?;
    let queues = names(&request, mq_set).await?;
    let context = request.context_of(&client_id);
    request.shared.processor.run(&context, UnlockCommand { group, queues }).await?;
    Ok(success())
}

async fn names(request: &Request, queues: Vec<MessageQueue>) -> Result<Vec<QueueName>, Refusal> {
    let mut names = Vec::with_capacity(queues.len());
    for MessageQueue { broker_name, queue_id, topic } in queues {
        let broker =
            if broker_name.is_empty() { offsets::broker_of(request, &topic).await? } else { broker_name };
        names.push(QueueName { topic, broker, id: queue_id });
    }
    Ok(names)
}

impl From<QueueName> for MessageQueue {
    fn from(QueueName { topic, broker, id }: QueueName) -> Self {
        Self { broker_name: broker, queue_id: id, topic }
    }
}
