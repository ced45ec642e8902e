//! Gives back what a client does not consume any more, and acknowledges what it has consumed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;

use super::super::Shared;
use super::super::request::Request;
use super::super::session::Session;
use super::ledger::GroupTopic;
use super::queue_ledger::{Freed, Held};
use super::records;
use crate::context::{Context, WireProtocol};
use crate::processor::{AckCommand, AckEntry, ChangeCommand, LeasedDelivery, Undelivered};

/// How often the ledgers of a connection are checked.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Changes of leases that are under way at once, for one connection.
const AT_ONCE: usize = 16;
/// Acknowledgements in one request.
const ACKS: usize = 64;

/// Settles messages in the name of a client.
#[derive(Clone)]
pub(super) struct Giver {
    shared: Arc<Shared>,
    context: Context,
}

impl Giver {
    pub(super) fn new(shared: &Arc<Shared>, session: &Session) -> Self {
        let client = session.client();
        let client_id = if client.id.is_empty() { &**session.peer() } else { &*client.id };
        Self {
            shared: shared.clone(),
            context: Context::of_connection(WireProtocol::Remoting, client_id, session.peer()),
        }
    }

    /// Makes messages visible again. Those that the client may have begun count as delivered.
    pub(super) async fn give_back(&self, freed: Vec<(GroupTopic, Freed)>) {
        let entries = freed.into_iter().flat_map(|(at, freed)| {
            let Freed { maybe_begun, untouched } = freed;
            let begun = maybe_begun.into_iter().map(|held| (held, false));
            let all = begun.chain(untouched.into_iter().map(|held| (held, true)));
            all.map(move |(held, suspend)| (at.clone(), held, suspend)).collect::<Vec<_>>()
        });
        let given = stream::iter(entries).map(|(at, held, suspend)| self.give_back_one(at, held, suspend));
        given.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn give_back_one(&self, GroupTopic { group, topic }: GroupTopic, held: Held, suspend: bool) {
        let entry = AckEntry { handle: held.handle, message_id: held.message_id, lite_topic: None };
        let change =
            ChangeCommand { topic: topic.clone(), group: group.clone(), entry, invisible_ms: 0, suspend };
        if let Err(error) = self.shared.processor.run(&self.now(), change).await {
            tracing::debug!(topic, group, %error, "a message stays invisible until its lease ends");
        }
    }

    /// Acknowledges messages.
    pub(super) async fn acknowledge(&self, GroupTopic { group, topic }: GroupTopic, consumed: Vec<Held>) {
        let mut entries = consumed.into_iter().map(|held| AckEntry {
            handle: held.handle,
            message_id: held.message_id,
            lite_topic: None,
        });
        loop {
            let some: Vec<_> = entries.by_ref().take(ACKS).collect();
            if some.is_empty() {
                return;
            }
            let ack = AckCommand { topic: topic.clone(), group: group.clone(), entries: some };
            let failed = match self.shared.processor.run(&self.now(), ack).await {
                Ok(results) => results.into_iter().find_map(Result::err),
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                tracing::debug!(topic, group, %error, "messages that were consumed will be delivered again");
            }
        }
    }

    fn now(&self) -> Context {
        Context { received: Instant::now(), ..self.context.clone() }
    }
}

/// Keeps of the messages of a group and topic what fits into one answer, and gives the rest back.
pub(super) fn keep_fitting(request: &Request, names: (&str, &str), leased: &mut Vec<LeasedDelivery>) {
    let fitting = records::fitting(leased.iter().map(|leased| &leased.delivery));
    let excess = leased.split_off(fitting.min(leased.len()));
    undelivered(request, names, excess);
}

/// Gives back messages of a group and topic that do not reach the client.
pub(super) fn undelivered(request: &Request, (group, topic): (&str, &str), deliveries: Vec<LeasedDelivery>) {
    if deliveries.is_empty() {
        return;
    }
    let processor = request.shared.processor.clone();
    let undelivered = Undelivered { topic: topic.to_owned(), group: group.to_owned(), deliveries };
    tokio::spawn(async move { processor.give_back(undelivered).await });
}

/// Watches over what a connection holds, until it is gone: then everything is given back.
pub(super) fn watch(shared: &Arc<Shared>, session: &Arc<Session>) {
    if session.consuming.watched.swap(true, Ordering::AcqRel) {
        return;
    }
    let (shared, session) = (shared.clone(), session.clone());
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(CHECK_EVERY);
        while session.closed().run_until_cancelled(ticks.tick()).await.is_some() {
            let freed = session.consuming.ledgers.lock().sweep(Instant::now());
            if !freed.is_empty() {
                session.consuming.room.notify_waiters();
                Giver::new(&shared, &session).give_back(freed).await;
            }
        }
        let freed = session.consuming.ledgers.lock().leave(None);
        Giver::new(&shared, &session).give_back(freed).await;
    });
}
