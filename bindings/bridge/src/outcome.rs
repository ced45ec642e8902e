use rocketmq_thin::{CloseReport, Error, Health, Receipt};

use crate::bound::{Client, OrphanCheck, Producer, PushConsumer, SimpleConsumer, Task};
use crate::deliveries::Deliveries;

/// The result of an [`Operation`](crate::Operation).
///
/// An outcome may be dropped when nobody waits for it any more: deliveries go back to their consumer, tasks are
/// handed out again, and a client, producer or consumer is closed with its last clone.
pub enum Outcome {
    /// A connected client.
    Client(Client),
    /// A producer, ready to send.
    Producer(Producer),
    /// A simple consumer, ready to receive.
    SimpleConsumer(SimpleConsumer),
    /// A push consumer. It receives once tasks are asked for.
    PushConsumer(PushConsumer),
    /// The server stored the message.
    Receipt(Receipt),
    /// The result for each message sent.
    Receipts(Vec<Result<Receipt, Error>>),
    /// What was received.
    Deliveries(Deliveries),
    /// Messages to handle.
    Tasks(Vec<Task>),
    /// A question about an orphaned transaction.
    OrphanCheck(Box<OrphanCheck>),
    /// The present health.
    Health(Health),
    /// A text, such as a message id.
    Text(String),
    /// Success, without a value.
    Done,
    /// There are no more: the object that was asked for the next one is closed.
    End,
    /// The result for each delivery acknowledged.
    Settled(Vec<Result<(), Error>>),
    /// Closed within the deadline.
    Closed(CloseReport),
    /// The operation failed.
    Failed(Error),
}
