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
mod consume_rate;
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
mod queue_ledger;
mod records;
mod send_back;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(super) use assignment::{RequestModes, set_request_mode};
pub(super) use ledger::GroupTopic;
pub(super) use offsets::broker_of;

use super::heartbeat::{ConsumeType, MessageModel};
use super::request::{Answered, Request};
use super::session::Session;
use super::{Shared, members};
use crate::front::port::ConnectionBudget;
use crate::remoting::request;
use handle_cache::HandleCache;
use ledger::Ledgers;

/// The soft state of the consumers of one connection.
pub(super) struct ConsumerState {
    ledgers: Mutex<Ledgers>,
    handles: Mutex<HandleCache>,
    /// How the client consumes in its groups. A group that the client has not queried is missing.
    modes: Mutex<BTreeMap<String, ConsumeMode>>,
    /// Notifies waiting pulls that the client has settled messages.
    settled: Notify,
    /// Whether a task sweeps the ledgers.
    is_swept: AtomicBool,
}

/// How a client consumes in a group. A heartbeat does not contain this. It is derived from the client's requests for
/// its first queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ConsumeMode {
    /// The client has queried the members of the group, but not requested a queue yet.
    Unknown,
    /// The client queries offsets without a lock. In a group that is configured as FIFO, clients in order do the same.
    Concurrently,
    /// The client locks its queues.
    InOrder,
}

/// How long after a client has left a group its messages are given back.
const GIVE_BACK_DELAY: Duration = Duration::from_secs(1);
/// The most groups of one connection whose consume modes are recorded.
const MAX_MODES: usize = 1024;

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

/// Gives back the messages that a client holds in a group, after it has left the group or closed its connection.
pub(super) fn on_group_left(shared: &Arc<Shared>, session: &Arc<Session>, group: &str) {
    session.consumer_state.modes.lock().remove(group);
    let (settler, session, group) =
        (give_back::Settler::new(shared, session), session.clone(), group.to_owned());
    tokio::spawn(async move {
        // Requests of a connection run concurrently. Commits that the client has sent before may still be in progress.
        session.closed().run_until_cancelled(tokio::time::sleep(GIVE_BACK_DELAY)).await;
        if session.consumer(&group).is_none() {
            let freed = session.consumer_state.ledgers.lock().free_group(Some(&group));
            settler.give_back(freed).await;
        }
    });
}

/// Whether a client's pulls in a group become pops.
///
/// As soon as its consume mode is known, such a client gets a list of members with its own id alone, and pulls all
/// queues of a topic. Each pull returns messages of the whole topic. So a topic with one queue serves any number of
/// clients, and no queue is reassigned when a client comes or goes.
pub(super) fn pull_is_pop(shared: &Shared, session: &Session, group: &str) -> bool {
    let Some(consumer) = session.consumer(group) else { return false };
    consumer.consume_type == ConsumeType::Passively
        && consumer.model == MessageModel::Clustering
        && session.consumer_state.mode(group) != Some(ConsumeMode::InOrder)
        && !reads_by_offset(shared, group)
}

/// Whether the group is in `remoting.pull_by_offset`, so that its push consumers read by offset.
pub(super) fn reads_by_offset(shared: &Shared, group: &str) -> bool {
    is_listed(&shared.config.pull_by_offset, group)
}

impl ConsumerState {
    /// Creates the state of a new connection. The handles that it stores are charged to this budget.
    pub(super) fn new(budget: Arc<ConnectionBudget>) -> Self {
        Self {
            ledgers: Mutex::default(),
            handles: Mutex::new(HandleCache::new(budget)),
            modes: Mutex::default(),
            settled: Notify::new(),
            is_swept: AtomicBool::new(false),
        }
    }

    fn mode(&self, group: &str) -> Option<ConsumeMode> {
        self.modes.lock().get(group).copied()
    }

    /// Records how the client consumes in a group. [`ConsumeMode::Unknown`] does not replace a known mode. Returns the
    /// previous mode.
    fn set_mode(&self, group: &str, mode: ConsumeMode) -> Option<ConsumeMode> {
        let mut modes = self.modes.lock();
        let before = modes.get(group).copied();
        if before.is_none_or(|_| mode != ConsumeMode::Unknown)
            && (before.is_some() || modes.len() < MAX_MODES)
        {
            modes.insert(group.to_owned(), mode);
        }
        before
    }
}

/// Whether a client gets a list of members with its own id alone, because pulls are pops in its group. All members of a
/// group consume in the same mode, so the known mode of one of them counts for all. If no mode is known, a client that
/// queries the members again gets the list, because its first query did not assign it any queue.
pub(super) fn is_listed_alone(shared: &Shared, session: &Session, group: &str) -> bool {
    if !pull_is_pop(shared, session, group) {
        return false;
    }
    let queried_before = session.consumer_state.set_mode(group, ConsumeMode::Unknown).is_some();
    let mut modes =
        shared.members.of(group).into_iter().filter_map(|member| member.session.consumer_state.mode(group));
    match modes.find(|mode| *mode != ConsumeMode::Unknown) {
        Some(mode) => mode == ConsumeMode::Concurrently,
        None => queried_before,
    }
}

/// Records how a client consumes in a group. When the first member consumes concurrently, all members are notified, so
/// that they query the list of members again.
fn note_consume_mode(request: &Request, group: &str, mode: ConsumeMode) {
    let members = || request.shared.members.of(group).into_iter();
    let known = || members().any(|member| member.session.consumer_state.mode(group) == Some(mode));
    let is_first = request.session.consumer_state.mode(group) != Some(mode)
        && mode == ConsumeMode::Concurrently
        && !known();
    request.session.consumer_state.set_mode(group, mode);
    if is_first {
        members().for_each(|member| members::notify_members_changed(&member.session, group));
    }
}

/// Whether a list contains a group, by its name or by a prefix followed by `*`.
fn is_listed(list: &[String], group: &str) -> bool {
    list.iter().any(|entry| match entry.strip_suffix('*') {
        Some(prefix) => group.starts_with(prefix),
        None => entry == group,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_listed_by_name_or_prefix() {
        let list = ["g".to_owned(), "orders-*".to_owned()];
        for (group, listed) in [("g", true), ("gg", false), ("orders-1", true), ("orders", false)] {
            assert_eq!(is_listed(&list, group), listed, "{group}");
        }
        assert!(is_listed(&["*".to_owned()], "any"));
    }
}
