use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use rocketmq_thin::{
    ClientOptions, CloseReport, Delivery, Error, ErrorKind, Message, ProducerOptions, Receipt,
    ReceiveOptions, SimpleConsumerOptions,
};

use crate::bound::{Bound, Client, Producer, SimpleConsumer};
use crate::deliveries::Deliveries;
use crate::process::Process;

/// A call of the client with its arguments.
pub enum Operation {
    /// Connects a client: [`Outcome::Client`].
    Connect(ClientOptions),
    /// Makes a producer: [`Outcome::Producer`].
    Producer(Client, ProducerOptions),
    /// Makes a simple consumer: [`Outcome::SimpleConsumer`].
    SimpleConsumer(Client, SimpleConsumerOptions),
    /// Sends one message: [`Outcome::Receipt`].
    Send(Producer, Message),
    /// Sends many: [`Outcome::Receipts`], in the order given.
    SendAll(Producer, Vec<Message>),
    /// Receives: [`Outcome::Deliveries`], empty if nothing arrived in time.
    Receive(SimpleConsumer, ReceiveOptions),
    /// Acknowledges one delivery: [`Outcome::Done`].
    Ack(SimpleConsumer, Delivery),
    /// Acknowledges many: [`Outcome::Settled`], in the order given.
    AckAll(SimpleConsumer, Vec<Delivery>),
    /// Sets how long from now a delivery stays invisible: [`Outcome::Done`].
    ChangeInvisible(SimpleConsumer, Delivery, Duration),
    /// Closes a client within the deadline: [`Outcome::Closed`].
    CloseClient(Client, Duration),
    /// Closes a producer within the deadline: [`Outcome::Closed`].
    CloseProducer(Producer, Duration),
    /// Closes a simple consumer within the deadline: [`Outcome::Closed`].
    CloseConsumer(SimpleConsumer, Duration),
}

/// The result of an [`Operation`].
///
/// An outcome may be dropped when nobody waits for it any more: deliveries go back to their consumer, and a
/// client, producer or consumer is closed with its last clone.
pub enum Outcome {
    /// A connected client.
    Client(Client),
    /// A producer, ready to send.
    Producer(Producer),
    /// A simple consumer, ready to receive.
    SimpleConsumer(SimpleConsumer),
    /// The server stored the message.
    Receipt(Receipt),
    /// The result for each message sent.
    Receipts(Vec<Result<Receipt, Error>>),
    /// What was received.
    Deliveries(Deliveries),
    /// Success, without a value.
    Done,
    /// The result for each delivery acknowledged.
    Settled(Vec<Result<(), Error>>),
    /// Closed within the deadline.
    Closed(CloseReport),
    /// The operation failed.
    Failed(Error),
}

impl Operation {
    /// The operation's name in errors.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Connect(..) => "connect",
            Self::Producer(..) => "producer",
            Self::SimpleConsumer(..) => "simple_consumer",
            Self::Send(..) | Self::SendAll(..) => "send",
            Self::Receive(..) => "receive",
            Self::Ack(..) | Self::AckAll(..) => "ack",
            Self::ChangeInvisible(..) => "change_invisible",
            Self::CloseClient(..) | Self::CloseProducer(..) | Self::CloseConsumer(..) => "close",
        }
    }

    /// Runs the operation on the runtime of `process`.
    pub(crate) async fn perform(self, process: &'static Process) -> Outcome {
        let name = self.name();
        catch_panic(name, self.attempt(process)).await.unwrap_or_else(Outcome::Failed)
    }

    async fn attempt(self, process: &'static Process) -> Result<Outcome, Error> {
        let name = self.name();
        Ok(match self {
            Self::Connect(options) => {
                Outcome::Client(Bound::new(rocketmq_thin::Client::connect(options).await?, process))
            }
            Self::Producer(client, options) => {
                Outcome::Producer(Bound::new(client.on(process, name)?.producer(options).await?, process))
            }
            Self::SimpleConsumer(client, options) => {
                let consumer = client.on(process, name)?.simple_consumer(options).await?;
                Outcome::SimpleConsumer(Bound::new(consumer, process))
            }
            Self::Send(producer, message) => {
                Outcome::Receipt(producer.on(process, name)?.send(message).await?)
            }
            Self::SendAll(producer, messages) => {
                Outcome::Receipts(producer.on(process, name)?.send_all(messages).await)
            }
            Self::Receive(consumer, options) => {
                let deliveries = consumer.on(process, name)?.receive(options).await?;
                Outcome::Deliveries(Deliveries::new(consumer, deliveries))
            }
            Self::Ack(consumer, delivery) => {
                consumer.on(process, name)?.ack(&delivery).await?;
                Outcome::Done
            }
            Self::AckAll(consumer, deliveries) => {
                Outcome::Settled(consumer.on(process, name)?.ack_all(&deliveries).await)
            }
            Self::ChangeInvisible(consumer, delivery, duration) => {
                consumer.on(process, name)?.change_invisible(&delivery, duration).await?;
                Outcome::Done
            }
            Self::CloseClient(client, deadline) => {
                Outcome::Closed(client.on(process, name)?.close(deadline).await)
            }
            Self::CloseProducer(producer, deadline) => {
                Outcome::Closed(producer.on(process, name)?.close(deadline).await)
            }
            Self::CloseConsumer(consumer, deadline) => {
                Outcome::Closed(consumer.on(process, name)?.close(deadline).await)
            }
        })
    }
}

/// Turns a panic of `work` into an error of kind `Internal`.
async fn catch_panic<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    // Nothing that `work` owns is used after a panic.
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        let message = format!("the client panicked, please report this: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::Internal, operation, message))
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&'static str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown reason")
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_panic_becomes_an_internal_error_with_its_message() {
        let literal = catch_panic::<()>("send", async { panic!("index out of bounds") });
        let error = block_on(literal).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Internal, "send"));
        assert!(error.message().ends_with(": index out of bounds"), "{error}");

        let formatted = catch_panic::<()>("ack", async { panic!("{} of {}", 3, 2) });
        assert!(block_on(formatted).unwrap_err().message().ends_with(": 3 of 2"));
    }
}
