//! Requests of tools that move a group to another position in a topic.

use std::fmt::Write;

use super::admin_stats::queue_key;
use super::consume;
use super::request::{Answered, Refusal, Request, success};
use crate::remoting::{Command, request};
use crate::service::{ResetGroup, ResetTarget, time};

/// Values of `timestamp` that mean the beginning and the end of a queue.
const EARLIEST: i64 = 0;
const LATEST: i64 = -1;

/// INVOKE_BROKER_TO_RESET_OFFSET: moves a group to another position in a topic. Answers with the new offsets.
pub(super) async fn reset(request: Request) -> Answered {
    let (topic, group) = (request.text("topic")?.to_owned(), request.text("group")?.to_owned());
    let queue: i32 = request.command.number("queueId").unwrap_or(-1);
    let offset: Option<i64> = request.command.number("offset");
    let target = match (queue, offset) {
        (queue, Some(offset)) if queue >= 0 => {
            ResetTarget::Offset { broker: request.broker().map(str::to_owned), queue, offset }
        }
        _ => match request.number("timestamp")? {
            EARLIEST => ResetTarget::Earliest,
            LATEST => ResetTarget::Latest,
            at => ResetTarget::Time(time(at)),
        },
    };
    let reset = ResetGroup { group: group.clone(), topic: topic.clone(), target };
    let queues = request.shared.processor.reset_group(reset).await.map_err(Refusal::from)?;
    let mut table = String::new();
    for queue in &queues {
        let separator = if table.is_empty() { "" } else { "," };
        let key = queue_key(&topic, &queue.broker, queue.queue);
        let _ = write!(table, "{separator}{key}:{}", queue.offset);
    }
    let body = format!("{{\"offsetTable\":{{{table}}}}}");
    notify_readers(&request, (&group, &topic), &body);
    Ok(success().body(body))
}

/// Sends the new offsets to the members of the group that read by offset. Otherwise they would overwrite them with
/// their own.
fn notify_readers(request: &Request, (group, topic): (&str, &str), offsets: &str) {
    for member in request.shared.members.of(group) {
        let subscribes = member.consumer.subscriptions.contains_key(topic);
        if subscribes && !consume::pull_is_pop(&request.shared, &member.session, group) {
            let reset = Command::request(request::RESET_CONSUMER_CLIENT_OFFSET)
                .field("topic", topic)
                .field("group", group)
                .field("timestamp", request.command.text("timestamp").unwrap_or_default())
                .field("isForce", true);
            member.session.notify(reset.body(offsets.to_owned()));
        }
    }
}
