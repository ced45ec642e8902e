use std::sync::Arc;
use std::time::Duration;

use rocketmq_thin_bridge as core;

use crate::error::Failure;
use crate::health::{HealthReport, MetricsReport};
use crate::logs::LogRecord;
use crate::message::{IncomingMessage, SentMessage};
use crate::registry::{CLIENTS, CONSUMERS, DELIVERIES, Hold, PRODUCERS, PUSH_CONSUMERS};
use crate::transaction::Question;

/// The result of an operation.
#[derive(uniffi::Enum)]
pub(crate) enum Outcome {
    /// An object: its key in the registry, and what keeps it there.
    Made { key: i64, hold: Arc<Hold> },
    /// The server stored the message.
    Sent { message: SentMessage },
    /// The result for each message.
    AllSent { results: Vec<SendResult> },
    /// The received messages, and what keeps them in the registry. That comes first: if there is not enough memory for the
    /// rest, it is collected.
    Received { hold: Arc<Hold>, messages: Vec<IncomingMessage> },
    /// Messages to handle: the key of their tasks in the registry, and what keeps all of them there.
    Tasks { hold: Arc<Hold>, key: i64, messages: Vec<IncomingMessage> },
    /// A question about a transaction that was not decided.
    OrphanCheck { question: Question },
    /// The health of a client.
    Health { health: HealthReport },
    /// What a client has counted.
    Metrics { metrics: MetricsReport },
    /// What clients have reported.
    Logged { records: Vec<LogRecord> },
    /// A text, such as a message id.
    Text { text: String },
    /// Success, without a value.
    Done,
    /// Nothing more will come, because its source is closed.
    End,
    /// For each delivery its failure, or `None` if it was settled.
    AllSettled { failures: Vec<Option<Failure>> },
    /// Closed within the deadline.
    Closed { flushed: i64, abandoned: i64, handled: i64, given_back: i64, elapsed: Duration },
    /// The operation failed.
    Failed { failure: Failure },
}

/// The result for one of several messages.
#[derive(uniffi::Enum)]
pub(crate) enum SendResult {
    /// The server stored it.
    Stored { message: SentMessage },
    /// The send failed.
    Refused { failure: Failure },
}

impl From<core::Outcome> for Outcome {
    fn from(outcome: core::Outcome) -> Self {
        match outcome {
            core::Outcome::Client(client) => Self::made(CLIENTS.insert(client), |key| CLIENTS.remove(key)),
            core::Outcome::Producer(producer) => {
                Self::made(PRODUCERS.insert(producer), |key| PRODUCERS.remove(key))
            }
            core::Outcome::SimpleConsumer(consumer) => Self::made(CONSUMERS.insert(consumer), |key| {
                CONSUMERS.take(key).iter().for_each(core::SimpleConsumer::abandon);
            }),
            core::Outcome::PushConsumer(consumer) => Self::made(PUSH_CONSUMERS.insert(consumer), |key| {
                PUSH_CONSUMERS.take(key).iter().for_each(core::PushConsumer::abandon);
            }),
            core::Outcome::Receipt(receipt) => Self::Sent { message: receipt.into() },
            core::Outcome::Receipts(results) => {
                Self::AllSent { results: results.into_iter().map(Into::into).collect() }
            }
            core::Outcome::Deliveries(deliveries) => {
                let messages: Vec<_> = deliveries.take().into_iter().map(IncomingMessage::register).collect();
                let keys = messages.iter().map(|message| message.key).collect();
                Self::Received { messages, hold: Hold::new(keys, |key| DELIVERIES.remove(key)) }
            }
            core::Outcome::Text(text) => Self::Text { text },
            core::Outcome::Done => Self::Done,
            core::Outcome::Settled(results) => Self::AllSettled {
                failures: results.into_iter().map(|result| result.err().map(Into::into)).collect(),
            },
            core::Outcome::Closed(report) => Self::Closed {
                flushed: report.flushed as i64,
                abandoned: report.abandoned as i64,
                handled: report.handled as i64,
                given_back: report.given_back as i64,
                elapsed: report.elapsed,
            },
            core::Outcome::Failed(error) => Self::Failed { failure: error.into() },
            core::Outcome::OrphanCheck(check) => {
                Question::register(*check).map_or(Self::End, |question| Self::OrphanCheck { question })
            }
            core::Outcome::Health(health) => Self::Health { health: health.into() },
            core::Outcome::End => Self::End,
            core::Outcome::Tasks(tasks) => Self::tasks(tasks),
        }
    }
}

impl Outcome {
    /// The outcome of a call that does not wait. `result` is `None` if an object that it needs does not exist.
    pub(crate) fn answer<T>(result: Option<Result<T, core::Error>>, convert: impl FnOnce(T) -> Self) -> Self {
        match result {
            Some(Ok(value)) => convert(value),
            Some(Err(error)) => Self::Failed { failure: error.into() },
            None => {
                let message = "the object does not exist in the native library";
                Self::Failed { failure: core::Error::new(core::ErrorKind::Internal, "call", message).into() }
            }
        }
    }

    pub(crate) fn made(key: i64, remove: fn(i64)) -> Self {
        Self::Made { key, hold: Hold::new(vec![key], remove) }
    }
}

impl From<Result<core::Receipt, core::Error>> for SendResult {
    fn from(result: Result<core::Receipt, core::Error>) -> Self {
        match result {
            Ok(receipt) => Self::Stored { message: receipt.into() },
            Err(error) => Self::Refused { failure: error.into() },
        }
    }
}
