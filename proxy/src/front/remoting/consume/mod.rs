//! Requests of consumers: pulls that become pops, pulls by offset, pops, offsets, locks.
//!
//! **Pulls that become pops.** A push consumer in clustering mode that consumes concurrently queries the group's offset
//! in a queue ([`offsets`]), and gets a position far above all offsets of real queues. From there on it pulls
//! ([`pull_as_pop`]), and each pull takes messages of the whole topic under leases. The client's commits become
//! acknowledgements, and a message that it sends back ([`send_back`]) gets a longer lease. The positions of a client,
//! with the receipt handles of their messages, are soft state of its connection ([`ledger`]). Any proxy can tell
//! positions from offsets, so a client may continue at another proxy, or after a restart.
//!
//! **Pulls by offset.** All other consumers pull by offset: those in order, broadcasting consumers, pull consumers,
//! consumers of groups in `remoting.pull_by_offset`, and tools.

mod assignment;
mod consume_mode;
mod consume_rate;
mod consumer_state;
mod extra_info;
mod give_back;
mod handle_cache;
mod ledger;
mod locks;
mod offsets;
mod peek;
mod pop;
mod pop_settle;
mod pull;
mod pull_as_pop;
mod pull_request;
mod queue_ledger;
mod queue_names;
mod records;
mod request_modes;
mod send_back;

use std::ops::ControlFlow;

use futures::future::BoxFuture;

pub(super) use assignment::set_request_mode;
pub(super) use consume_mode::{is_listed_alone, pull_is_pop, reads_by_offset};
pub(super) use consumer_state::ConsumerState;
pub(super) use give_back::on_group_left;
pub(super) use ledger::GroupTopic;
pub(super) use queue_names::broker_of;
pub(super) use request_modes::RequestModes;

use super::answer::Answered;
use super::request::Request;
use crate::remoting::request;

/// Dispatches the requests of consumers. Returns any other request as `Continue`.
pub(super) fn dispatch(request: Request) -> ControlFlow<BoxFuture<'static, Answered>, Request> {
    ControlFlow::Break(match request.command.code {
        request::PULL_MESSAGE | request::LITE_PULL_MESSAGE => Box::pin(pull::pull(request)),
        request::QUERY_CONSUMER_OFFSET => Box::pin(offsets::query(request)),
        request::UPDATE_CONSUMER_OFFSET => Box::pin(offsets::update(request)),
        request::SEARCH_OFFSET_BY_TIMESTAMP => Box::pin(offsets::search(request)),
        request::GET_MAX_OFFSET => Box::pin(offsets::end(request)),
        request::GET_MIN_OFFSET => Box::pin(offsets::beginning(request)),
        request::CONSUMER_SEND_MSG_BACK => Box::pin(send_back::send_back(request)),
        request::LOCK_BATCH_MQ => Box::pin(locks::lock(request)),
        request::UNLOCK_BATCH_MQ => Box::pin(locks::unlock(request)),
        request::QUERY_ASSIGNMENT => Box::pin(assignment::query(request)),
        request::PEEK_MESSAGE => Box::pin(peek::peek(request)),
        request::POP_MESSAGE => Box::pin(pop::pop(request)),
        request::NOTIFICATION => Box::pin(pop::notification(request)),
        request::ACK_MESSAGE => Box::pin(pop_settle::acknowledge(request)),
        request::BATCH_ACK_MESSAGE => Box::pin(pop_settle::acknowledge_batch(request)),
        request::CHANGE_MESSAGE_INVISIBLE_TIME => Box::pin(pop_settle::change(request)),
        _ => return ControlFlow::Continue(request),
    })
}
