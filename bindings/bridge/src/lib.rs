//! The part that all language bindings of rocketmq-thin share.
//!
//! A binding converts its language's values, creates an [`Operation`] with a method of [`Client`],
//! [`Producer`] or [`SimpleConsumer`], submits it, and gets an [`Outcome`] back. The documentation of each
//! method names the outcome of a success after a colon.
//!
//! ```text
//! language thread                     the runtime thread of the process
//! ---------------                     --------------------------------
//! Queue::submit(operation) -> id ---> runs it on the core
//! (creates its own future for the id)
//! wake() <--------------------------- the first outcome after the queue was empty
//! Queue::drain(max) <---------------- many (id, outcome) at once
//! (resolves its futures)
//! ```
//!
//! Languages with threads may wait instead: [`start`] and [`RunningOperation::wait`].
//!
//! Neither side calls the other's code for each message: the wake-up only says that there are outcomes to
//! fetch, and one wake-up is enough for many of them.
//!
//! # Cancelling
//!
//! No outcome is lost when the caller stops waiting for it:
//!
//! - [`Queue::cancel`] stops an operation, or drops its outcome if it is already in the queue.
//! - Dropping a [`Queue`] or a [`RunningOperation`] cancels its operations. Drop the queue when the event loop ends.
//! - Dropping an [`Outcome`] releases the objects in it. Deliveries and tasks go back to their consumer, which
//!   hands them out next; new clients, producers and consumers are closed.
//!
//! The binding takes responsibility with [`Deliveries::take`] and [`Tasks::take`]. If it finds afterwards that
//! the future of the receive was cancelled, it calls [`SimpleConsumer::put_back`] with the deliveries, or
//! [`Task::put_back`].
//!
//! # Callbacks are pulled as well
//!
//! [`Logs`] holds the log records of the clients, and [`CredentialRequests`] the credential requests of a
//! client. Each has an operation that waits for the next record or request. The orphan checks of a producer
//! and the tasks of a push consumer work in the same way.
//!
//! # Forks
//!
//! After a `fork` the child has no runtime thread. It gets a runtime of its own with its first new object.
//! Inherited objects fail with an error of kind [`Closed`](ErrorKind::Closed) there.

mod client;
mod credentials;
mod deliveries;
mod lite;
mod logs;
mod operation;
mod outcome;
mod process;
mod process_bound;
mod producer;
mod push_consumer;
mod queue;
mod running_operation;
mod simple_consumer;
mod subscriptions;
mod tasks;
mod transaction;

pub use client::connect;
pub use credentials::CredentialRequests;
pub use deliveries::Deliveries;
pub use logs::{LogLevel, LogRecord, Logs};
pub use operation::Operation;
pub use outcome::{Outcome, causes};
pub use process::shutdown;
pub use process_bound::{
    Client, LiteRevocations, Messages, OrphanCheck, OrphanChecks, ProcessBound, Producer, PushConsumer,
    SimpleConsumer, StatusChanges, Task, Transaction,
};
pub use queue::Queue;
/// The core's values, so that a binding needs this crate alone.
pub use rocketmq_thin::{
    CLOSE_DEADLINE, ClientOptions, CloseReport, ConsumeResult, Credentials, DeadLetterOrigin, Decision,
    DecodeOptions, Delivery, EndpointHealth, Error, ErrorKind, Filter, Health, Histogram, Language, Message,
    Metric, MetricPoint, MetricValue, Metrics, ORPHAN_CHECK_TIMEOUT, OffsetOption, ProducerOptions,
    PushConsumerOptions, Receipt, ReceiveOptions, RetryOptions, SimpleConsumerOptions, Startup, Status,
    StreamOptions, Subscription, Tls,
};
pub use running_operation::{RunningOperation, run, start};
pub use tasks::Tasks;
