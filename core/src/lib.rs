//! A thin client of the RocketMQ 5 proxy, Apache's or any other that speaks `apache.rocketmq.v2`: send,
//! receive, ack, change the invisible time.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use rocketmq_thin::{
//!     Client, ClientOptions, Message, ProducerOptions, ReceiveOptions, SimpleConsumerOptions,
//! };
//!
//! # async fn run() -> rocketmq_thin::Result<()> {
//! let client = Client::connect(ClientOptions::new("127.0.0.1:8081")).await?;
//!
//! let producer = client.producer(ProducerOptions::new(["orders"])).await?;
//! let receipt = producer.send(Message::new("orders", "two coffees").tag("new").key("42")).await?;
//! println!("stored as {}", receipt.message_id);
//!
//! let consumer = client.simple_consumer(SimpleConsumerOptions::new("billing", ["orders"])).await?;
//! for delivery in consumer.receive(ReceiveOptions::default()).await? {
//!     if delivery.corrupted {
//!         // The message is delivered again in a minute.
//!         consumer.nack(&delivery, Duration::from_secs(60)).await?;
//!     } else {
//!         println!("{:?}", delivery.body);
//!         consumer.ack(&delivery).await?;
//!     }
//! }
//!
//! client.close(Duration::from_secs(20)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does
//!
//! - **Connections.** All producers and consumers of a [`Client`] share its HTTP/2 connections. There is one per
//!   address, and more if long polls need more streams than the server allows on one connection; the `Debug` output of
//!   a client shows their number. A connection on which the server has stopped answering is replaced.
//! - **Failures.** Temporary failures are retried, with growing pauses, until
//!   [`ClientOptions::operation_timeout`]. Other failures are returned at once. An [`Error`] says what happened
//!   ([`Error::kind`], [`Error::code`]), whether to try again ([`Error::retryable`]), and whether the server may
//!   have carried out the request ([`Error::maybe_delivered`]).
//! - **Messages** of every type: NORMAL, FIFO, DELAY, PRIORITY, LITE, and those of a [`Transaction`]. See [`Message`].
//!   A DELAY message can be recalled before its delivery ([`Producer::recall`]).
//! - **Throughput.** Sends and acks that run at the same time may share a request; each has its own result. The
//!   number and size of messages in flight are bounded.
//! - **Fetching ahead.** [`SimpleConsumer::messages`] is a stream that fetches messages ahead of the application, within
//!   limits of messages and bytes. When it is dropped, it gives back the deliveries that the application has not taken.
//! - **Handlers.** A [`PushConsumer`] calls a handler for each message, many at a time, and settles the message by the
//!   handler's [`ConsumeResult`].
//! - **Leases.** A [`Delivery`] is hidden from other consumers until its invisible time is over. It holds the receipt
//!   handle; after a change of the invisible time every clone uses the new handle. [`SimpleConsumer::keep_lease`] keeps
//!   the delivery hidden while the application works on it.
//! - **Starting.** [`Client::connect`] fails with the cause if no server can be reached: within a second if nothing
//!   listens at the address. [`Startup`] makes it wait for a server that has not started yet, or not wait at all.
//! - **Health.** [`Client::health`] says whether the servers can be reached and what is wrong.
//!   [`Client::status_changes`] yields each change.
//! - **Security.** [`Tls`] and [`Credentials`]. A [`CredentialsProvider`] is asked for new credentials before they
//!   expire and after a server has refused them. No secret appears in `Debug` output, errors, spans or events.
//! - **Closing.** `close` waits for calls in flight, up to a deadline, and notifies the servers. Dropping a producer or
//!   consumer without `close` ends its work at once.
//!
//! # What it leaves to you
//!
//! Every function runs on the caller's tokio runtime. The crate starts no runtime, reads no environment variables,
//! installs no logger and writes no files. Its spans and events go to [`tracing`].
//!
//! Delivery is at least once: a send is repeated if its response was lost, and a message is delivered again if its ack
//! was lost. Its [`Delivery::message_id`] is the same each time.
//!
//! # Events
//!
//! While everything works, nothing is logged at `info` or above. No event contains a body, a property, or a secret.
//!
//! | level | when |
//! |---|---|
//! | `error` | a handler panicked, or the client itself did |
//! | `warn` | a server can't be reached, or a connection is replaced because it stopped answering; a topic can't be received from; a lease is lost; a message could not be settled; a transaction was dropped undecided, or a checker failed; a server asks about a transaction, and the producer has no checker; a push consumer was dropped while it received; a lite subscription was revoked; credentials could not be renewed; an interceptor panicked; certificates are not verified |
//! | `info` | a server answers again, a topic is received from again |
//! | `debug` | each failure that the client handles itself: retries, heartbeats, telemetry streams, renewals of leases; connections that open and end; exports of metrics that begin, end or fail |
//!
//! Each request runs in a span `rpc` (`debug`) with `operation`, `endpoint`, and, except for receives, `request_id`, by
//! which it can be found in a server's logs. Events have fields, such as `error`, `endpoint`, `topic` and `message_id`.

mod client;
mod client_base;
mod consumer;
mod error;
mod health;
mod interceptor;
mod lite;
mod message;
mod metrics;
mod options;
mod producer;
mod push_consumer;
mod route;
mod rpc;
mod session;
mod simple_consumer;
mod trace;
mod wire;

/// Compiles the examples of the project's README and of this crate's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../README.md")]
struct Readme;

pub use client::{Client, StatusChanges};
pub use error::{Error, ErrorKind, Result};
pub use health::{EndpointHealth, Health, Status};
pub use interceptor::{Interceptor, ReceiveInfo, SettleInfo, Settlement};
pub use lite::LiteRevocations;
pub use message::{CloseReport, DeadLetterOrigin, Delivery, Message, Receipt};
pub use metrics::{Histogram, Metric, MetricPoint, MetricValue, Metrics};
pub use options::{
    CLOSE_DEADLINE, ClientOptions, Credentials, CredentialsProvider, DecodeOptions, Filter, Language,
    ORPHAN_CHECK_TIMEOUT, OffsetOption, ProducerOptions, PushConsumerOptions, ReceiveOptions, RetryOptions,
    SimpleConsumerOptions, Startup, StreamOptions, Subscription, Tls,
};
pub use producer::{Decision, OrphanCheck, OrphanChecks, Producer, Transaction};
pub use push_consumer::{ConsumeResult, PushConsumer, Task};
pub use simple_consumer::{Messages, SimpleConsumer};
