//! Push consumers and their tasks.
#![allow(unsafe_code, reason = "the JVM finds functions by their plain names")]

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rocketmq_thin_bridge::{CLOSE_DEADLINE, ConsumeResult, Task};

use crate::completions::submit;
use crate::message::IncomingMessage;
use crate::options::HandleOptions;
use crate::outcome::Outcome;
use crate::registry::{CLIENTS, DELIVERIES, PUSH_CONSUMERS, Registry, RegistryGuard};

static TASKS: Registry<Arc<Tasks>> = Registry::new();

/// The tasks of one batch. Tasks that are not completed when it is dropped count as failed.
struct Tasks {
    tasks: Mutex<Vec<Option<Task>>>,
    /// The registry keys of the tasks' deliveries.
    deliveries: Vec<i64>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.deliveries.iter().for_each(|key| DELIVERIES.remove(*key));
    }
}

impl Outcome {
    /// Registers the tasks and returns their messages.
    pub(crate) fn tasks(tasks: Vec<Task>) -> Self {
        // `get` returns `None` only in a forked child, and a JVM does not fork.
        let deliveries = tasks.iter().filter_map(|task| Some(task.get()?.delivery.clone()));
        let messages: Vec<_> = deliveries.map(IncomingMessage::register).collect();
        let tasks = Tasks {
            tasks: Mutex::new(tasks.into_iter().map(Some).collect()),
            deliveries: messages.iter().map(|message| message.key).collect(),
        };
        let key = TASKS.insert(Arc::new(tasks));
        Self::Tasks { key, messages, guard: RegistryGuard::new(vec![key], |key| TASKS.remove(key)) }
    }
}

/// Creates a push consumer.
#[uniffi::export]
pub(crate) fn create_push_consumer(client: i64, options: HandleOptions) -> i64 {
    submit(|| Some(CLIENTS.get(client)?.push_consumer(options.into())))
}

/// Creates a second key of a push consumer, for the code that calls its handlers. The consumer is closed when
/// the first key is removed, even if the second one exists.
#[uniffi::export]
pub(crate) fn share_push_consumer(consumer: i64) -> Outcome {
    Outcome::from_result(PUSH_CONSUMERS.get(consumer).map(Ok), |consumer| {
        Outcome::registered(PUSH_CONSUMERS.insert(consumer), |key| PUSH_CONSUMERS.remove(key))
    })
}

/// Pauses a push consumer.
#[uniffi::export]
pub(crate) fn pause_consumer(consumer: i64) -> Outcome {
    let pause = || Some(PUSH_CONSUMERS.get(consumer)?.pause());
    Outcome::from_result(pause(), |()| Outcome::Done)
}

/// Resumes a push consumer after a pause.
#[uniffi::export]
pub(crate) fn resume_consumer(consumer: i64) -> Outcome {
    let resume = || Some(PUSH_CONSUMERS.get(consumer)?.resume());
    Outcome::from_result(resume(), |()| Outcome::Done)
}

/// Returns whether a push consumer is paused.
#[uniffi::export]
pub(crate) fn is_consumer_paused(consumer: i64) -> bool {
    PUSH_CONSUMERS.get(consumer).is_some_and(|consumer| consumer.is_paused().unwrap_or_default())
}

/// Closes a push consumer.
#[uniffi::export]
pub(crate) fn close_push_consumer(consumer: i64, deadline: Option<Duration>) -> i64 {
    submit(|| Some(PUSH_CONSUMERS.get(consumer)?.close(deadline.unwrap_or(CLOSE_DEADLINE))))
}

/// Waits for tasks of a push consumer.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_next_tasks(consumer: i64, max: i32) -> i64 {
    submit(|| Some(PUSH_CONSUMERS.get(consumer)?.next_tasks(usize::try_from(max).unwrap_or_default())))
}

/// Completes a task, which is identified by the key of its batch and its index in the batch. `result` 0
/// acknowledges the message, 1 retries it according to the group's policy, 2 retries it after `after_nanos`,
/// 3 moves it to the dead-letter topic, and 4 puts it back, because the handler has not seen it. Does nothing if
/// the task is already completed.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_complete(batch: i64, index: i32, result: i32, after_nanos: i64) {
    let Some(task) = take_task(batch, index) else { return };
    match result {
        4 => task.put_back(),
        _ => task.complete(consume_result(result, after_nanos)),
    }
}

/// As [`rocketmq_thin_complete`] with a result from 0 to 3, and waits until the message is settled.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn rocketmq_thin_settle(batch: i64, index: i32, result: i32, after_nanos: i64) -> i64 {
    submit(|| {
        let mut task = take_task(batch, index)?;
        let settled = task.settled();
        task.complete(consume_result(result, after_nanos));
        Some(settled)
    })
}

fn take_task(batch: i64, index: i32) -> Option<Task> {
    let (batch, index) = TASKS.get(batch).zip(usize::try_from(index).ok())?;
    batch.tasks.lock().get_mut(index)?.take()
}

fn consume_result(result: i32, after_nanos: i64) -> ConsumeResult {
    match result {
        0 => ConsumeResult::Ack,
        2 => ConsumeResult::RetryAfter(Duration::from_nanos(u64::try_from(after_nanos).unwrap_or_default())),
        3 => ConsumeResult::DeadLetter,
        _ => ConsumeResult::Retry,
    }
}
