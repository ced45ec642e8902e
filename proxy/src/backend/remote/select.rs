use std::sync::atomic::{AtomicUsize, Ordering};

use super::faults::Faults;
use super::topology::TopicRoute;

/// A queue to send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) broker: String,
    /// Where the broker's master is.
    pub(super) address: String,
    pub(super) id: i32,
}

/// All queues that can be written, in the order of Apache's proxy (broker name, then id): the order decides
/// where a message group goes, and must be the same on every proxy of a fleet.
pub(super) fn writable(route: &TopicRoute) -> Vec<Queue> {
    let mut queues: Vec<_> = route
        .queues
        .iter()
        .filter(|queues| queues.writable())
        .filter_map(|queues| Some((queues, route.broker(&queues.broker_name)?.master()?)))
        .flat_map(|(queues, address)| {
            (0..queues.write).map(|id| Queue {
                broker: queues.broker_name.clone(),
                address: address.to_owned(),
                id,
            })
        })
        .collect();
    queues.sort_by(|a, b| (&a.broker, a.id).cmp(&(&b.broker, b.id)));
    queues
}

/// The brokers that can be read, by name, with the address to read at.
pub(super) fn readable(route: &TopicRoute) -> Vec<(String, String)> {
    let mut brokers: Vec<_> = route
        .queues
        .iter()
        .filter(|queues| queues.readable() && queues.read > 0)
        .filter_map(|queues| {
            let address = route.broker(&queues.broker_name)?.readable_address()?;
            Some((queues.broker_name.clone(), address.to_owned()))
        })
        .collect();
    brokers.sort();
    brokers.dedup();
    brokers
}

/// Takes turns, and passes over brokers that are out as long as another is left.
#[derive(Default)]
pub(super) struct Turns(AtomicUsize);

impl Turns {
    pub(super) fn next<'a, T>(
        &self,
        choices: &'a [T],
        faults: &Faults,
        broker: impl Fn(&T) -> &str,
    ) -> Option<&'a T> {
        if choices.is_empty() {
            return None;
        }
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..choices.len()).map(|step| &choices[(turn.wrapping_add(step)) % choices.len()]);
        in_turn().find(|choice| !faults.is_out(broker(choice))).or_else(|| in_turn().next())
    }
}
