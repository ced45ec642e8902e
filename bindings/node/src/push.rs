//! Push consumers and their tasks.

use std::sync::Arc;

use bytes::Bytes;
use napi::bindgen_prelude::{Env, Error, Result, ToNapiValue, Unknown};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::input::{close_deadline, consume_result};
use crate::outcome::{operation_id, tagged_result};

#[napi]
pub struct PushConsumer {
    pub(crate) consumer: bridge::PushConsumer,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl PushConsumer {
    #[napi]
    pub fn next_tasks(&self, max: u32) -> Result<i64> {
        operation_id(self.queue.submit(self.consumer.next_tasks(max as usize)))
    }

    #[napi]
    pub fn pause<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        tagged_result(env, self.consumer.pause(), |()| ().into_unknown(env))
    }

    #[napi]
    pub fn resume<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        tagged_result(env, self.consumer.resume(), |()| ().into_unknown(env))
    }

    #[napi]
    pub fn is_paused<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        tagged_result(env, self.consumer.is_paused(), |paused| paused.into_unknown(env))
    }

    #[napi]
    pub fn close(&self, deadline_ms: Option<f64>) -> Result<i64> {
        operation_id(self.queue.submit(self.consumer.close(close_deadline(deadline_ms)?)))
    }
}

impl Drop for PushConsumer {
    /// Runs when the consumer is garbage-collected or the Node environment ends.
    fn drop(&mut self) {
        self.consumer.abandon();
    }
}

/// The tasks of one batch. They share one native object, because each native object costs memory and time. When it is
/// dropped, tasks whose handlers have not begun are put back; the other ones that are not completed count as failed.
#[napi]
pub struct Tasks {
    tasks: Vec<Option<bridge::Task>>,
    /// How many handlers have begun. They begin in the order of the tasks.
    begun: usize,
    queue: Arc<Queue>,
}

#[napi]
impl Tasks {
    pub(crate) fn new(tasks: Vec<bridge::Task>, queue: Arc<Queue>) -> Self {
        Self { tasks: tasks.into_iter().map(Some).collect(), begun: 0, queue }
    }

    /// Records that the handler of the next task begins.
    #[napi]
    pub fn begin(&mut self) {
        let next = self.tasks.get_mut(self.begun).and_then(Option::as_mut);
        if let Some(task) = next.and_then(bridge::Task::get_mut) {
            // The handler has a copy.
            task.delivery.body = Bytes::new();
        }
        self.begun += 1;
    }

    /// Puts back the tasks whose handlers have not begun.
    #[napi]
    pub fn put_back(&mut self) {
        let unbegun = self.tasks.split_off(self.begun.min(self.tasks.len()));
        // The last one first, because each of them becomes the next one.
        unbegun.into_iter().rev().flatten().for_each(bridge::Task::put_back);
    }

    /// Completes a task. Does nothing if it is already completed.
    #[napi]
    pub fn complete(&mut self, index: u32, result: String, after_ms: Option<f64>) -> Result<()> {
        let result = consume_result(&result, after_ms)?;
        if let Some(task) = self.take(index) {
            task.complete(result);
        }
        Ok(())
    }

    /// Completes a task, and waits until its message is settled.
    #[napi]
    pub fn settle(&mut self, index: u32, result: String, after_ms: Option<f64>) -> Result<i64> {
        let result = consume_result(&result, after_ms)?;
        let completed = || Error::from_reason("the task is already completed");
        let mut task = self.take(index).ok_or_else(completed)?;
        let settled = task.settled();
        task.complete(result);
        operation_id(self.queue.submit(settled))
    }

    fn take(&mut self, index: u32) -> Option<bridge::Task> {
        self.tasks.get_mut(index as usize).and_then(Option::take)
    }
}

impl Drop for Tasks {
    /// Runs when the object is garbage-collected or the Node environment ends.
    fn drop(&mut self) {
        self.put_back();
    }
}
