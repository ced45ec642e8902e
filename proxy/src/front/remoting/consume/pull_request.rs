//! The fields of a pull, and of its answer.

use std::time::Duration;

use super::super::answer::Refusal;
use super::super::heartbeat::expression;
use super::super::request::{Request, check_names};
use crate::processor::Expression;
use crate::remoting::{RemotingCommand, response};

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

impl PullRequest {
    /// Reads the fields of a pull.
    pub(super) fn read(request: &Request) -> Result<Self, Refusal> {
        let (group, topic) = (request.text("consumerGroup")?, request.text("topic")?);
        let broker = request.broker().unwrap_or_default();
        check_names([group, topic, broker])?;
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
            broker: broker.to_owned(),
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
    let consumer = request.connection.consumer(group);
    let data = consumer.as_ref().and_then(|consumer| consumer.subscriptions.get(topic));
    data.map(|data| data.expression()).ok_or_else(|| {
        Refusal::new(response::SUBSCRIPTION_NOT_EXIST, "the consumer's subscription not exist")
    })
}

/// The answer to a pull without messages.
pub(super) fn nothing_new(next: i64, min: i64, max: i64) -> RemotingCommand {
    answer(response::PULL_NOT_FOUND, next, min, max)
}

/// An answer with the fields that clients expect with every code.
pub(super) fn answer(code: i32, next: i64, min: i64, max: i64) -> RemotingCommand {
    let remark = match code {
        response::SUCCESS => "FOUND",
        response::PULL_OFFSET_MOVED => "OFFSET_OVERFLOW_BADLY",
        response::PULL_RETRY_IMMEDIATELY => "NO_MATCHED_MESSAGE",
        _ => "NO_MESSAGE_IN_QUEUE",
    };
    RemotingCommand { remark: Some(remark.to_owned()), ..RemotingCommand::response(code) }
        .field("suggestWhichBrokerId", 0)
        .field("nextBeginOffset", next)
        .field("minOffset", min)
        .field("maxOffset", max)
}
