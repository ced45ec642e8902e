//! The operations of a client.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_thin::{
    ClientOptions, Error, Health, Metrics, ProducerOptions, PushConsumerOptions, SimpleConsumerOptions,
};
use tokio::sync::Mutex;

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::Process;
use crate::process_bound::{Client, ProcessBound, StatusChanges};

/// Connects a client. The outcome is [`Outcome::Client`].
///
/// # Errors
///
/// `Unavailable` if the process cannot start a thread.
pub fn connect(options: ClientOptions) -> Result<Operation, Error> {
    let process = Process::current()?;
    Ok(Operation::new("connect", process, async move {
        let client = rocketmq_thin::Client::connect(options).await?;
        Ok(Outcome::Client(ProcessBound::new(client, process)))
    }))
}

impl Client {
    /// Creates a producer. The outcome is [`Outcome::Producer`].
    pub fn producer(&self, options: ProducerOptions) -> Operation {
        let process = self.process();
        self.operation("producer", |client| async move {
            Ok(Outcome::Producer(ProcessBound::new(client.producer(options).await?, process)))
        })
    }

    /// Creates a simple consumer. The outcome is [`Outcome::SimpleConsumer`].
    pub fn simple_consumer(&self, options: SimpleConsumerOptions) -> Operation {
        let process = self.process();
        self.operation("simple_consumer", |client| async move {
            Ok(Outcome::SimpleConsumer(ProcessBound::new(client.simple_consumer(options).await?, process)))
        })
    }

    /// Creates a push consumer. The outcome is [`Outcome::PushConsumer`].
    pub fn push_consumer(&self, options: PushConsumerOptions) -> Operation {
        let process = self.process();
        self.operation("push_consumer", |client| async move {
            Ok(Outcome::PushConsumer(ProcessBound::new(client.push_consumer(options).await?, process)))
        })
    }

    /// Returns the client's health: whether it can reach its servers.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child, as for all functions of this crate that do not return an operation.
    pub fn health(&self) -> Result<Health, Error> {
        self.call("health", rocketmq_thin::Client::health)
    }

    /// Subscribes to the client's status changes. The first item is the current status.
    ///
    /// # Errors
    ///
    /// As for [`health`](Self::health).
    pub fn status_changes(&self) -> Result<StatusChanges, Error> {
        let changes = self.call("status_changes", rocketmq_thin::Client::status_changes)?;
        Ok(ProcessBound::new(Arc::new(Mutex::new(changes)), self.process()))
    }

    /// Returns all metrics of the client.
    ///
    /// # Errors
    ///
    /// As for [`health`](Self::health).
    pub fn metrics(&self) -> Result<Metrics, Error> {
        self.call("metrics", rocketmq_thin::Client::metrics)
    }

    /// Closes the client within the deadline. The outcome is [`Outcome::Closed`].
    pub fn close(&self, deadline: Duration) -> Operation {
        self.operation("close", |client| async move { Ok(Outcome::Closed(client.close(deadline).await)) })
    }
}

impl StatusChanges {
    /// Waits for the next status: [`Outcome::Health`]; [`Outcome::End`] once the client is closed.
    pub fn next(&self) -> Operation {
        self.operation("status_changes", |changes| async move {
            Ok(changes.lock().await.next().await.map_or(Outcome::End, Outcome::Health))
        })
    }
}
