//! Lite topics on brokers from 5.5.0 on: subscribes clients, and pops messages (Apache's
//! `LiteSubscriptionCtlProcessor`, `PopLiteMessageProcessor`).

use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Value, json};

use super::answer::{required, success};
use super::cluster::Cluster;
use super::convert::{self, InflateBudget};
use super::handle::{Handle, TopicVariant};
use super::services::Remote;
use crate::remoting::message::StoredMessage;
use crate::remoting::properties;
use crate::remoting::{RemotingCommand, request};
use crate::service::names::properties as names;
use crate::service::{
    Delivery, LiteAction, LiteChange, LiteStart, LiteSubscriptions, Receive, ServiceError, time,
};

#[async_trait]
impl LiteSubscriptions for Remote {
    async fn sync(&self, change: LiteChange) -> Result<(), ServiceError> {
        self.cluster.sync(&change).await
    }
}

impl Cluster {
    // All brokers of the topic get the change. The broker that owns a lite topic applies it, the others ignore it. A
    // failed call does not stop the calls to the other brokers.
    async fn sync(&self, change: &LiteChange) -> Result<(), ServiceError> {
        let route = self.route(&change.topic).await?;
        let command =
            RemotingCommand::request(request::LITE_SUBSCRIPTION_CTL).body(subscription(change).to_string());
        let calls =
            route.readable().iter().map(|broker| {
                let command = command.clone();
                async move {
                    success(self.call(broker, command, self.time_left(change.deadline)).await?).map(drop)
                }
            });
        join_all(calls).await.into_iter().collect()
    }
}

fn subscription(change: &LiteChange) -> Value {
    let action = match change.action {
        LiteAction::Add => "PARTIAL_ADD",
        LiteAction::Remove => "PARTIAL_REMOVE",
        LiteAction::Replace => "COMPLETE_ADD",
        LiteAction::Clear => "COMPLETE_REMOVE",
    };
    let start = change.start.map(|start| {
        let (kind, value) = match start {
            LiteStart::Last => ("POLICY", 0),
            LiteStart::Min => ("POLICY", 1),
            LiteStart::Max => ("POLICY", 2),
            LiteStart::Offset(offset) => ("OFFSET", offset),
            LiteStart::Tail(count) => ("TAIL_N", count),
            LiteStart::Timestamp(millis) => ("TIMESTAMP", millis),
        };
        json!({"type": kind, "value": value})
    });
    json!({"subscriptionSet": [{
        "action": action,
        "clientId": change.client_id,
        "group": change.group,
        "topic": change.topic,
        "liteTopicSet": change.lite_topics,
        "offsetOption": start,
        "version": 0,
    }]})
}

/// The command that pops messages of a client's lite topics.
pub(super) fn pop_command(receive: &Receive, client_id: &str, left: Duration) -> RemotingCommand {
    let command = RemotingCommand::request(request::POP_LITE_MESSAGE)
        .field("clientId", client_id)
        .field("consumerGroup", &receive.group)
        .field("topic", &receive.topic)
        .field("maxMsgNum", receive.max)
        .field("invisibleTime", receive.invisible.as_millis())
        .field("pollTime", left.as_millis())
        // With 0 the broker uses its own clock, as for other pops.
        .field("bornTime", 0);
    match &receive.attempt_id {
        Some(attempt_id) => command.field("attemptId", attempt_id),
        None => command,
    }
}

/// Converts the answer to a pop of lite topics. Leaves out messages without an offset in their lite topic, which can't
/// be settled.
pub(super) fn deliveries(
    answer: &RemotingCommand,
    stored: &[StoredMessage],
    receive: &Receive,
    broker: &str,
) -> Result<Vec<Delivery>, ServiceError> {
    let (pop_time, invisible) = (required(answer, "popTime")?, required(answer, "invisibleTime")?);
    let revive_queue = required(answer, "reviveQid")?;
    let attempts = attempts(answer, stored.len());
    let mut budget = InflateBudget::default();
    let delivery = |(index, stored): (usize, &StoredMessage)| {
        let queue_offset = properties::decode(&stored.properties)
            .find_map(|(key, value)| (key == names::MULTI_QUEUE_OFFSET).then(|| value.parse().ok())?)?;
        let handle = Handle {
            start_offset: 0,
            pop_time,
            invisible,
            revive_queue,
            variant: TopicVariant::Normal,
            broker: broker.to_owned(),
            queue_id: 0,
            queue_offset,
            commit_log_offset: stored.commit_log_offset,
        };
        Some(Delivery {
            queue_offset,
            attempt: attempts.get(index).copied().unwrap_or_default().saturating_add(1),
            received_at: time(pop_time),
            invisible: Duration::from_millis(u64::try_from(invisible).unwrap_or_default()),
            coordinates: handle.to_string(),
            ..convert::delivery(stored, receive.topic.clone(), &mut budget)
        })
    };
    Ok(stored.iter().enumerate().filter_map(delivery).collect())
}

/// The number of previous deliveries of each message. The field has one part per message, `number` or
/// `kind queue number` (Apache's `ExtraInfoUtil`). Returns nothing if the number of parts does not match.
fn attempts(answer: &RemotingCommand, messages: usize) -> Vec<i32> {
    let parts: Vec<_> = answer.text("orderCountInfo").unwrap_or_default().split(';').collect();
    if parts.len() != messages {
        return Vec::new();
    }
    let count =
        |part: &&str| part.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default();
    parts.iter().map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previous_deliveries_are_read_per_message() {
        let answer = RemotingCommand::default().field("orderCountInfo", "0;0 qo0%5 2;1");
        assert_eq!(attempts(&answer, 3), [0, 2, 1]);
        assert!(attempts(&answer, 2).is_empty());
        assert!(attempts(&RemotingCommand::default(), 2).is_empty());
    }
}
