//! The uniffi functions, for what is called rarely. Each starts an operation and returns its id, or 0 if the
//! object does not exist. `poll` returns the outcome.

use std::time::Duration;

use rocketmq_thin_bridge::{self as bridge, CLOSE_DEADLINE};

use crate::completions::{self, Completions};
use crate::error::Failure;
use crate::options::{ConnectOptions, SendOptions};
use crate::registry::{CLIENTS, PRODUCERS};

/// Starts the client's runtime if it is not running, which everything else requires. Returns the error if it
/// cannot start.
#[uniffi::export]
pub(crate) fn start() -> Option<Failure> {
    Completions::get().err().map(Into::into)
}

/// Connects a client.
#[uniffi::export]
pub(crate) fn connect(options: ConnectOptions) -> i64 {
    completions::submit(|| bridge::connect(options.into()).ok())
}

/// Creates a producer.
#[uniffi::export]
pub(crate) fn make_producer(client: i64, options: SendOptions) -> i64 {
    completions::submit(|| Some(CLIENTS.get(client)?.producer(options.into())))
}

/// Takes back a delayed message.
#[uniffi::export]
pub(crate) fn recall_message(producer: i64, topic: String, handle: String) -> i64 {
    completions::submit(|| Some(PRODUCERS.get(producer)?.recall(topic, handle)))
}

/// Closes a client.
#[uniffi::export]
pub(crate) fn close_client(client: i64, deadline: Option<Duration>) -> i64 {
    completions::submit(|| Some(CLIENTS.get(client)?.close(within(deadline))))
}

/// Closes a producer.
#[uniffi::export]
pub(crate) fn close_producer(producer: i64, deadline: Option<Duration>) -> i64 {
    completions::submit(|| Some(PRODUCERS.get(producer)?.close(within(deadline))))
}

fn within(deadline: Option<Duration>) -> Duration {
    deadline.unwrap_or(CLOSE_DEADLINE)
}
