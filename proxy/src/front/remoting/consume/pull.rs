//! PULL_MESSAGE: by offset, or as a pop of the topic.

use std::time::Duration;

use super::super::heartbeat::expression;
use super::super::request::{Answered, Refusal, Request};
use super::queue_ledger::is_position;
use super::{offsets, popped, records};
use crate::processor::{Expression, PullCommand, QueryOffsetCommand, QueueName, UpdateOffsetCommand};
use crate::remoting::{Command, response};
use crate::service::{PullOutcome, Pulled, Whence};

/// Bits of a pull's `sysFlag` (Apache's `PullSysFlag`).
const COMMITS: i32 = 0x1;
const WAITS: i32 = 0x2;
const WITH_FILTER: i32 = 0x4;

/// What a client asks for.
pub(super) struct Asked {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) broker: String,
    pub(super) queue_id: i32,
    /// An offset, or a position of a ledger.
    pub(super) from: i64,
    pub(super) max: i32,
    /// How long to wait for a first message.
    pub(super) wait: Duration,
    /// How far the client has got, if it tells.
    pub(super) committed: Option<i64>,
    pub(super) expression: Expression,
}

/// PULL_MESSAGE.
pub(super) async fn pull(request: Request) -> Answered {
    let asked = Asked::read(&request)?;
    if is_position(asked.from) { popped::pull(request, asked).await } else { by_offset(request, asked).await }
}

impl Asked {
    fn read(request: &Request) -> Result<Self, Refusal> {
        let (group, topic) = (request.text("consumerGroup")?, request.text("topic")?);
        let flags: i32 = request.number("sysFlag")?;
        let wait = match request.command.number("suspendTimeoutMillis") {
            Some(millis) if flags & WAITS != 0 => Duration::from_millis(millis),
            _ => Duration::ZERO,
        };
        let committed = request.command.number("commitOffset").filter(|_| flags & COMMITS != 0);
        let expression = if flags & WITH_FILTER != 0 {
            let text = request.command.text("subscription").unwrap_or_default();
            expression(request.command.text("expressionType"), text)
        } else {
            subscribed(request, group, topic)?
        };
        Ok(Self {
            group: group.to_owned(),
            topic: topic.to_owned(),
            broker: request.broker().unwrap_or_default().to_owned(),
            queue_id: request.number("queueId")?,
            from: request.number("queueOffset")?,
            max: request.number("maxMsgNums")?,
            wait,
            committed,
            expression,
        })
    }
}

/// What the client has subscribed to, by its last heartbeat.
fn subscribed(request: &Request, group: &str, topic: &str) -> Result<Expression, Refusal> {
    let consumer = request.session.consumer(group);
    let data = consumer.as_ref().and_then(|consumer| consumer.subscriptions.get(topic));
    data.map(|data| data.expression()).ok_or_else(|| {
        Refusal::new(response::SUBSCRIPTION_NOT_EXIST, "the consumer's subscription not exist")
    })
}

async fn by_offset(request: Request, asked: Asked) -> Answered {
    let broker = offsets::broker_of(&request, &asked.topic).await?;
    let queue = offsets::queue_name(&asked.topic, broker, asked.queue_id);
    if let Some(offset) = asked.committed.filter(|offset| *offset > 0 && !is_position(*offset)) {
        let commit = UpdateOffsetCommand { queue: queue.clone(), group: asked.group.clone(), offset };
        // As with Apache's brokers, the pull goes on: the client commits again.
        if let Err(error) = request.assist(commit).await {
            tracing::debug!(topic = asked.topic, group = asked.group, ?error, "an offset is not stored");
        }
    }
    let topic = asked.topic;
    let pull = PullCommand {
        queue: queue.clone(),
        group: asked.group,
        offset: asked.from,
        batch_size: asked.max,
        expression: asked.expression,
        polling_ms: i64::try_from(asked.wait.as_millis()).unwrap_or(i64::MAX),
    };
    let pulled = tokio::select! {
        biased;
        pulled = request.run(pull) => match pulled {
            // Clients read the fields of an answer with this code, too.
            Err(refusal) if refusal.code == response::PULL_OFFSET_MOVED => {
                return moved(&request, queue).await;
            }
            pulled => pulled?,
        },
        () = request.session.closing().cancelled() => return Ok(nothing_new(asked.from, asked.from, asked.from)),
    };
    let Pulled { outcome, next_offset, range } = pulled;
    Ok(match outcome {
        PullOutcome::Nothing if next_offset > asked.from => {
            answer(response::PULL_RETRY_IMMEDIATELY, next_offset, range.start, range.end)
        }
        PullOutcome::Nothing => nothing_new(next_offset, range.start, range.end),
        PullOutcome::OffsetIllegal => {
            answer(response::PULL_OFFSET_MOVED, next_offset, range.start, range.end)
        }
        PullOutcome::Messages(mut deliveries) if !deliveries.is_empty() => {
            let cluster = records::cluster_of(&request, &topic).await;
            let fitting = records::fitting(deliveries.iter());
            let next_offset = deliveries.get(fitting).map_or(next_offset, |next| next.queue_offset);
            deliveries.truncate(fitting);
            let body = records::encode(&request, &cluster, deliveries.iter(), |_| ());
            answer(response::SUCCESS, next_offset, range.start, range.end).body(body)
        }
        PullOutcome::Messages(_) => {
            answer(response::PULL_RETRY_IMMEDIATELY, next_offset, range.start, range.end)
        }
    })
}

/// The answer to a pull from a negative offset: the queue's first message is next.
async fn moved(request: &Request, queue: QueueName) -> Answered {
    let query = |whence| request.run(QueryOffsetCommand { queue: queue.clone(), whence });
    let (first, end) = (query(Whence::Beginning).await?, query(Whence::End).await?);
    Ok(answer(response::PULL_OFFSET_MOVED, first, first, end))
}

/// No message came.
pub(super) fn nothing_new(next: i64, min: i64, max: i64) -> Command {
    answer(response::PULL_NOT_FOUND, next, min, max)
}

/// An answer with the fields that clients expect whatever its code.
pub(super) fn answer(code: i32, next: i64, min: i64, max: i64) -> Command {
    let remark = match code {
        response::SUCCESS => "FOUND",
        response::PULL_OFFSET_MOVED => "OFFSET_OVERFLOW_BADLY",
        response::PULL_RETRY_IMMEDIATELY => "NO_MATCHED_MESSAGE",
        _ => "NO_MESSAGE_IN_QUEUE",
    };
    Command { remark: Some(remark.to_owned()), ..Command::response(code) }
        .field("suggestWhichBrokerId", 0)
        .field("nextBeginOffset", next)
        .field("minOffset", min)
        .field("maxOffset", max)
}
