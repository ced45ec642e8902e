//! Streams of deliveries.
#![allow(unsafe_code, reason = "the JVM passes arrays as pointers, and finds functions by their plain names")]

use std::time::Duration;

use rocketmq_thin_bridge::{CLOSE_DEADLINE, Messages, StreamOptions};

use crate::completions::submit;
use crate::message::{IncomingMessage, IncomingMessages};
use crate::operations::decode;
use crate::options::replace;
use crate::outcome::Outcome;
use crate::registry::{CONSUMERS, Registry};

static STREAMS: Registry<Messages> = Registry::new();

/// Options of a stream. Options that are `None` have the core's defaults.
#[derive(uniffi::Record)]
pub(crate) struct FetchOptions {
    max_messages: Option<u64>,
    max_bytes: Option<u64>,
    invisible_duration: Option<Duration>,
}

impl From<FetchOptions> for StreamOptions {
    fn from(given: FetchOptions) -> Self {
        let mut options = Self::default();
        replace(&mut options.max_messages, given.max_messages.map(|count| count as usize));
        replace(&mut options.max_bytes, given.max_bytes.map(|bytes| bytes as usize));
        replace(&mut options.invisible_duration, given.invisible_duration);
        options
    }
}

/// Starts a stream, which fetches messages before the application takes them.
#[uniffi::export]
pub(crate) fn open_stream(consumer: i64, options: FetchOptions) -> Outcome {
    let messages = || Some(CONSUMERS.get(consumer)?.messages(options.into()));
    Outcome::from_result(messages(), |messages| {
        Outcome::registered(STREAMS.insert(messages), |key| STREAMS.remove(key))
    })
}

/// Ends a stream, and gives deliveries that were not taken back to the server.
#[uniffi::export]
pub(crate) fn close_stream(stream: i64) -> i64 {
    submit(|| Some(STREAMS.get(stream)?.close(CLOSE_DEADLINE)))
}

/// Waits for the next delivery of a stream, as a batch of one. The core renews the leases of deliveries that
/// it has not handed out.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_next_delivery(stream: i64) -> i64 {
    submit(|| Some(STREAMS.get(stream)?.next_batch(1)))
}

/// Returns messages that the application will not process. The stream hands them out next. `messages` is an
/// encoded `IncomingMessages`.
///
/// # Safety
/// `messages` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_put_back_to_stream(
    stream: i64,
    messages: *const u8,
    length: i32,
) {
    // SAFETY: the caller guarantees this.
    let messages = unsafe { decode::<IncomingMessages, IncomingMessages>(messages, length) };
    if let (Some(stream), Some(messages)) = (STREAMS.get(stream), messages) {
        stream.put_back(messages.messages.into_iter().filter_map(IncomingMessage::restore).collect());
    }
}
