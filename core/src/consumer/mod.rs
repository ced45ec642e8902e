//! What simple and push consumers share: polls, subscriptions, leases, and the requests that settle deliveries.

mod change;
mod dead_letter;
mod leases;
mod poller;
mod settle;
mod subscriptions;

pub(crate) use self::{
    change::Change,
    dead_letter::DeadLetter,
    leases::Leases,
    poller::{LONGEST_POLL, Poller, SHORTEST_POLL},
    settle::{AckBatcher, Destination, ack_with_callback, batcher_for, queue_ack, submit_ack},
    subscriptions::{Subscribed, Subscriptions},
};
