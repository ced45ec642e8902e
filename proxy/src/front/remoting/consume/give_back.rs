//! Acknowledges the messages that a client has consumed, and gives back those that it does not consume any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;

use super::super::Shared;
use super::super::request::Request;
use super::super::session::Session;
use super::ledger::GroupTopic;
use super::queue_ledger::{FreedMessages, HeldMessage};
use super::records;
use crate::context::{Context, WireProtocol};
use crate::processor::{AckCommand, AckEntry, ChangeCommand, LeasedDelivery, Undelivered};

/// How often the ledgers of a connection are swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Concurrent changes of leases for one connection.
const MAX_CONCURRENT_CHANGES: usize = 16;
/// The most acknowledgements in one command.
const MAX_ACKS: usize = 64;

/// Settles messages on behalf of a client.
#[derive(Clone)]
pub(super) struct Settler {
    shared: Arc<Shared>,
    context: Context,
}

impl Settler {
    pub(super) fn new(shared: &Arc<Shared>, session: &Session) -> Self {
        let client = session.client();
        let client_id = if client.id.is_empty() { &**session.peer() } else { &*client.id };
        Self {
            shared: shared.clone(),
            context: Context::of_connection(WireProtocol::Remoting, client_id, session.peer()),
        }
    }

    /// Makes messages visible again. This delivery counts as an attempt for those that the client may have begun to
    /// consume.
    pub(super) async fn give_back(&self, freed: Vec<(GroupTopic, FreedMessages)>) {
        let entries = freed.into_iter().flat_map(|(at, freed)| {
            let FreedMessages { maybe_begun, untouched } = freed;
            let begun = maybe_begun.into_iter().map(|held| (held, false));
            let all = begun.chain(untouched.into_iter().map(|held| (held, true)));
            all.map(move |(held, suspend)| (at.clone(), held, suspend)).collect::<Vec<_>>()
        });
        let changes = stream::iter(entries).map(|(at, held, suspend)| self.give_back_one(at, held, suspend));
        changes.buffer_unordered(MAX_CONCURRENT_CHANGES).collect::<()>().await;
    }

    async fn give_back_one(&self, GroupTopic { group, topic }: GroupTopic, held: HeldMessage, suspend: bool) {
        let entry = AckEntry { handle: held.handle, message_id: held.message_id, lite_topic: None };
        let change =
            ChangeCommand { topic: topic.clone(), group: group.clone(), entry, invisible_ms: 0, suspend };
        if let Err(error) = self.shared.processor.run(&self.context_now(), change).await {
            tracing::debug!(topic, group, %error, "failed to give back a message: it stays invisible until its lease expires");
        }
    }

    /// Acknowledges messages.
    pub(super) async fn acknowledge(
        &self,
        GroupTopic { group, topic }: GroupTopic,
        consumed: Vec<HeldMessage>,
    ) {
        let mut entries = consumed.into_iter().map(|held| AckEntry {
            handle: held.handle,
            message_id: held.message_id,
            lite_topic: None,
        });
        loop {
            let batch: Vec<_> = entries.by_ref().take(MAX_ACKS).collect();
            if batch.is_empty() {
                return;
            }
            let ack = AckCommand { topic: topic.clone(), group: group.clone(), entries: batch };
            let failed = match self.shared.processor.run(&self.context_now(), ack).await {
                Ok(results) => results.into_iter().find_map(Result::err),
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                tracing::debug!(topic, group, %error, "failed to acknowledge messages: they will be delivered again");
            }
        }
    }

    /// The context of a command that begins now.
    fn context_now(&self) -> Context {
        Context { received: Instant::now(), ..self.context.clone() }
    }
}

/// Truncates the messages of a group and topic to those that fit into one answer, and gives back the others.
pub(super) fn truncate_to_answer(request: &Request, names: (&str, &str), leased: &mut Vec<LeasedDelivery>) {
    let fitting = records::count_fitting(leased.iter().map(|leased| &leased.delivery));
    let excess = leased.split_off(fitting.min(leased.len()));
    give_back_undelivered(request, names, excess);
}

/// Gives back messages of a group and topic that are not sent to the client.
pub(super) fn give_back_undelivered(
    request: &Request,
    (group, topic): (&str, &str),
    deliveries: Vec<LeasedDelivery>,
) {
    if deliveries.is_empty() {
        return;
    }
    let processor = request.shared.processor.clone();
    let undelivered = Undelivered { topic: topic.to_owned(), group: group.to_owned(), deliveries };
    tokio::spawn(async move { processor.give_back(undelivered).await });
}

/// Spawns a task that sweeps the ledgers of a connection, unless there is one. It gives back all messages when the
/// connection is closed.
pub(super) fn spawn_sweeper(shared: &Arc<Shared>, session: &Arc<Session>) {
    if session.consumer_state.is_swept.swap(true, Ordering::AcqRel) {
        return;
    }
    let (shared, session) = (shared.clone(), session.clone());
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        while session.closed().run_until_cancelled(ticks.tick()).await.is_some() {
            let freed = session.consumer_state.ledgers.lock().sweep(Instant::now());
            if !freed.is_empty() {
                session.consumer_state.settled.notify_waiters();
                Settler::new(&shared, &session).give_back(freed).await;
            }
        }
        let freed = session.consumer_state.ledgers.lock().free_group(None);
        Settler::new(&shared, &session).give_back(freed).await;
    });
}
