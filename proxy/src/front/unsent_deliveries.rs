//! Deliveries that are not sent to their client yet. Those that can't be sent are given back to the broker.

use std::collections::VecDeque;
use std::sync::Arc;

use super::port::Charge;
use crate::processor::{LeasedDelivery, Processor, Undelivered};
use crate::service::Message;

/// The deliveries of one answer. Dropping this gives back those that were not sent.
pub(super) struct UnsentDeliveries {
    processor: Arc<Processor>,
    topic: String,
    group: String,
    deliveries: VecDeque<LeasedDelivery>,
}

impl UnsentDeliveries {
    /// Takes as many of these deliveries as the connection may hold in memory, at least one, and gives back the
    /// others.
    pub(super) fn new(
        processor: &Arc<Processor>,
        undelivered: Undelivered,
        charge: &mut Charge,
        size_hint: impl Fn(&Message) -> usize,
    ) -> Self {
        let Undelivered { topic, group, deliveries } = undelivered;
        let count = charge.add_fitting(deliveries.iter().map(|leased| size_hint(&leased.delivery.message)));
        let mut outgoing = Self { processor: processor.clone(), topic, group, deliveries: deliveries.into() };
        let excess = outgoing.deliveries.split_off(count);
        outgoing.give_back(excess);
        outgoing
    }

    /// Takes the next delivery. It is not given back any more.
    pub(super) fn next(&mut self) -> Option<LeasedDelivery> {
        self.deliveries.pop_front()
    }

    /// The deliveries that were not taken yet.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LeasedDelivery> {
        self.deliveries.iter()
    }

    /// Whether all deliveries were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    fn give_back(&self, deliveries: VecDeque<LeasedDelivery>) {
        if deliveries.is_empty() {
            return;
        }
        let (topic, group) = (self.topic.clone(), self.group.clone());
        let undelivered = Undelivered { topic, group, deliveries: deliveries.into() };
        let processor = self.processor.clone();
        tokio::spawn(async move { processor.give_back(undelivered).await });
    }
}

impl Drop for UnsentDeliveries {
    fn drop(&mut self) {
        let undelivered = std::mem::take(&mut self.deliveries);
        self.give_back(undelivered);
    }
}
