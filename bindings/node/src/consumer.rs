//! Simple consumers, their streams, and the leases of received deliveries.

use std::sync::Arc;

use napi::bindgen_prelude::{ClassInstance, Env, Error, Result, Status, ToNapiValue, Unknown};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::input::{ReceiveOptions, StreamOptions, close_deadline, millis};
use crate::outcome::{operation_id, tagged_result};

#[napi]
pub struct SimpleConsumer {
    pub(crate) consumer: bridge::SimpleConsumer,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl SimpleConsumer {
    #[napi]
    pub fn receive(&self, options: ReceiveOptions) -> Result<i64> {
        operation_id(self.queue.submit(self.consumer.receive(options.try_into()?)))
    }

    #[napi]
    pub fn ack(&self, leases: &Leases, index: u32) -> Result<i64> {
        operation_id(self.queue.submit(self.consumer.ack(leases.get_cloned(index)?)))
    }

    /// Acknowledges several deliveries. `positions` is a flat list of pairs: the index of a batch in
    /// `batches`, and the index of a delivery in that batch.
    #[napi]
    pub fn ack_all(&self, batches: Vec<ClassInstance<'_, Leases>>, positions: Vec<u32>) -> Result<i64> {
        let delivery = |position: &[u32]| match *position {
            [batch, index] => batches.get(batch as usize).ok_or_else(no_such_delivery)?.get_cloned(index),
            _ => Err(no_such_delivery()),
        };
        let deliveries = positions.chunks(2).map(delivery).collect::<Result<_>>()?;
        operation_id(self.queue.submit(self.consumer.ack_all(deliveries)))
    }

    #[napi]
    pub fn change_invisible(&self, leases: &Leases, index: u32, invisible_ms: f64) -> Result<i64> {
        let (delivery, invisible) = (leases.get_cloned(index)?, millis(invisible_ms)?);
        operation_id(self.queue.submit(self.consumer.change_invisible(delivery, invisible)))
    }

    #[napi]
    pub fn nack(&self, leases: &Leases, index: u32, after_ms: f64) -> Result<i64> {
        operation_id(self.queue.submit(self.consumer.nack(leases.get_cloned(index)?, millis(after_ms)?)))
    }

    #[napi]
    pub fn dead_letter(&self, leases: &Leases, index: u32) -> Result<i64> {
        operation_id(self.queue.submit(self.consumer.dead_letter(leases.get_cloned(index)?)))
    }

    #[allow(clippy::too_many_arguments, reason = "JavaScript passes three; the environment comes from napi")]
    #[napi]
    pub fn keep_lease<'env>(
        &self,
        env: &'env Env,
        leases: &Leases,
        index: u32,
        max_ms: f64,
    ) -> Result<Vec<Unknown<'env>>> {
        let result = self.consumer.keep_lease(leases.get(index)?, millis(max_ms)?);
        tagged_result(env, result, |()| ().into_unknown(env))
    }

    #[napi]
    pub fn messages<'env>(&self, env: &'env Env, options: StreamOptions) -> Result<Vec<Unknown<'env>>> {
        tagged_result(env, self.consumer.messages(options.try_into()?), |messages| {
            Messages { messages, queue: Arc::clone(&self.queue) }.into_unknown(env)
        })
    }

    #[napi]
    pub fn close(&self, deadline_ms: Option<f64>) -> Result<i64> {
        operation_id(self.queue.submit(self.consumer.close(close_deadline(deadline_ms)?)))
    }
}

impl Drop for SimpleConsumer {
    /// Runs when JavaScript has collected the consumer, or when its environment has ended.
    fn drop(&mut self) {
        self.consumer.abandon();
    }
}

/// A stream of deliveries.
#[napi]
pub struct Messages {
    messages: bridge::Messages,
    queue: Arc<Queue>,
}

#[napi]
impl Messages {
    /// Waits for the next delivery and returns it as a batch of one. The core renews the leases of deliveries
    /// that wait.
    #[napi]
    pub fn next(&self) -> Result<i64> {
        operation_id(self.queue.submit(self.messages.next_batch(1)))
    }

    #[napi]
    pub fn close(&self) -> Result<i64> {
        operation_id(self.queue.submit(self.messages.close(bridge::CLOSE_DEADLINE)))
    }
}

/// The leases of the deliveries of one batch. They share one native object because native objects are
/// expensive.
#[napi]
pub struct Leases(pub(crate) Vec<bridge::Delivery>);

#[napi]
impl Leases {
    #[napi]
    pub fn is_lost(&self, index: u32) -> Result<bool> {
        Ok(self.get(index)?.is_lease_lost())
    }
}

impl Leases {
    fn get(&self, index: u32) -> Result<&bridge::Delivery> {
        self.0.get(index as usize).ok_or_else(no_such_delivery)
    }

    fn get_cloned(&self, index: u32) -> Result<bridge::Delivery> {
        self.get(index).cloned()
    }
}

fn no_such_delivery() -> Error {
    Error::new(Status::InvalidArg, "there is no delivery with this index")
}
