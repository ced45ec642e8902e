//! The results of operations, as a uniffi enum.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_thin_bridge as core;

use crate::error::Failure;
use crate::health::HealthReport;
use crate::logs::LogRecord;
use crate::message::{IncomingMessage, SentMessage};
use crate::metrics::MetricsReport;
use crate::registry::{CLIENTS, CONSUMERS, DELIVERIES, PRODUCERS, PUSH_CONSUMERS, RegistryGuard};
use crate::transaction::OrphanCheckRecord;

/// The result of an operation.
#[derive(uniffi::Enum)]
pub(crate) enum Outcome {
    /// A new object: its key in the registry, and the guard that keeps it there.
    Registered { key: i64, guard: Arc<RegistryGuard> },
    /// The receipt of a message.
    Sent { message: SentMessage },
    /// The result of each send.
    AllSent { results: Vec<SendResult> },
    /// The received messages, and the guard that keeps their deliveries in the registry. The guard is decoded
    /// first: if there is not enough memory for the messages, it is collected.
    Received { guard: Arc<RegistryGuard>, messages: Vec<IncomingMessage> },
    /// Messages for the handler: the key of their tasks in the registry, and the guard that keeps the tasks
    /// there.
    Tasks { guard: Arc<RegistryGuard>, key: i64, messages: Vec<IncomingMessage> },
    /// A request of the server for the decision on an orphaned transaction.
    OrphanCheck { check: OrphanCheckRecord },
    /// The health of a client.
    Health { health: HealthReport },
    /// The metrics of a client.
    Metrics { metrics: MetricsReport },
    /// Log records of the clients.
    LogRecords { records: Vec<LogRecord> },
    /// A text, such as a message id.
    Text { text: String },
    /// Success, without a value.
    Done,
    /// There is no next item: the object that the items come from is closed.
    End,
    /// For each delivery the failure, or `None` if it was settled.
    AllSettled { failures: Vec<Option<Failure>> },
    /// The report of a close.
    Closed { flushed: i64, abandoned: i64, handled: i64, given_back: i64, elapsed: Duration },
    /// The operation failed.
    Failed { failure: Failure },
}

/// The result of one of several sends.
#[derive(uniffi::Enum)]
pub(crate) enum SendResult {
    /// The server stored the message.
    Stored { message: SentMessage },
    /// The send failed.
    Failed { failure: Failure },
}

impl From<core::Outcome> for Outcome {
    fn from(outcome: core::Outcome) -> Self {
        match outcome {
            core::Outcome::Client(client) => {
                Self::registered(CLIENTS.insert(client), |key| CLIENTS.remove(key))
            }
            core::Outcome::Producer(producer) => {
                Self::registered(PRODUCERS.insert(producer), |key| PRODUCERS.remove(key))
            }
            core::Outcome::SimpleConsumer(consumer) => Self::registered(CONSUMERS.insert(consumer), |key| {
                CONSUMERS.take(key).iter().for_each(core::SimpleConsumer::abandon);
            }),
            core::Outcome::PushConsumer(consumer) => {
                Self::registered(PUSH_CONSUMERS.insert(consumer), |key| {
                    PUSH_CONSUMERS.take(key).iter().for_each(core::PushConsumer::abandon_unexpectedly);
                })
            }
            core::Outcome::Receipt(receipt) => Self::Sent { message: receipt.into() },
            core::Outcome::Receipts(results) => {
                Self::AllSent { results: results.into_iter().map(Into::into).collect() }
            }
            core::Outcome::Deliveries(deliveries) => {
                let messages: Vec<_> = deliveries.take().into_iter().map(IncomingMessage::register).collect();
                let keys = messages.iter().map(|message| message.key).collect();
                Self::Received { messages, guard: RegistryGuard::new(keys, |key| DELIVERIES.remove(key)) }
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
                OrphanCheckRecord::register(*check).map_or(Self::End, |check| Self::OrphanCheck { check })
            }
            core::Outcome::Health(health) => Self::Health { health: health.into() },
            core::Outcome::End => Self::End,
            core::Outcome::Tasks(tasks) => Self::tasks(tasks.take()),
        }
    }
}

impl Outcome {
    /// Converts the result of a function that does not wait. `result` is `None` if an object does not exist.
    pub(crate) fn from_result<T>(
        result: Option<Result<T, core::Error>>,
        convert: impl FnOnce(T) -> Self,
    ) -> Self {
        match result {
            Some(Ok(value)) => convert(value),
            Some(Err(error)) => Self::Failed { failure: error.into() },
            None => {
                let message = "the object does not exist in the native library";
                Self::Failed { failure: core::Error::new(core::ErrorKind::Internal, "call", message).into() }
            }
        }
    }

    /// Returns the outcome for an object that was inserted into a registry. `remove` removes it from there.
    pub(crate) fn registered(key: i64, remove: fn(i64)) -> Self {
        Self::Registered { key, guard: RegistryGuard::new(vec![key], remove) }
    }
}

impl From<Result<core::Receipt, core::Error>> for SendResult {
    fn from(result: Result<core::Receipt, core::Error>) -> Self {
        match result {
            Ok(receipt) => Self::Stored { message: receipt.into() },
            Err(error) => Self::Failed { failure: error.into() },
        }
    }
}
