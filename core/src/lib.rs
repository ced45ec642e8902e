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
//!         // Not now: it comes again in a minute.
//!         consumer.change_invisible(&delivery, Duration::from_secs(60)).await?;
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
//! # What it takes care of
//!
//! - **Connections.** One HTTP/2 connection per address, shared by all producers and consumers of a
//!   [`Client`]. If long polls need more streams than the server allows on one, further connections are opened;
//!   the `Debug` output of a client says how many there are. A connection on which the server stopped answering
//!   is replaced, and a server that is restarted is found again.
//! - **Failures.** What may pass by itself is repeated, with growing pauses, until
//!   [`ClientOptions::operation_timeout`]. Everything else is an [`Error`] at once, which says what happened
//!   ([`Error::kind`], [`Error::code`]), whether to try again ([`Error::retryable`]), and whether it may have
//!   happened all the same ([`Error::maybe_delivered`]).
//! - **Throughput.** Sends and acks that run at the same time travel together, with a result for each and
//!   without waiting for one another. What is under way is bounded, in messages and in bytes.
//! - **Leases.** A [`Delivery`] is hidden from others until its invisible time is over. The handle that
//!   settles it lives inside; after a change every clone uses the new one.
//! - **The end.** `close` waits for what is under way, up to a deadline, and tells the servers. Dropping
//!   everything instead ends all work at once.
//!
//! # What it leaves to you
//!
//! Every function runs on the caller's tokio runtime. The crate starts no runtime, reads no environment,
//! installs no logger and writes no files; its spans and events go to [`tracing`].
//!
//! Delivery is at least once: a send whose answer was lost is repeated, and a message whose ack was lost comes
//! again. [`Delivery::message_id`] stays the same both times.

mod client;
mod consumer;
mod error;
mod member;
mod message;
mod options;
mod producer;
mod route;
mod rpc;
mod session;
mod wire;

pub use client::Client;
pub use consumer::SimpleConsumer;
pub use error::{Error, ErrorKind, Result};
pub use message::{CloseReport, Delivery, Message, Receipt};
pub use options::{
    CLOSE_DEADLINE, ClientOptions, Credentials, DecodeOptions, Filter, Language, ProducerOptions,
    ReceiveOptions, RetryOptions, SimpleConsumerOptions, Subscription, Tls,
};
pub use producer::Producer;
