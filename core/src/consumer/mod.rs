//! What simple and push consumers share: polls, subscriptions, leases, and the requests that settle deliveries.

mod forward_to_dead_letter;
mod invisible_duration_change;
mod leases;
mod poller;
mod settle;
mod subscriptions;

pub(crate) use self::{
    forward_to_dead_letter::ForwardToDeadLetter,
    invisible_duration_change::InvisibleDurationChange,
    leases::Leases,
    poller::{LONGEST_POLL, Poller, SHORTEST_POLL},
    settle::{AckBatcher, Destination, ack_with_callback, batcher_for, queue_ack, submit_ack},
    subscriptions::{Subscribed, Subscriptions},
};
