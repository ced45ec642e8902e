//! Consuming: pulls that become pops, pulls by offset, pops, offsets, locks.
//!
//! **Pull becomes pop.** A push consumer in clustering mode that consumes concurrently asks where a group is in a queue
//! ([`offsets`]), and is told a position far above all real offsets. From there on it pulls ([`pull`]), and each pull takes
//! messages of the whole topic under leases. What the client commits becomes acknowledgements, and what it sends back
//! ([`send_back`]) a longer lease. The positions that a client has, and the handles behind them, are kept for its
//! connection ([`ledger`]). An offset itself tells what it is, so this works at any proxy, and after any restart.
//!
//! All other consumers pull by offset: in order, broadcasting, by their own choice, of a group for which the operator has
//! switched it off, and tools.

mod assignment;
mod extra_info;
mod give_back;
mod kept_handles;
mod ledger;
mod locks;
mod offsets;
mod pace;
mod peek;
mod pop;
mod pop_settle;
mod popped;
mod pull;
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

use super::heartbeat::{ConsumeType, MessageModel};
use super::request::{Answered, Request};
use super::session::Session;
use super::{Shared, members};
use crate::front::port::ConnectionBudget;
use crate::remoting::request;
use kept_handles::KeptHandles;
use ledger::Ledgers;

/// The soft state of one connection.
pub(super) struct Consuming {
    ledgers: Mutex<Ledgers>,
    kept: Mutex<KeptHandles>,
    /// How the client consumes in its groups, as far as it shows.
    ways: Mutex<BTreeMap<String, Way>>,
    /// Signals that a client has settled messages.
    room: Notify,
    /// Whether a task watches over the ledgers.
    watched: AtomicBool,
}

/// How a client consumes in a group. Heartbeats don't tell, but the requests for the first queue that it takes do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It has asked who is in the group. If it has taken a queue by the next time, its way is known.
    Unknown,
    /// It asks where the group is in a queue. In a group that consumes in order by itself, members do the same.
    Concurrently,
    /// It locks a queue first.
    InOrder,
}

/// How long after a client has left a group the messages that it held go to others.
const LEAVING: Duration = Duration::from_secs(1);
/// Groups of one connection whose ways are known.
const MAX_WAYS: usize = 1024;

/// Dispatches the requests of consumers. Returns a request of another kind.
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

/// A client has left a group, or its connection is gone.
pub(super) fn left(shared: &Arc<Shared>, session: &Arc<Session>, group: &str) {
    session.consuming.ways.lock().remove(group);
    let (giver, session, group) = (give_back::Giver::new(shared, session), session.clone(), group.to_owned());
    tokio::spawn(async move {
        // Requests of a connection run side by side: commits that the client sent before may come later.
        session.closed().run_until_cancelled(tokio::time::sleep(LEAVING)).await;
        if session.consumer(&group).is_none() {
            let freed = session.consuming.ledgers.lock().leave(Some(&group));
            giver.give_back(freed).await;
        }
    });
}

/// Whether a pull of this client's becomes a pop.
///
/// Such a client is told that it is alone in its group as soon as its way is known, and takes all queues of a topic. Each
/// pull brings messages of the whole topic, so that a topic with one queue serves any number of clients, and no queue
/// changes hands when one comes or goes.
pub(super) fn pops(shared: &Shared, session: &Session, group: &str) -> bool {
    let Some(consumer) = session.consumer(group) else { return false };
    consumer.consume_type == ConsumeType::Passively
        && consumer.model == MessageModel::Clustering
        && session.consuming.way(group) != Some(Way::InOrder)
        && !reads_by_offset(shared, group)
}

/// Whether the push consumers of a group read by offset because the operator says so.
pub(super) fn reads_by_offset(shared: &Shared, group: &str) -> bool {
    is_listed(&shared.config.pull_by_offset, group)
}

impl Consuming {
    /// That of a new connection, whose requests take their memory from this budget.
    pub(super) fn new(budget: Arc<ConnectionBudget>) -> Self {
        Self {
            ledgers: Mutex::default(),
            kept: Mutex::new(KeptHandles::new(budget)),
            ways: Mutex::default(),
            room: Notify::new(),
            watched: AtomicBool::new(false),
        }
    }

    fn way(&self, group: &str) -> Option<Way> {
        self.ways.lock().get(group).copied()
    }

    /// Notes how the client consumes in a group, and returns what was known before. What has been shown is not forgotten for
    /// [`Way::Unknown`].
    fn shows(&self, group: &str, way: Way) -> Option<Way> {
        let mut ways = self.ways.lock();
        let before = ways.get(group).copied();
        if before.is_none_or(|_| way != Way::Unknown) && (before.is_some() || ways.len() < MAX_WAYS) {
            ways.insert(group.to_owned(), way);
        }
        before
    }
}

/// Whether a client is told that it is alone in its group, where pulls are pops. All members of a group consume in the same
/// way, so one that has shown it tells for all. A client that has taken no queue since it last asked did not get any.
pub(super) fn is_told_to_be_alone(shared: &Shared, session: &Session, group: &str) -> bool {
    if !pops(shared, session, group) {
        return false;
    }
    let asked_before = session.consuming.shows(group, Way::Unknown).is_some();
    let mut ways =
        shared.members.of(group).into_iter().filter_map(|member| member.session.consuming.way(group));
    match ways.find(|way| *way != Way::Unknown) {
        Some(way) => way == Way::Concurrently,
        None => asked_before,
    }
}

/// Notes how a client consumes. When the first member shows that it consumes concurrently, all of them ask again who is in
/// the group.
fn shows(request: &Request, group: &str, way: Way) {
    let members = || request.shared.members.of(group).into_iter();
    let known = || members().any(|member| member.session.consuming.way(group) == Some(way));
    let is_news = request.session.consuming.way(group) != Some(way) && way == Way::Concurrently && !known();
    request.session.consuming.shows(group, way);
    if is_news {
        members().for_each(|member| members::tell_changed(&member.session, group));
    }
}

/// Whether a list names a group, itself or by a prefix with a star.
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
