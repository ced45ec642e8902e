//! Producers.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, Result, ToNapiValue, Unknown};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::input::{Message, close_deadline};
use crate::outcome::{operation_id, tagged_result};
use crate::transaction::{OrphanChecks, Transaction};

#[napi]
pub struct Producer {
    pub(crate) producer: bridge::Producer,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl Producer {
    #[napi]
    pub fn send(&self, message: Message<'_>) -> Result<i64> {
        operation_id(self.queue.submit(self.producer.send(message.try_into()?)))
    }

    #[napi]
    pub fn send_all(&self, messages: Vec<Message<'_>>) -> Result<i64> {
        let messages = messages.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        operation_id(self.queue.submit(self.producer.send_all(messages)))
    }

    #[napi]
    pub fn recall(&self, topic: String, handle: String) -> Result<i64> {
        operation_id(self.queue.submit(self.producer.recall(topic, handle)))
    }

    #[napi]
    pub fn begin<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        tagged_result(env, self.producer.begin(), |transaction| {
            Transaction { transaction, queue: Arc::clone(&self.queue) }.into_unknown(env)
        })
    }

    #[napi]
    pub fn orphan_checks<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        tagged_result(env, self.producer.orphan_checks(), |checks| {
            OrphanChecks { checks, queue: Arc::clone(&self.queue) }.into_unknown(env)
        })
    }

    #[napi]
    pub fn close(&self, deadline_ms: Option<f64>) -> Result<i64> {
        let deadline = close_deadline(deadline_ms)?;
        operation_id(self.queue.submit(self.producer.close(deadline)))
    }
}
