//! PULL_MESSAGE. A pull from an offset reads the queue. A pull from a position, which is a number from 2^60 on that this
//! proxy has made up ([`super::queue_ledger`]), becomes a pop ([`super::pull_as_pop`]).

use std::time::Duration;

use super::super::answer_bodies::{AnswerBodies, Fit};
use super::super::heartbeat::expression;
use super::super::request::{Answered, Refusal, Request};
use super::queue_ledger::is_position;
use super::{offsets, pull_as_pop, records};
use crate::processor::{Expression, PullCommand, QueryOffsetCommand, QueueName, UpdateOffsetCommand};
use crate::remoting::{Command, response};
use crate::service::{Delivery, PullOutcome, Pulled, Whence};

/// Bits of a pull's `sysFlag` (Apache's `PullSysFlag`).
const HAS_COMMIT_OFFSET: i32 = 0x1;
const IS_LONG_POLL: i32 = 0x2;
const HAS_FILTER: i32 = 0x4;

/// The fields of a pull.
pub(super) struct PullRequest {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) broker: String,
    pub(super) queue_id: i32,
    /// Where to begin: an offset of the queue, or a position of a ledger.
    pub(super) from: i64,
    pub(super) max: i32,
    /// How long to wait for the first message.
    pub(super) wait: Duration,
    /// The offset or position that the client commits. `None` if it commits nothing.
    pub(super) committed: Option<i64>,
    pub(super) expression: Expression,
}

/// PULL_MESSAGE.
pub(super) async fn pull(request: Request) -> Answered {
    let pull_request = PullRequest::read(&request)?;
    if is_position(pull_request.from) {
        pull_as_pop::pull(request, pull_request).await
    } else {
        by_offset(request, pull_request).await
    }
}

impl PullRequest {
    fn read(request: &Request) -> Result<Self, Refusal> {
        let (group, topic) = (request.text("consumerGroup")?, request.text("topic")?);
        let flags: i32 = request.number("sysFlag")?;
        let wait = match request.command.number("suspendTimeoutMillis") {
            Some(millis) if flags & IS_LONG_POLL != 0 => Duration::from_millis(millis),
            _ => Duration::ZERO,
        };
        let committed = request.command.number("commitOffset").filter(|_| flags & HAS_COMMIT_OFFSET != 0);
        let expression = if flags & HAS_FILTER != 0 {
            let text = request.command.text("subscription").unwrap_or_default();
            expression(request.command.text("expressionType"), text)
        } else {
            subscribed_filter(request, group, topic)?
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

/// The filter of the client's subscription, by its last heartbeat.
fn subscribed_filter(request: &Request, group: &str, topic: &str) -> Result<Expression, Refusal> {
    let consumer = request.session.consumer(group);
    let data = consumer.as_ref().and_then(|consumer| consumer.subscriptions.get(topic));
    data.map(|data| data.expression()).ok_or_else(|| {
        Refusal::new(response::SUBSCRIPTION_NOT_EXIST, "the consumer's subscription not exist")
    })
}

async fn by_offset(request: Request, pull_request: PullRequest) -> Answered {
    let broker = offsets::broker_of(&request, &pull_request.topic).await?;
    let queue = offsets::queue_name(&pull_request.topic, broker, pull_request.queue_id);
    if let Some(offset) = pull_request.committed.filter(|offset| *offset > 0 && !is_position(*offset)) {
        let commit = UpdateOffsetCommand { queue: queue.clone(), group: pull_request.group.clone(), offset };
        // As with Apache's brokers, the pull continues. The client will commit again.
        if let Err(error) = request.run_uncounted(commit).await {
            tracing::debug!(
                topic = pull_request.topic,
                group = pull_request.group,
                ?error,
                "failed to store an offset"
            );
        }
    }
    let topic = pull_request.topic;
    let pull = PullCommand {
        queue: queue.clone(),
        group: pull_request.group,
        offset: pull_request.from,
        batch_size: pull_request.max,
        expression: pull_request.expression,
        polling_ms: i64::try_from(pull_request.wait.as_millis()).unwrap_or(i64::MAX),
    };
    let pulled = tokio::select! {
        biased;
        pulled = request.run(pull) => match pulled {
            // Clients expect offsets in an answer with this code.
            Err(refusal) if refusal.code == response::PULL_OFFSET_MOVED => {
                return answer_moved(&request, queue).await;
            }
            pulled => pulled?,
        },
        () = request.session.closing().cancelled() => return Ok(nothing_new(pull_request.from, pull_request.from, pull_request.from)),
    };
    let Pulled { outcome, next_offset, range } = pulled;
    Ok(match outcome {
        PullOutcome::Nothing if next_offset > pull_request.from => {
            answer(response::PULL_RETRY_IMMEDIATELY, next_offset, range.start, range.end)
        }
        PullOutcome::Nothing => nothing_new(next_offset, range.start, range.end),
        PullOutcome::OffsetIllegal => {
            answer(response::PULL_OFFSET_MOVED, next_offset, range.start, range.end)
        }
        PullOutcome::Messages(deliveries) => {
            let (deliveries, next) = fit_into_answer(&request, deliveries).await?;
            let next_offset = next.unwrap_or(next_offset);
            if deliveries.is_empty() {
                return Ok(answer(response::PULL_RETRY_IMMEDIATELY, next_offset, range.start, range.end));
            }
            let cluster = records::cluster_of(&request, &topic).await;
            let body = records::encode(&request, &cluster, deliveries.iter(), |_| ());
            answer(response::SUCCESS, next_offset, range.start, range.end).body(body)
        }
    })
}

/// Returns the messages that fit into one answer, with decompressed bodies, and the offset of the first message that did
/// not fit. Messages that are too long for any answer are skipped.
async fn fit_into_answer(
    request: &Request,
    deliveries: Vec<Delivery>,
) -> Result<(Vec<Delivery>, Option<i64>), Refusal> {
    let mut bodies = AnswerBodies::new(&request.charge);
    let mut fitting = Vec::with_capacity(deliveries.len());
    for mut delivery in deliveries {
        match bodies.add(&mut delivery.message).await? {
            Fit::Fits => fitting.push(delivery),
            Fit::Later => return Ok((fitting, Some(delivery.queue_offset))),
            Fit::Never => tracing::warn!(
                topic = delivery.topic,
                queue_id = delivery.queue_id,
                offset = delivery.queue_offset,
                "a message is too long for classic clients: it is skipped"
            ),
        }
    }
    Ok((fitting, None))
}

/// The answer to a pull from a negative offset: the client shall continue at the first message of the queue.
async fn answer_moved(request: &Request, queue: QueueName) -> Answered {
    let query = |whence| request.run(QueryOffsetCommand { queue: queue.clone(), whence });
    let (first, end) = (query(Whence::Beginning).await?, query(Whence::End).await?);
    Ok(answer(response::PULL_OFFSET_MOVED, first, first, end))
}

/// The answer to a pull without messages.
pub(super) fn nothing_new(next: i64, min: i64, max: i64) -> Command {
    answer(response::PULL_NOT_FOUND, next, min, max)
}

/// An answer with the fields that clients expect with every code.
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
