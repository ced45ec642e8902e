//! The rarely called functions of clients and producers, exported through uniffi. Except for [`start`], each starts an
//! operation and returns its id, or 0 if it could not be started. `rocketmq_thin_poll` returns the outcome.

use std::time::Duration;

use rocketmq_thin_bridge::{self as bridge, CLOSE_DEADLINE};

use crate::completions::{self, Completions};
use crate::error::Failure;
use crate::options::{ConnectOptions, SendOptions};
use crate::registry::{CLIENTS, PRODUCERS};

/// Starts the runtime of this process if it is not running, and returns the error if it cannot start. To be called first:
/// other functions start the runtime as well, but do not report why it cannot start.
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
pub(crate) fn create_producer(client: i64, options: SendOptions) -> i64 {
    completions::submit(|| Some(CLIENTS.get(client)?.producer(options.into())))
}

/// Recalls a delayed message before it is delivered.
#[uniffi::export]
pub(crate) fn recall_message(producer: i64, topic: String, handle: String) -> i64 {
    completions::submit(|| Some(PRODUCERS.get(producer)?.recall(topic, handle)))
}

/// Closes a client.
#[uniffi::export]
pub(crate) fn close_client(client: i64, deadline: Option<Duration>) -> i64 {
    completions::submit(|| Some(CLIENTS.get(client)?.close(deadline_or_default(deadline))))
}

/// Closes a producer.
#[uniffi::export]
pub(crate) fn close_producer(producer: i64, deadline: Option<Duration>) -> i64 {
    completions::submit(|| Some(PRODUCERS.get(producer)?.close(deadline_or_default(deadline))))
}

fn deadline_or_default(deadline: Option<Duration>) -> Duration {
    deadline.unwrap_or(CLOSE_DEADLINE)
}
