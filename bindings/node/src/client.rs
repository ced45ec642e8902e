//! Clients, and the streams of their status changes.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, Result, ToNapiValue, Unknown};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::input::{ProducerOptions, PushConsumerOptions, SimpleConsumerOptions, close_deadline};
use crate::outcome::{operation_id, tagged_result};
use crate::output::{Health, Metric};

#[napi]
pub struct Client {
    pub(crate) client: bridge::Client,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl Client {
    #[napi]
    pub fn producer(&self, options: ProducerOptions) -> Result<i64> {
        operation_id(self.queue.submit(self.client.producer(options.into())))
    }

    #[napi]
    pub fn simple_consumer(&self, options: SimpleConsumerOptions) -> Result<i64> {
        operation_id(self.queue.submit(self.client.simple_consumer(options.try_into()?)))
    }

    #[napi]
    pub fn push_consumer(&self, options: PushConsumerOptions) -> Result<i64> {
        operation_id(self.queue.submit(self.client.push_consumer(options.try_into()?)))
    }

    #[napi]
    pub fn health<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        tagged_result(env, self.client.health(), |health| Health::from(health).into_unknown(env))
    }

    #[napi]
    pub fn metrics<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        tagged_result(env, self.client.metrics(), |metrics| {
            metrics.metrics.into_iter().map(Metric::from).collect::<Vec<_>>().into_unknown(env)
        })
    }

    #[napi]
    pub fn status_changes<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        tagged_result(env, self.client.status_changes(), |changes| {
            StatusChanges { changes, queue: Arc::clone(&self.queue) }.into_unknown(env)
        })
    }

    #[napi]
    pub fn close(&self, deadline_ms: Option<f64>) -> Result<i64> {
        let deadline = close_deadline(deadline_ms)?;
        operation_id(self.queue.submit(self.client.close(deadline)))
    }
}

/// A stream of the status changes of a client.
#[napi]
pub struct StatusChanges {
    changes: bridge::StatusChanges,
    queue: Arc<Queue>,
}

#[napi]
impl StatusChanges {
    #[napi]
    pub fn next(&self) -> Result<i64> {
        operation_id(self.queue.submit(self.changes.next()))
    }
}
