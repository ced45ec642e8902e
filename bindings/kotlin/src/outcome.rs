use std::sync::Arc;
use std::time::Duration;

use rocketmq_thin_bridge as core;

use crate::control::{NativeClient, NativeConsumer, NativeLeases, NativeProducer};
use crate::error::Failure;
use crate::message::{IncomingMessage, SentMessage};

/// What one `poll` brings.
#[derive(uniffi::Record)]
pub(crate) struct Batch {
    completions: Vec<Completion>,
}

/// An operation by its id, and what became of it.
#[derive(uniffi::Record)]
pub(crate) struct Completion {
    operation: i64,
    outcome: Outcome,
}

/// What became of an operation.
#[derive(uniffi::Enum)]
pub(crate) enum Outcome {
    /// A connected client.
    Connected { client: Arc<NativeClient> },
    /// A producer, ready to send.
    Producing { producer: Arc<NativeProducer> },
    /// A simple consumer, ready to receive.
    Consuming { consumer: Arc<NativeConsumer> },
    /// A message is stored.
    Sent { message: SentMessage },
    /// What became of each message.
    AllSent { results: Vec<SendResult> },
    /// What was received, and the object that keeps the deliveries.
    Received { messages: Vec<IncomingMessage>, leases: Arc<NativeLeases> },
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

impl From<Vec<(u64, core::Outcome)>> for Batch {
    fn from(outcomes: Vec<(u64, core::Outcome)>) -> Self {
        let completion = |(id, outcome): (u64, core::Outcome)| Completion {
            operation: id as i64,
            outcome: outcome.into(),
        };
        Self { completions: outcomes.into_iter().map(completion).collect() }
    }
}

impl From<core::Outcome> for Outcome {
    fn from(outcome: core::Outcome) -> Self {
        match outcome {
            core::Outcome::Client(client) => Self::Connected { client: Arc::new(NativeClient(client)) },
            core::Outcome::Producer(producer) => {
                Self::Producing { producer: Arc::new(NativeProducer::new(producer)) }
            }
            core::Outcome::SimpleConsumer(consumer) => {
                Self::Consuming { consumer: Arc::new(NativeConsumer::new(consumer)) }
            }
            core::Outcome::Receipt(receipt) => Self::Sent { message: receipt.into() },
            core::Outcome::Receipts(results) => {
                Self::AllSent { results: results.into_iter().map(Into::into).collect() }
            }
            core::Outcome::Deliveries(deliveries) => {
                let messages: Vec<_> = deliveries.into_iter().map(IncomingMessage::register).collect();
                let leases = NativeLeases(messages.iter().map(|message| message.key).collect());
                Self::Received { messages, leases: Arc::new(leases) }
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

impl From<Result<core::Receipt, core::Error>> for SendResult {
    fn from(result: Result<core::Receipt, core::Error>) -> Self {
        match result {
            Ok(receipt) => Self::Stored { message: receipt.into() },
            Err(error) => Self::Refused { failure: error.into() },
        }
    }
}
