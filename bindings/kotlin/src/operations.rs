//! The hot path: C functions for JNA's direct mapping. They take primitives and arrays. Only `poll` blocks. Those
//! that start an operation return its id, or 0 if it could not be started.
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

/// The maximum number of outcomes of one poll, so that the first is not delayed by the last.
const BATCH_OUTCOMES: usize = 256;
/// A poll adds no further outcome beyond this size, so that large bodies are returned one by one.
const BATCH_BYTES: usize = 1024 * 1024;

thread_local! {
    /// The last batch that the thread polled.
    static BATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Sends a message, given as an encoded `OutgoingMessage`.
///
/// # Safety
/// `message` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_send(producer: i64, message: *const u8, length: i32) -> i64 {
    // SAFETY: the caller guarantees it.
    let message = unsafe { decode::<OutgoingMessage, Message>(message, length) };
    submit(|| Some(PRODUCERS.get(producer)?.send(message?)))
}

/// Sends several messages, given as encoded `OutgoingMessages`.
///
/// # Safety
/// `messages` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_send_all(
    producer: i64,
    messages: *const u8,
    length: i32,
) -> i64 {
    // SAFETY: the caller guarantees it.
    let messages = unsafe { decode::<OutgoingMessages, Vec<Message>>(messages, length) };
    submit(|| Some(PRODUCERS.get(producer)?.send_all(messages?)))
}

/// Receives. A negative argument selects the core's default.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_receive(
    consumer: i64,
    max_messages: i32,
    invisible_millis: i64,
    await_millis: i64,
) -> i64 {
    let default = ReceiveOptions::default();
    let duration = |given: i64, default| u64::try_from(given).map_or(default, Duration::from_millis);
    let options = default
        .max_messages(u32::try_from(max_messages).unwrap_or(default.max_messages))
        .invisible_duration(duration(invisible_millis, default.invisible_duration))
        .await_duration(duration(await_millis, default.await_duration));
    submit(|| Some(CONSUMERS.get(consumer)?.receive(options)))
}

/// Returns messages that nobody processes, given as encoded `IncomingMessages`: the next receive gets them.
///
/// # Safety
/// `messages` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_put_back(consumer: i64, messages: *const u8, length: i32) {
    // SAFETY: the caller guarantees it.
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
    // SAFETY: the caller guarantees it.
    let keys = unsafe { slice(deliveries, count) };
    let deliveries = || keys.iter().map(|key| DELIVERIES.get(*key)).collect::<Option<Vec<Delivery>>>();
    submit(|| Some(CONSUMERS.get(consumer)?.ack_all(deliveries()?)))
}

/// Changes how long from now a delivery is invisible.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_change_invisible(consumer: i64, delivery: i64, millis: i64) -> i64 {
    let duration = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    submit(|| Some(CONSUMERS.get(consumer)?.change_invisible(DELIVERIES.get(delivery)?, duration)))
}

/// Cancels an operation. Returns 1 if it will have no outcome, 0 if its outcome was polled.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_cancel(operation: i64) -> i32 {
    Completions::get().is_ok_and(|completions| completions.cancel(operation)).into()
}

/// The number of operations that are running, or whose outcome was not polled.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_pending() -> i64 {
    Completions::get().map_or(0, |completions| completions.pending() as i64)
}

/// Waits for outcomes until the timeout and returns some of them: a 64-bit length in the machine's byte order,
/// then as many bytes. They hold, for each outcome, the operation's id and the outcome's length as 64-bit
/// numbers in network byte order, then the encoded `Outcome`. They stay there until the same thread polls
/// again. Returns null if the client could not start.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_poll(timeout_millis: i64) -> *const u8 {
    let Ok(completions) = Completions::get() else { return std::ptr::null() };
    let timeout = Duration::from_millis(u64::try_from(timeout_millis).unwrap_or_default());
    BATCH.with_borrow_mut(|batch| {
        batch.clear();
        batch.shrink_to(BATCH_BYTES);
        append(batch, u64::to_ne_bytes, |batch| {
            let mut next = completions.wait(timeout);
            let mut count = 1;
            while let Some(completion) = next {
                append_outcome(batch, completion);
                let room = count < BATCH_OUTCOMES && batch.len() < BATCH_BYTES;
                next = room.then(|| completions.next()).flatten();
                count += 1;
            }
        });
        batch.as_ptr()
    })
}

fn append_outcome(batch: &mut Vec<u8>, (id, outcome): (u64, core::Outcome)) {
    let start = batch.len();
    batch.extend_from_slice(&id.to_be_bytes());
    append(batch, u64::to_be_bytes, |batch| <Outcome as Lower<UniFfiTag>>::write(outcome.into(), batch));
    if i32::try_from(batch.len()).is_err() {
        batch.truncate(start);
        let error =
            Error::new(ErrorKind::TooLarge, "receive", "the deliveries exceed the 2 GiB of a JVM's buffer");
        append_outcome(batch, (id, core::Outcome::Failed(error)));
    }
}

/// Appends what `write` appends, preceded by its length.
fn append(buffer: &mut Vec<u8>, length_bytes: fn(u64) -> [u8; 8], write: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    write(buffer);
    let length = (buffer.len() - start - 8) as u64;
    buffer[start..start + 8].copy_from_slice(&length_bytes(length));
}

/// # Safety
/// `encoded` points to `length` bytes.
pub(crate) unsafe fn decode<E: Lift<UniFfiTag>, T: From<E>>(encoded: *const u8, length: i32) -> Option<T> {
    // SAFETY: the caller guarantees it.
    let mut encoded = unsafe { slice(encoded, length) };
    E::try_read(&mut encoded).ok().map(T::from)
}

/// # Safety
/// `data` points to `length` items that do not change during `'a`.
unsafe fn slice<'a, T>(data: *const T, length: i32) -> &'a [T] {
    match usize::try_from(length) {
        // SAFETY: the caller guarantees it.
        Ok(length) if length > 0 && !data.is_null() => unsafe { slice::from_raw_parts(data, length) },
        _ => &[],
    }
}
