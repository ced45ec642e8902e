//! What is done now and then: uniffi calls. Each starts an operation and returns its id; `poll` gives the
//! outcome.

use std::time::Duration;

use rocketmq_thin_bridge::{Client, Operation, Producer, SimpleConsumer};

use crate::completions::Completions;
use crate::error::Refusal;
use crate::options::{ConnectOptions, ConsumeOptions, SendOptions};
use crate::registry::{CONSUMERS, DELIVERIES, PRODUCERS};

/// Connects a client.
#[uniffi::export]
pub(crate) fn connect(options: ConnectOptions) -> Result<i64, Refusal> {
    submit(Operation::Connect(options.into()))
}

fn submit(operation: Operation) -> Result<i64, Refusal> {
    Ok(Completions::get()?.submit(operation)?)
}

/// A connected client.
#[derive(uniffi::Object)]
pub(crate) struct NativeClient(pub(crate) Client);

#[uniffi::export]
impl NativeClient {
    /// Makes a producer.
    pub(crate) fn producer(&self, options: SendOptions) -> Result<i64, Refusal> {
        submit(Operation::Producer(self.0.clone(), options.into()))
    }

    /// Makes a simple consumer.
    pub(crate) fn simple_consumer(&self, options: ConsumeOptions) -> Result<i64, Refusal> {
        submit(Operation::SimpleConsumer(self.0.clone(), options.into()))
    }

    /// Closes the client.
    pub(crate) fn close_within(&self, deadline: Duration) -> Result<i64, Refusal> {
        submit(Operation::CloseClient(self.0.clone(), deadline))
    }
}

/// Keeps a producer alive, and in the registry for the C functions.
#[derive(uniffi::Object)]
pub(crate) struct NativeProducer {
    producer: Producer,
    key: i64,
}

#[uniffi::export]
impl NativeProducer {
    /// The number under which the C functions know it.
    pub(crate) fn key(&self) -> i64 {
        self.key
    }

    /// Closes the producer.
    pub(crate) fn close_within(&self, deadline: Duration) -> Result<i64, Refusal> {
        submit(Operation::CloseProducer(self.producer.clone(), deadline))
    }
}

impl NativeProducer {
    pub(crate) fn new(producer: Producer) -> Self {
        Self { key: PRODUCERS.insert(producer.clone()), producer }
    }
}

impl Drop for NativeProducer {
    fn drop(&mut self) {
        PRODUCERS.remove(self.key);
    }
}

/// Keeps a simple consumer alive, and in the registry for the C functions.
#[derive(uniffi::Object)]
pub(crate) struct NativeConsumer {
    consumer: SimpleConsumer,
    key: i64,
}

#[uniffi::export]
impl NativeConsumer {
    /// The number under which the C functions know it.
    pub(crate) fn key(&self) -> i64 {
        self.key
    }

    /// Closes the consumer.
    pub(crate) fn close_within(&self, deadline: Duration) -> Result<i64, Refusal> {
        submit(Operation::CloseConsumer(self.consumer.clone(), deadline))
    }
}

impl NativeConsumer {
    pub(crate) fn new(consumer: SimpleConsumer) -> Self {
        Self { key: CONSUMERS.insert(consumer.clone()), consumer }
    }
}

impl Drop for NativeConsumer {
    fn drop(&mut self) {
        CONSUMERS.remove(self.key);
    }
}

/// Keeps the deliveries of one receive in the registry. One object for all of them, because the JVM pays
/// for each that it has to watch.
#[derive(uniffi::Object)]
pub(crate) struct NativeLeases(pub(crate) Vec<i64>);

impl Drop for NativeLeases {
    fn drop(&mut self) {
        for key in &self.0 {
            DELIVERIES.remove(*key);
        }
    }
}
