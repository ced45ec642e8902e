//! The results of operations.

use std::error::Error as _;

use rocketmq_thin::{CloseReport, Error, Health, Receipt};

use crate::deliveries::Deliveries;
use crate::process_bound::{Client, OrphanCheck, Producer, PushConsumer, SimpleConsumer};
use crate::tasks::Tasks;

/// The result of an [`Operation`](crate::Operation).
///
/// An outcome may be dropped if the language no longer waits for it: its deliveries and tasks go back to their
/// consumer, which hands them out again, and a client, producer or consumer is closed when its last clone is
/// dropped.
pub enum Outcome {
    /// A connected client.
    Client(Client),
    /// A producer, ready to send.
    Producer(Producer),
    /// A simple consumer, ready to receive.
    SimpleConsumer(SimpleConsumer),
    /// A push consumer. It starts to receive with the first call of [`PushConsumer::next_tasks`].
    PushConsumer(PushConsumer),
    /// The receipt of a message that the server stored.
    Receipt(Receipt),
    /// The result of each send.
    Receipts(Vec<Result<Receipt, Error>>),
    /// The received messages.
    Deliveries(Deliveries),
    /// Messages to handle.
    Tasks(Tasks),
    /// A request of the server for the decision on an orphaned transaction.
    OrphanCheck(Box<OrphanCheck>),
    /// The current health.
    Health(Health),
    /// The id of a recalled message, or the name of a lite topic whose subscription was revoked.
    Text(String),
    /// Success, without a value.
    Done,
    /// There is no next item: the object that the items come from is closed.
    End,
    /// The result of each acknowledgement.
    Settled(Vec<Result<(), Error>>),
    /// The report of a close.
    Closed(CloseReport),
    /// The operation failed.
    Failed(Error),
}

/// Returns the messages of the error's sources, outermost first.
pub fn causes(error: &Error) -> impl Iterator<Item = String> {
    std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string)
}
