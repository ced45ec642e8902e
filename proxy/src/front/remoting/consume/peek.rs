//! PEEK_MESSAGE: returns the messages that a group would receive next, without leases.

use std::time::SystemTime;

use super::super::answer::{Answered, Refusal, success};
use super::super::answer_bodies::{AnswerBodies, Fit};
use super::super::request::Request;
use super::offsets::committed_or_first;
use super::queue_names::{broker_of, queue_name};
use super::{pop, records};
use crate::processor::{BrokersCommand, Expression, PullCommand, QueryOffsetCommand};
use crate::remoting::{RemotingCommand, response};
use crate::service::{Delivery, PullOutcome, Whence, millis};

/// PEEK_MESSAGE. A negative queue id means all queues of a broker.
pub(super) async fn peek(request: Request) -> Answered {
    let (group, topic) = (request.text("consumerGroup")?, request.text("topic")?);
    let (queue_id, max): (i32, i32) = (request.number("queueId")?, request.number("maxMsgNums")?);
    pop::check_batch(max)?;
    let broker = broker_of(&request, topic).await?;
    let queues = match queue_id {
        0.. => queue_id..queue_id.saturating_add(1),
        _ => 0..read_queues(&request, topic, &broker).await?,
    };
    let mut found: Vec<Delivery> = Vec::new();
    let mut bodies = AnswerBodies::new(&request.charge);
    let (mut remaining, mut is_full) = (0, false);
    for id in queues {
        let left = max.saturating_sub(i32::try_from(found.len()).unwrap_or(i32::MAX));
        let queue = queue_name(topic, broker.clone(), id);
        let offset = committed_or_first(&request, group, queue.clone()).await?;
        if left <= 0 || is_full {
            let end = request.run(QueryOffsetCommand { queue, whence: Whence::End }).await?;
            remaining += (end - offset).max(0);
            continue;
        }
        let pull = PullCommand {
            offset,
            queue,
            group: group.to_owned(),
            batch_size: left,
            expression: Expression::Tags("*".to_owned()),
            polling_ms: 0,
        };
        let pulled = request.run(pull).await?;
        remaining += (pulled.range.end - pulled.next_offset).max(0);
        let PullOutcome::Messages(deliveries) = pulled.outcome else { continue };
        for mut delivery in deliveries {
            let fit = if is_full { Fit::Later } else { bodies.add(&mut delivery.message).await? };
            match fit {
                Fit::Fits => found.push(delivery),
                Fit::Later => {
                    is_full = true;
                    remaining += 1;
                }
                Fit::Never => {}
            }
        }
    }
    let now = millis(SystemTime::now());
    let answer = |code, remark: &str| {
        let answer = RemotingCommand { remark: Some(remark.to_owned()), ..RemotingCommand::response(code) };
        answer
            .field("popTime", now)
            .field("invisibleTime", 0)
            .field("reviveQid", 0)
            .field("restNum", remaining)
    };
    if found.is_empty() {
        return Ok(answer(response::PULL_NOT_FOUND, "NO_MESSAGE_IN_QUEUE"));
    }
    let cluster = records::cluster_of(&request, topic).await;
    let body = records::encode(&request, &cluster, found.iter(), |_| ());
    Ok(answer(success().code, "FOUND").body(body))
}

async fn read_queues(request: &Request, topic: &str, broker: &str) -> Result<i32, Refusal> {
    let route = request.run_uncounted(BrokersCommand { topic: topic.to_owned() }).await?;
    let range = route.queues.iter().find(|range| range.broker == broker);
    Ok(range.map_or(0, |range| range.read_queues))
}
