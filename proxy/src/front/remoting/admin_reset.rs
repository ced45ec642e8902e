//! Resets of groups, for tools.

use std::fmt::Write;

use super::admin_stats::queue_key;
use super::request::{Answered, Refusal, Request, success};
use crate::service::{ResetGroup, ResetTarget, time};

/// Times that stand for the two ends of a queue.
const EARLIEST: i64 = 0;
const LATEST: i64 = -1;

/// INVOKE_BROKER_TO_RESET_OFFSET: has a group go on elsewhere in a topic. Answers with the new offsets.
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
    let reset = ResetGroup { group, topic: topic.clone(), target };
    let queues = request.shared.processor.reset_group(reset).await.map_err(Refusal::from)?;
    let mut table = String::new();
    for queue in &queues {
        let separator = if table.is_empty() { "" } else { "," };
        let key = queue_key(&topic, &queue.broker, queue.queue);
        let _ = write!(table, "{separator}{key}:{}", queue.offset);
    }
    Ok(success().body(format!("{{\"offsetTable\":{{{table}}}}}")))
}
