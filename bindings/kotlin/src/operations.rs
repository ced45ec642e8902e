//! The hot path: C functions for JNA's direct mapping. They take primitives and arrays, and never block but
//! for `poll`. Each returns the id of the operation it started, or 0 if it could not be started.
#![allow(unsafe_code, reason = "the JVM passes arrays as pointers, and finds functions by their plain names")]

use std::cell::RefCell;
use std::slice;
use std::time::Duration;

use rocketmq_thin_bridge::{self as core, Delivery, Error, ErrorKind, Message, Operation, ReceiveOptions};
use uniffi::{Lift, Lower};

use crate::UniFfiTag;
use crate::completions::{Completions, submit};
use crate::message::{OutgoingMessage, OutgoingMessages};
use crate::outcome::Outcome;
use crate::registry::{CONSUMERS, DELIVERIES, PRODUCERS};

/// How many outcomes one poll brings at most, so that the first need not wait long for the last.
const BATCH_OUTCOMES: usize = 256;
/// After how many bytes a poll brings no further outcome, so that large bodies come one by one.
const BATCH_BYTES: usize = 1024 * 1024;

thread_local! {
    /// The last batch that a thread polled.
    static BATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Sends a message, given as an encoded `OutgoingMessage`.
///
/// # Safety
/// `message` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_send(producer: i64, message: *const u8, length: i32) -> i64 {
    // SAFETY: as the caller promises.
    let message = unsafe { decode::<OutgoingMessage, Message>(message, length) };
    submit(|| Some(Operation::Send(PRODUCERS.get(producer)?, message?)))
}

/// Sends many messages, given as encoded `OutgoingMessages`.
///
/// # Safety
/// `messages` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_send_all(
    producer: i64,
    messages: *const u8,
    length: i32,
) -> i64 {
    // SAFETY: as the caller promises.
    let messages = unsafe { decode::<OutgoingMessages, Vec<Message>>(messages, length) };
    submit(|| Some(Operation::SendAll(PRODUCERS.get(producer)?, messages?)))
}

/// Receives. A negative argument stands for the core's default.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_receive(
    consumer: i64,
    max_messages: i32,
    invisible_millis: i64,
    await_millis: i64,
) -> i64 {
    let default = ReceiveOptions::default();
    let duration = |given: i64, default| u64::try_from(given).map_or(default, Duration::from_millis);
    let options = ReceiveOptions {
        max_messages: u32::try_from(max_messages).unwrap_or(default.max_messages),
        invisible_duration: duration(invisible_millis, default.invisible_duration),
        await_duration: duration(await_millis, default.await_duration),
    };
    submit(|| Some(Operation::Receive(CONSUMERS.get(consumer)?, options)))
}

/// Acknowledges a delivery.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_ack(consumer: i64, delivery: i64) -> i64 {
    submit(|| Some(Operation::Ack(CONSUMERS.get(consumer)?, DELIVERIES.get(delivery)?)))
}

/// Acknowledges many deliveries.
///
/// # Safety
/// `deliveries` points to `count` numbers.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rocketmq_thin_ack_all(
    consumer: i64,
    deliveries: *const i64,
    count: i32,
) -> i64 {
    // SAFETY: as the caller promises.
    let keys = unsafe { slice(deliveries, count) };
    let deliveries = || keys.iter().map(|key| DELIVERIES.get(*key)).collect::<Option<Vec<Delivery>>>();
    submit(|| Some(Operation::AckAll(CONSUMERS.get(consumer)?, deliveries()?)))
}

/// Sets how long from now a delivery stays invisible.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_change_invisible(consumer: i64, delivery: i64, millis: i64) -> i64 {
    let duration = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    submit(|| Some(Operation::ChangeInvisible(CONSUMERS.get(consumer)?, DELIVERIES.get(delivery)?, duration)))
}

/// Cancels an operation. Returns 1 if there will be no outcome, 0 if there is one already.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_cancel(operation: i64) -> i32 {
    Completions::get().is_ok_and(|completions| completions.cancel(operation)).into()
}

/// Waits for outcomes and returns some of them: a 64-bit length in the machine's order, then as many bytes.
/// They hold, for each outcome, the operation's id and the outcome's length as 64-bit numbers in network
/// order, then the encoded `Outcome`. They stay there until the same thread polls again. Null if the client
/// could not start.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_poll() -> *const u8 {
    let Ok(completions) = Completions::get() else { return std::ptr::null() };
    BATCH.with_borrow_mut(|batch| {
        batch.clear();
        batch.shrink_to(BATCH_BYTES);
        append(batch, u64::to_ne_bytes, |batch| {
            append_outcome(batch, completions.wait());
            let mut count = 1;
            while count < BATCH_OUTCOMES && batch.len() < BATCH_BYTES {
                let Some(completion) = completions.next() else { break };
                append_outcome(batch, completion);
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

/// Appends what `write` appends, with its length before it.
fn append(buffer: &mut Vec<u8>, length_bytes: fn(u64) -> [u8; 8], write: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    write(buffer);
    let length = (buffer.len() - start - 8) as u64;
    buffer[start..start + 8].copy_from_slice(&length_bytes(length));
}

/// # Safety
/// `encoded` points to `length` bytes.
unsafe fn decode<E: Lift<UniFfiTag>, T: From<E>>(encoded: *const u8, length: i32) -> Option<T> {
    // SAFETY: as the caller promises.
    let mut encoded = unsafe { slice(encoded, length) };
    E::try_read(&mut encoded).ok().map(T::from)
}

/// # Safety
/// `data` points to `length` items that nobody changes for `'a`.
unsafe fn slice<'a, T>(data: *const T, length: i32) -> &'a [T] {
    match usize::try_from(length) {
        // SAFETY: as the caller promises.
        Ok(length) if length > 0 && !data.is_null() => unsafe { slice::from_raw_parts(data, length) },
        _ => &[],
    }
}
