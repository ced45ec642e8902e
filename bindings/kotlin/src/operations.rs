//! The hot path: C functions for JNA's direct mapping. They take primitives and arrays. Only
//! `rocketmq_thin_poll` blocks. Functions that start an operation return its id, or 0 if it could not be
//! started.
#![allow(unsafe_code, reason = "the JVM passes arrays as pointers, and finds functions by their plain names")]

use std::cell::RefCell;
use std::slice;
use std::time::Duration;

use rocketmq_thin_bridge::{self as core, Delivery, Error, ErrorKind, Message, ReceiveOptions};
use uniffi::{Lift, Lower};

use crate::UniFfiTag;
use crate::completions::{Completions, submit};
use crate::message::{IncomingMessage, IncomingMessages, OutgoingMessage, OutgoingMessages};
use crate::outcome::Outcome;
use crate::registry::{CONSUMERS, DELIVERIES, PRODUCERS};

/// The maximum number of outcomes of one poll, which limits the delay of the first outcome.
const MAX_BATCH_OUTCOMES: usize = 256;
/// A poll adds no further outcomes once the batch has this size, so that large bodies are returned one by
/// one.
const TARGET_BATCH_BYTES: usize = 1024 * 1024;

thread_local! {
    /// The last batch that this thread has polled.
    static BATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Sends a message. `message` is an encoded `OutgoingMessage`.
///
/// # Safety
/// `message` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_send(producer: i64, message: *const u8, length: i32) -> i64 {
    // SAFETY: the caller guarantees this.
    let message = unsafe { decode::<OutgoingMessage, Message>(message, length) };
    submit(|| Some(PRODUCERS.get(producer)?.send(message?)))
}

/// Sends several messages. `messages` is an encoded `OutgoingMessages`.
///
/// # Safety
/// `messages` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_send_all(
    producer: i64,
    messages: *const u8,
    length: i32,
) -> i64 {
    // SAFETY: the caller guarantees this.
    let messages = unsafe { decode::<OutgoingMessages, Vec<Message>>(messages, length) };
    submit(|| Some(PRODUCERS.get(producer)?.send_all(messages?)))
}

/// Receives messages. A negative argument selects the core's default.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_receive(
    consumer: i64,
    max_messages: i32,
    invisible_nanos: i64,
    await_nanos: i64,
) -> i64 {
    let default = ReceiveOptions::default();
    let duration = |nanos: i64, default| u64::try_from(nanos).map_or(default, Duration::from_nanos);
    let options = default
        .max_messages(u32::try_from(max_messages).unwrap_or(default.max_messages))
        .invisible_duration(duration(invisible_nanos, default.invisible_duration))
        .await_duration(duration(await_nanos, default.await_duration));
    submit(|| Some(CONSUMERS.get(consumer)?.receive(options)))
}

/// Returns messages that the application will not process. The next receive gets them. `messages` is an
/// encoded `IncomingMessages`.
///
/// # Safety
/// `messages` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_put_back(consumer: i64, messages: *const u8, length: i32) {
    // SAFETY: the caller guarantees this.
    let messages = unsafe { decode::<IncomingMessages, IncomingMessages>(messages, length) };
    if let (Some(consumer), Some(messages)) = (CONSUMERS.get(consumer), messages) {
        consumer.put_back(messages.messages.into_iter().filter_map(IncomingMessage::restore).collect());
    }
}

/// Acknowledges a delivery.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_ack(consumer: i64, delivery: i64) -> i64 {
    submit(|| Some(CONSUMERS.get(consumer)?.ack(DELIVERIES.get(delivery)?)))
}

/// Acknowledges several deliveries.
///
/// # Safety
/// `deliveries` points to `count` numbers.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_ack_all(
    consumer: i64,
    deliveries: *const i64,
    count: i32,
) -> i64 {
    // SAFETY: the caller guarantees this.
    let keys = unsafe { slice(deliveries, count) };
    let deliveries = || keys.iter().map(|key| DELIVERIES.get(*key)).collect::<Option<Vec<Delivery>>>();
    submit(|| Some(CONSUMERS.get(consumer)?.ack_all(deliveries()?)))
}

/// Changes how long a delivery stays invisible, counted from now.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_change_invisible(consumer: i64, delivery: i64, nanos: i64) -> i64 {
    let duration = Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
    submit(|| Some(CONSUMERS.get(consumer)?.change_invisible(DELIVERIES.get(delivery)?, duration)))
}

/// Cancels an operation. Returns 1 if no outcome will be polled, 0 if the outcome has already been polled.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_cancel(operation: i64) -> i32 {
    Completions::get().is_ok_and(|completions| completions.cancel(operation)).into()
}

/// Returns the number of operations that are running, or whose outcome was not polled.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_pending() -> i64 {
    Completions::get().map_or(0, |completions| completions.pending() as i64)
}

/// Waits for outcomes until the timeout, and returns a batch of them: a 64-bit length in the machine's byte
/// order, and then this number of bytes. For each outcome, they contain the operation's id and the outcome's
/// length as 64-bit numbers in network byte order, and then the encoded `Outcome`. The batch is valid until
/// the same thread polls again. Returns null if the client could not start.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_poll(timeout_millis: i64) -> *const u8 {
    let Ok(completions) = Completions::get() else { return std::ptr::null() };
    let timeout = Duration::from_millis(u64::try_from(timeout_millis).unwrap_or_default());
    BATCH.with_borrow_mut(|batch| {
        batch.clear();
        batch.shrink_to(TARGET_BATCH_BYTES);
        append_with_length(batch, u64::to_ne_bytes, |batch| {
            let mut next = completions.wait(timeout);
            let mut count = 1;
            while let Some(completion) = next {
                append_outcome(batch, completion);
                let has_room = count < MAX_BATCH_OUTCOMES && batch.len() < TARGET_BATCH_BYTES;
                next = has_room.then(|| completions.next()).flatten();
                count += 1;
            }
        });
        batch.as_ptr()
    })
}

fn append_outcome(batch: &mut Vec<u8>, (id, outcome): (u64, core::Outcome)) {
    let start = batch.len();
    batch.extend_from_slice(&id.to_be_bytes());
    append_with_length(batch, u64::to_be_bytes, |batch| {
        <Outcome as Lower<UniFfiTag>>::write(outcome.into(), batch)
    });
    if i32::try_from(batch.len()).is_err() {
        batch.truncate(start);
        let error = Error::new(
            ErrorKind::TooLarge,
            "receive",
            "the deliveries exceed 2 GiB, the limit of a JVM's buffer",
        );
        append_outcome(batch, (id, core::Outcome::Failed(error)));
    }
}

/// Appends the bytes that `write` appends, preceded by their length.
fn append_with_length(
    buffer: &mut Vec<u8>,
    length_bytes: fn(u64) -> [u8; 8],
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    write(buffer);
    let length = (buffer.len() - start - 8) as u64;
    buffer[start..start + 8].copy_from_slice(&length_bytes(length));
}

/// Decodes a uniffi value. Returns `None` if it is invalid.
///
/// # Safety
/// `encoded` points to `length` bytes.
pub(crate) unsafe fn decode<E: Lift<UniFfiTag>, T: From<E>>(encoded: *const u8, length: i32) -> Option<T> {
    // SAFETY: the caller guarantees this.
    let mut encoded = unsafe { slice(encoded, length) };
    E::try_read(&mut encoded).ok().map(T::from)
}

/// Returns the items as a slice, which is empty for a null pointer or a negative length.
///
/// # Safety
/// `data` points to `length` items that do not change during `'a`.
unsafe fn slice<'a, T>(data: *const T, length: i32) -> &'a [T] {
    match usize::try_from(length) {
        // SAFETY: the caller guarantees this.
        Ok(length) if length > 0 && !data.is_null() => unsafe { slice::from_raw_parts(data, length) },
        _ => &[],
    }
}
