use std::time::Duration;

use rocketmq_thin::{
    ClientOptions, CloseReport, Delivery, Error, Message, ProducerOptions, Receipt, ReceiveOptions,
    SimpleConsumerOptions,
};

use crate::bound::{Bound, Client, Producer, SimpleConsumer};
use crate::process::Process;

/// Something to do, with all that it needs.
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
    /// Receives: [`Outcome::Deliveries`], empty when there was nothing.
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

/// What became of an [`Operation`].
pub enum Outcome {
    /// A connected client.
    Client(Client),
    /// A producer, ready to send.
    Producer(Producer),
    /// A simple consumer, ready to receive.
    SimpleConsumer(SimpleConsumer),
    /// One message is stored.
    Receipt(Receipt),
    /// What became of each message sent.
    Receipts(Vec<Result<Receipt, Error>>),
    /// What was received.
    Deliveries(Vec<Delivery>),
    /// It is done, and there is nothing to tell about it.
    Done,
    /// What became of each delivery acknowledged.
    Settled(Vec<Result<(), Error>>),
    /// It is closed.
    Closed(CloseReport),
    /// It failed.
    Failed(Error),
}

impl Operation {
    /// The operation's name, as it stands in errors.
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

    /// Carries it out on the runtime of `process`.
    pub(crate) async fn perform(self, process: &'static Process) -> Outcome {
        self.attempt(process).await.unwrap_or_else(Outcome::Failed)
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
                Outcome::Deliveries(consumer.on(process, name)?.receive(options).await?)
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
