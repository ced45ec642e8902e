use std::time::Duration;

use rocketmq_thin::{ClientOptions, Error, ProducerOptions, PushConsumerOptions, SimpleConsumerOptions};

use crate::bound::{Bound, Client};
use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::Process;

/// Connects a client: [`Outcome::Client`].
///
/// # Errors
///
/// `Unavailable` if the process cannot start a thread.
pub fn connect(options: ClientOptions) -> Result<Operation, Error> {
    let process = Process::current()?;
    Ok(Operation::new("connect", process, async move {
        let client = rocketmq_thin::Client::connect(options).await?;
        Ok(Outcome::Client(Bound::new(client, process)))
    }))
}

impl Client {
    /// Makes a producer: [`Outcome::Producer`].
    pub fn producer(&self, options: ProducerOptions) -> Operation {
        let process = self.process();
        self.operation("producer", |client| async move {
            Ok(Outcome::Producer(Bound::new(client.producer(options).await?, process)))
        })
    }

    /// Makes a simple consumer: [`Outcome::SimpleConsumer`].
    pub fn simple_consumer(&self, options: SimpleConsumerOptions) -> Operation {
        let process = self.process();
        self.operation("simple_consumer", |client| async move {
            Ok(Outcome::SimpleConsumer(Bound::new(client.simple_consumer(options).await?, process)))
        })
    }

    /// Makes a push consumer: [`Outcome::PushConsumer`].
    pub fn push_consumer(&self, options: PushConsumerOptions) -> Operation {
        let process = self.process();
        self.operation("push_consumer", |client| async move {
            Ok(Outcome::PushConsumer(Bound::new(client.push_consumer(options).await?, process)))
        })
    }

    /// Closes it within the deadline: [`Outcome::Closed`].
    pub fn close(&self, deadline: Duration) -> Operation {
        self.operation("close", |client| async move { Ok(Outcome::Closed(client.close(deadline).await)) })
    }
}
