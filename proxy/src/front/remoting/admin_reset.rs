//! Requests of tools that move a group to another position in a topic.

use std::fmt::Write;

use super::admin_stats::queue_key;
use super::answer::{Answered, Refusal, success};
use super::consume::{self, GroupTopic};
use super::request::Request;
use crate::processor::QueueName;
use crate::remoting::{RemotingCommand, request};
use crate::service::{ResetGroup, ResetTarget, Whence, time};

/// Values of `timestamp` that mean the beginning and the end of a queue.
const EARLIEST: i64 = 0;
const LATEST: i64 = -1;

/// INVOKE_BROKER_TO_RESET_OFFSET: moves a group to another position in a topic. Answers with the new offsets.
pub(super) async fn reset(request: Request) -> Answered {
    let (topic, group) = (request.text("topic")?.to_owned(), request.text("group")?.to_owned());
    // As at Apache's brokers, -1 stands for an absent number, and an offset without a queue is ignored.
    let queue: Option<i32> = request.optional_number("queueId")?.filter(|queue| *queue >= 0);
    let offset: Option<i64> = request.optional_number("offset")?.filter(|offset| *offset != -1);
    let target = match (queue, offset) {
        (Some(queue), Some(offset)) => {
            ResetTarget::Offset { broker: request.broker().map(str::to_owned), queue, offset }
        }
        (Some(queue), None) => queue_by_time(&request, &topic, queue).await?,
        (None, _) => match whence(&request)? {
            Whence::Beginning => ResetTarget::Earliest,
            Whence::End => ResetTarget::Latest,
            Whence::Time(at) => ResetTarget::Time(at),
        },
    };
    let at = GroupTopic { group, topic };
    let reset = ResetGroup { group: at.group.clone(), topic: at.topic.clone(), target };
    let queues = request.shared.processor.reset_group(reset).await.map_err(Refusal::from)?;
    let mut table = String::new();
    for queue in &queues {
        let separator = if table.is_empty() { "" } else { "," };
        let key = queue_key(&at.topic, &queue.broker, queue.queue);
        let _ = write!(table, "{separator}{key}:{}", queue.offset);
    }
    let body = format!("{{\"offsetTable\":{{{table}}}}}");
    notify_readers(&request, &at, &body);
    Ok(success().body(body))
}

/// Where `timestamp` is in a queue.
fn whence(request: &Request) -> Result<Whence, Refusal> {
    Ok(match request.number("timestamp")? {
        EARLIEST => Whence::Beginning,
        LATEST => Whence::End,
        at => Whence::Time(time(at)),
    })
}

/// One queue, at `timestamp`.
async fn queue_by_time(request: &Request, topic: &str, id: i32) -> Result<ResetTarget, Refusal> {
    let whence = whence(request)?;
    let broker = consume::broker_of(request, topic).await?;
    let queue = QueueName { topic: topic.to_owned(), broker, id };
    let offset = request.shared.processor.queue_offset(&queue, whence).await?;
    Ok(ResetTarget::Offset { broker: Some(queue.broker), queue: id, offset })
}

/// Sends the new offsets to the members of the group that read by offset. Otherwise they would overwrite them with
/// their own.
fn notify_readers(request: &Request, GroupTopic { group, topic }: &GroupTopic, offsets: &str) {
    for member in request.shared.members.of(group) {
        let subscribes = member.consumer.subscriptions.contains_key(topic);
        if subscribes && !consume::pull_is_pop(&request.shared, &member.connection, group) {
            let reset = RemotingCommand::request(request::RESET_CONSUMER_CLIENT_OFFSET)
                .field("topic", topic)
                .field("group", group)
                .field("timestamp", request.command.text("timestamp").unwrap_or_default())
                .field("isForce", true);
            member.connection.notify(reset.body(offsets.to_owned()));
        }
    }
}
