//! Received deliveries, until the binding takes them over.

use std::mem;

use rocketmq_thin::Delivery;

use crate::process_bound::{Messages, SimpleConsumer};

/// The deliveries that a receive or a stream returned. If they are dropped before [`take`](Self::take), they
/// go back to the consumer or the stream that they came from.
pub struct Deliveries {
    origin: Origin,
    deliveries: Vec<Delivery>,
}

/// The consumer or the stream that deliveries came from.
pub(crate) enum Origin {
    Consumer(SimpleConsumer),
    Stream(Messages),
}

impl From<SimpleConsumer> for Origin {
    fn from(consumer: SimpleConsumer) -> Self {
        Self::Consumer(consumer)
    }
}

impl From<Messages> for Origin {
    fn from(stream: Messages) -> Self {
        Self::Stream(stream)
    }
}

impl Deliveries {
    pub(crate) fn new(origin: Origin, deliveries: Vec<Delivery>) -> Self {
        Self { origin, deliveries }
    }

    /// Takes the deliveries. From then on the caller is responsible for them: see
    /// [`SimpleConsumer::put_back`] and [`Messages::put_back`].
    #[must_use]
    pub fn take(mut self) -> Vec<Delivery> {
        mem::take(&mut self.deliveries)
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        let deliveries = mem::take(&mut self.deliveries);
        match &self.origin {
            Origin::Consumer(consumer) => consumer.put_back(deliveries),
            Origin::Stream(stream) => stream.put_back(deliveries),
        }
    }
}
