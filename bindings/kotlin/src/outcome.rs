use std::sync::Arc;
use std::time::Duration;

use rocketmq_thin_bridge as core;

use crate::error::Failure;
use crate::message::IncomingMessage;
use crate::registry::{CLIENTS, CONSUMERS, DELIVERIES, Hold, PRODUCERS};

type SentMessage = core::Receipt;

/// What became of an operation.
#[derive(uniffi::Enum)]
pub(crate) enum Outcome {
    /// A client, producer or consumer: its key, and what keeps it alive.
    Made { key: i64, hold: Arc<Hold> },
    /// A message is stored.
    Sent { message: SentMessage },
    /// What became of each message.
    AllSent { results: Vec<SendResult> },
    /// What was received, and what keeps the deliveries alive.
    Received { messages: Vec<IncomingMessage>, hold: Arc<Hold> },
    /// It is done.
    Done,
    /// Why each delivery could not be settled, or nothing.
    AllSettled { failures: Vec<Option<Failure>> },
    /// It is closed.
    Closed { flushed: i64, abandoned: i64, elapsed: Duration },
    /// It failed.
    Failed { failure: Failure },
}

/// What became of one message of many.
#[derive(uniffi::Enum)]
pub(crate) enum SendResult {
    /// It is stored.
    Stored { message: SentMessage },
    /// It is not, as far as the client knows.
    Refused { failure: Failure },
}

impl From<core::Outcome> for Outcome {
    fn from(outcome: core::Outcome) -> Self {
        match outcome {
            core::Outcome::Client(client) => Self::made(CLIENTS.insert(client), |key| CLIENTS.remove(key)),
            core::Outcome::Producer(producer) => {
                Self::made(PRODUCERS.insert(producer), |key| PRODUCERS.remove(key))
            }
            core::Outcome::SimpleConsumer(consumer) => {
                Self::made(CONSUMERS.insert(consumer), |key| CONSUMERS.remove(key))
            }
            core::Outcome::Receipt(receipt) => Self::Sent { message: receipt },
            core::Outcome::Receipts(results) => {
                Self::AllSent { results: results.into_iter().map(Into::into).collect() }
            }
            core::Outcome::Deliveries(deliveries) => {
                let messages: Vec<_> = deliveries.take().into_iter().map(IncomingMessage::register).collect();
                let keys = messages.iter().map(|message| message.key).collect();
                Self::Received { messages, hold: Hold::new(keys, |key| DELIVERIES.remove(key)) }
            }
            core::Outcome::Done => Self::Done,
            core::Outcome::Settled(results) => Self::AllSettled {
                failures: results.into_iter().map(|result| result.err().map(Into::into)).collect(),
            },
            core::Outcome::Closed(report) => Self::Closed {
                flushed: report.flushed as i64,
                abandoned: report.abandoned as i64,
                elapsed: report.elapsed,
            },
            core::Outcome::Failed(error) => Self::Failed { failure: error.into() },
        }
    }
}

impl Outcome {
    fn made(key: i64, remove: fn(i64)) -> Self {
        Self::Made { key, hold: Hold::new(vec![key], remove) }
    }
}

impl From<Result<core::Receipt, core::Error>> for SendResult {
    fn from(result: Result<core::Receipt, core::Error>) -> Self {
        match result {
            Ok(receipt) => Self::Stored { message: receipt },
            Err(error) => Self::Refused { failure: error.into() },
        }
    }
}
