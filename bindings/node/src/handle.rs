//! Clients and producers for JavaScript. Most methods start an operation and return its id. Those that do not wait
//! return whether they failed, and the value or failure.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, Error, Result, ToNapiValue, Unknown};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::input::{Message, ProducerOptions, PushConsumerOptions, SimpleConsumerOptions, close_deadline};
use crate::outcome::answer;
use crate::output::{Health, Metric};
use crate::transaction::{OrphanChecks, Transaction};

pub(crate) fn id(submitted: std::result::Result<u64, bridge::Error>) -> Result<i64> {
    match submitted {
        // JavaScript's numbers are exact up to 2^53.
        Ok(id) => Ok(id.cast_signed()),
        Err(error) => Err(Error::from_reason(error.to_string())),
    }
}

#[napi]
pub struct Client {
    pub(crate) client: bridge::Client,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl Client {
    #[napi]
    pub fn producer(&self, options: ProducerOptions) -> Result<i64> {
        id(self.queue.submit(self.client.producer(options.into())))
    }

    #[napi]
    pub fn simple_consumer(&self, options: SimpleConsumerOptions) -> Result<i64> {
        id(self.queue.submit(self.client.simple_consumer(options.try_into()?)))
    }

    #[napi]
    pub fn push_consumer(&self, options: PushConsumerOptions) -> Result<i64> {
        id(self.queue.submit(self.client.push_consumer(options.try_into()?)))
    }

    #[napi]
    pub fn health<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        answer(env, self.client.health(), |health| Health::from(health).into_unknown(env))
    }

    #[napi]
    pub fn metrics<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        answer(env, self.client.metrics(), |metrics| {
            metrics.metrics.into_iter().map(Metric::from).collect::<Vec<_>>().into_unknown(env)
        })
    }

    #[napi]
    pub fn status_changes<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        answer(env, self.client.status_changes(), |changes| {
            StatusChanges { changes, queue: Arc::clone(&self.queue) }.into_unknown(env)
        })
    }

    #[napi]
    pub fn close(&self, deadline_ms: Option<f64>) -> Result<i64> {
        let deadline = close_deadline(deadline_ms)?;
        id(self.queue.submit(self.client.close(deadline)))
    }
}

/// The changes of a client's status.
#[napi]
pub struct StatusChanges {
    changes: bridge::StatusChanges,
    queue: Arc<Queue>,
}

#[napi]
impl StatusChanges {
    #[napi]
    pub fn next(&self) -> Result<i64> {
        id(self.queue.submit(self.changes.next()))
    }
}

#[napi]
pub struct Producer {
    pub(crate) producer: bridge::Producer,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl Producer {
    #[napi]
    pub fn send(&self, message: Message<'_>) -> Result<i64> {
        id(self.queue.submit(self.producer.send(message.try_into()?)))
    }

    #[napi]
    pub fn send_all(&self, messages: Vec<Message<'_>>) -> Result<i64> {
        let messages = messages.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        id(self.queue.submit(self.producer.send_all(messages)))
    }

    #[napi]
    pub fn recall(&self, topic: String, handle: String) -> Result<i64> {
        id(self.queue.submit(self.producer.recall(topic, handle)))
    }

    #[napi]
    pub fn begin<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        answer(env, self.producer.begin(), |transaction| {
            Transaction { transaction, queue: Arc::clone(&self.queue) }.into_unknown(env)
        })
    }

    #[napi]
    pub fn orphan_checks<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        answer(env, self.producer.orphan_checks(), |checks| {
            OrphanChecks { checks, queue: Arc::clone(&self.queue) }.into_unknown(env)
        })
    }

    #[napi]
    pub fn close(&self, deadline_ms: Option<f64>) -> Result<i64> {
        let deadline = close_deadline(deadline_ms)?;
        id(self.queue.submit(self.producer.close(deadline)))
    }
}
