//! What every language binding of rocketmq-thin shares.
//!
//! A binding converts its language's values, makes an [`Operation`] with a method of [`Client`], [`Producer`] or
//! [`SimpleConsumer`], submits it, and gets an [`Outcome`] back:
//!
//! ```text
//! language thread                     the process's one runtime thread
//! ---------------                     --------------------------------
//! Queue::submit(operation) -> id ---> runs it on the core
//! (makes a future of its own for id)
//! wake() <--------------------------- the first outcome after the queue was empty
//! Queue::drain(max) <---------------- many (id, outcome) at once
//! (resolves its futures)
//! ```
//!
//! Languages with threads may wait instead: [`start`] and [`Call::wait`].
//!
//! Neither side calls the other's code for a message: the wake-up only says that there are outcomes to fetch,
//! and is made once for many of them.
//!
//! # Cancelling
//!
//! No outcome is lost when the caller that waited for it goes away:
//!
//! - [`Queue::cancel`] stops an operation, or drops its outcome if that is in the queue already.
//! - Dropping a [`Queue`] or a [`Call`] cancels its operations. Drop the queue when the event loop ends.
//! - Dropping an [`Outcome`] gives back what it holds. Deliveries go to the next receive of their consumer;
//!   new clients, producers and consumers are closed.
//!
//! The binding takes over with [`Deliveries::take`]. If the future of a receive turns out to be cancelled after
//! that, the binding calls [`SimpleConsumer::put_back`] with the deliveries.
//!
//! # What is pulled as well
//!
//! [`Logs`] are the reports of the clients, and [`CredentialRequests`] asks for the credentials of a client. Both have an
//! operation that waits until there is something to do, like the orphan checks of a producer and the tasks of a push
//! consumer.
//!
//! # Forks
//!
//! After a `fork` the child has no runtime thread. It gets a runtime of its own with its first new object.
//! Inherited objects fail with an error of kind [`Closed`](ErrorKind::Closed) there.

mod bound;
mod call;
mod client;
mod credentials;
mod deliveries;
mod lite;
mod logs;
mod operation;
mod outcome;
mod process;
mod producer;
mod push_consumer;
mod queue;
mod simple_consumer;
mod transaction;

pub use bound::{
    Bound, Client, LiteRevocations, Messages, OrphanCheck, OrphanChecks, Producer, PushConsumer,
    SimpleConsumer, StatusChanges, Task, Transaction,
};
pub use call::{Call, run, start};
pub use client::connect;
pub use credentials::CredentialRequests;
pub use deliveries::Deliveries;
pub use logs::{LogLevel, LogRecord, Logs};
pub use operation::Operation;
pub use outcome::Outcome;
pub use process::shutdown;
pub use queue::Queue;
/// The core's values, so that a binding needs this crate alone.
pub use rocketmq_thin::{
    CLOSE_DEADLINE, ClientOptions, CloseReport, ConsumeResult, Credentials, DeadLetterOrigin, Decision,
    DecodeOptions, Delivery, EndpointHealth, Error, ErrorKind, Filter, Health, Histogram, Language, Message,
    Metric, MetricPoint, MetricValue, Metrics, ORPHAN_CHECK_TIMEOUT, ProducerOptions, PushConsumerOptions,
    Receipt, ReceiveOptions, RetryOptions, SimpleConsumerOptions, Startup, Status, StreamOptions,
    Subscription, Tls,
};
