use std::mem;

use rocketmq_thin::Delivery;

use crate::bound::{Messages, SimpleConsumer};

/// What a receive or a stream returned. If it is dropped before [`take`](Self::take), the deliveries go back to
/// where they came from.
pub struct Deliveries {
    origin: Origin,
    deliveries: Vec<Delivery>,
}

/// Where deliveries came from.
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

    /// The deliveries. From here on the caller is responsible for them: see [`SimpleConsumer::put_back`] and
    /// [`Messages::put_back`].
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
