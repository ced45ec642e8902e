use std::mem;

use rocketmq_thin::Delivery;

use crate::bound::SimpleConsumer;

/// What a receive returned. If it is dropped before [`take`](Self::take), the deliveries go back to their
/// consumer.
pub struct Deliveries {
    consumer: SimpleConsumer,
    deliveries: Vec<Delivery>,
}

impl Deliveries {
    pub(crate) fn new(consumer: SimpleConsumer, deliveries: Vec<Delivery>) -> Self {
        Self { consumer, deliveries }
    }

    /// The deliveries. From here on the caller is responsible for them: see [`SimpleConsumer::put_back`].
    #[must_use]
    pub fn take(mut self) -> Vec<Delivery> {
        mem::take(&mut self.deliveries)
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.consumer.put_back(mem::take(&mut self.deliveries));
    }
}
