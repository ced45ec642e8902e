//! The core's objects for JavaScript. Each method starts an operation and returns its id.

use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{ClassInstance, Error, Result, Status};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::input::{
    Content, Message, ProducerOptions, ReceiveOptions, SimpleConsumerOptions, close_deadline, millis,
};

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
    pub fn close(&self, deadline_ms: Option<f64>) -> Result<i64> {
        let deadline = close_deadline(deadline_ms)?;
        id(self.queue.submit(self.client.close(deadline)))
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
        id(self.queue.submit(self.producer.send(message.into())))
    }

    #[napi]
    pub fn send_all(&self, messages: Vec<Message<'_>>) -> Result<i64> {
        let messages = messages.into_iter().map(Into::into).collect();
        id(self.queue.submit(self.producer.send_all(messages)))
    }

    #[napi]
    pub fn close(&self, deadline_ms: Option<f64>) -> Result<i64> {
        let deadline = close_deadline(deadline_ms)?;
        id(self.queue.submit(self.producer.close(deadline)))
    }
}

#[napi]
pub struct SimpleConsumer {
    pub(crate) consumer: bridge::SimpleConsumer,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl SimpleConsumer {
    #[napi]
    pub fn receive(&self, options: ReceiveOptions) -> Result<i64> {
        id(self.queue.submit(self.consumer.receive(options.try_into()?)))
    }

    /// Returns the deliveries from index `first` on, with their contents: the next receive gets them.
    #[napi]
    pub fn put_back(&self, leases: &Leases, first: u32, contents: Vec<Content>) {
        let rest = leases.0.iter().skip(first as usize).cloned();
        self.consumer
            .put_back(rest.zip(contents).map(|(delivery, content)| content.restore(delivery)).collect());
    }

    #[napi]
    pub fn ack(&self, leases: &Leases, index: u32) -> Result<i64> {
        id(self.queue.submit(self.consumer.ack(leases.get(index)?)))
    }

    /// `places` are pairs: an index into `leases`, and the index of a delivery there.
    #[napi]
    pub fn ack_all(&self, leases: Vec<ClassInstance<'_, Leases>>, places: Vec<u32>) -> Result<i64> {
        let delivery = |place: &[u32]| match *place {
            [of, index] => leases.get(of as usize).ok_or_else(no_such_delivery)?.get(index),
            _ => Err(no_such_delivery()),
        };
        let deliveries = places.chunks(2).map(delivery).collect::<Result<_>>()?;
        id(self.queue.submit(self.consumer.ack_all(deliveries)))
    }

    #[napi]
    pub fn change_invisible(&self, leases: &Leases, index: u32, invisible_ms: f64) -> Result<i64> {
        let (delivery, invisible) = (leases.get(index)?, millis(invisible_ms)?);
        id(self.queue.submit(self.consumer.change_invisible(delivery, invisible)))
    }

    #[napi]
    pub fn close(&self, deadline_ms: Option<f64>) -> Result<i64> {
        let deadline: Duration = close_deadline(deadline_ms)?;
        id(self.queue.submit(self.consumer.close(deadline)))
    }
}

impl Drop for SimpleConsumer {
    /// When JavaScript has collected it, or its environment has ended.
    fn drop(&mut self) {
        self.consumer.abandon();
    }
}

/// The deliveries of one receive, without their contents. They share one native object because native objects
/// are expensive.
#[napi]
pub struct Leases(pub(crate) Vec<bridge::Delivery>);

impl Leases {
    fn get(&self, index: u32) -> Result<bridge::Delivery> {
        self.0.get(index as usize).cloned().ok_or_else(no_such_delivery)
    }
}

fn no_such_delivery() -> Error {
    Error::new(Status::InvalidArg, "no such delivery")
}
