//! Acknowledges the messages that a client has consumed, and gives back those that it does not consume any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;

use super::super::answer::Refusal;
use super::super::answer_bodies::{AnswerBodies, Fit};
use super::super::client_connection::ClientConnection;
use super::super::request::Request;
use super::super::shared::Shared;
use super::ledger::{ClientQueue, GroupTopic};
use super::queue_ledger::{FreedMessages, HeldMessage};
use crate::context::{Context, WireProtocol};
use crate::error::{Error, ErrorKind};
use crate::processor::{
    AckCommand, AckEntry, ChangeInvisibleCommand, ForwardCommand, LeasedDelivery, Undelivered,
};

/// How often the ledgers of a connection are swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long after a client has left a group its messages are given back.
const GIVE_BACK_DELAY: Duration = Duration::from_secs(1);
/// Concurrent changes of leases for one connection.
const MAX_CONCURRENT_CHANGES: usize = 16;
/// The maximum number of acknowledgements in one command.
const MAX_ACKS: usize = 64;

/// Settles messages on behalf of a client. What fails is put back into the ledgers, and tried again with the client's
/// next commit or the next sweep: until then the proxy renews the lease.
#[derive(Clone)]
pub(super) struct Settler {
    shared: Arc<Shared>,
    connection: Arc<ClientConnection>,
    context: Context,
}

impl Settler {
    pub(super) fn new(shared: &Arc<Shared>, connection: &Arc<ClientConnection>) -> Self {
        let client = connection.client();
        let client_id = if client.id.is_empty() { &**connection.peer() } else { &*client.id };
        Self {
            shared: shared.clone(),
            connection: connection.clone(),
            context: Context::of_connection(WireProtocol::Remoting, client_id, connection.peer()),
        }
    }

    /// Makes messages visible again. This delivery counts as an attempt for those that the client may have begun to
    /// consume. Acknowledges those that it has consumed.
    pub(super) async fn give_back(&self, freed: Vec<(GroupTopic, FreedMessages)>) {
        for (at, FreedMessages { consumed, maybe_begun, untouched }) in freed {
            let failed = FreedMessages {
                consumed: self.try_acknowledge(&at, consumed).await,
                maybe_begun: self.try_give_back(&at, maybe_begun, Attempt::Counts).await,
                untouched: self.try_give_back(&at, untouched, Attempt::DoesNotCount).await,
            };
            self.put_back(at, failed).await;
        }
    }

    /// Acknowledges messages.
    pub(super) async fn acknowledge(&self, at: GroupTopic, consumed: Vec<HeldMessage>) {
        let consumed = self.try_acknowledge(&at, consumed).await;
        self.put_back(at, FreedMessages { consumed, ..FreedMessages::default() }).await;
    }

    /// Moves a message to the dead letters of its group.
    pub(super) async fn forward_to_dead_letters(&self, at: GroupTopic, leased: LeasedDelivery) {
        let LeasedDelivery { delivery, handle } = leased;
        let GroupTopic { group, topic } = at;
        let entry = AckEntry { handle, message_id: delivery.message.id, lite_topic: None };
        let forward = ForwardCommand { topic: topic.clone(), group: group.clone(), entry };
        if let Err(error) = self.shared.processor.run(&self.context_now(), forward).await {
            tracing::warn!(topic, group, %error, "failed to move a message to the dead letters: it will be delivered again");
        }
    }

    /// Returns the messages that are to be tried again.
    async fn try_acknowledge(&self, at: &GroupTopic, consumed: Vec<HeldMessage>) -> Vec<HeldMessage> {
        let mut failed = Vec::new();
        let mut consumed = consumed.into_iter();
        loop {
            let batch: Vec<_> = consumed.by_ref().take(MAX_ACKS).collect();
            if batch.is_empty() {
                return failed;
            }
            let entries = batch.iter().map(ack_entry).collect();
            let ack = AckCommand { topic: at.topic.clone(), group: at.group.clone(), entries };
            let results = match self.shared.processor.run(&self.context_now(), ack).await {
                Ok(results) => results,
                Err(error) => vec![Err(error); batch.len()],
            };
            let results = batch.into_iter().zip(results);
            failed.extend(results.filter_map(|(held, result)| to_try_again(at, held, result)));
        }
    }

    /// Returns the messages that are to be tried again.
    async fn try_give_back(
        &self,
        at: &GroupTopic,
        messages: Vec<HeldMessage>,
        attempt: Attempt,
    ) -> Vec<HeldMessage> {
        let changes = stream::iter(messages).map(|held| async move {
            let change = ChangeInvisibleCommand {
                topic: at.topic.clone(),
                group: at.group.clone(),
                entry: ack_entry(&held),
                invisible_ms: 0,
                suspend: attempt == Attempt::DoesNotCount,
            };
            let changed = self.shared.processor.run(&self.context_now(), change).await;
            to_try_again(at, held, changed.map(drop))
        });
        let failed = changes.buffer_unordered(MAX_CONCURRENT_CHANGES);
        failed.filter_map(std::future::ready).collect().await
    }

    /// Puts messages that could not be settled back into the ledgers. When the connection is closed, nobody tries them
    /// again: their leases expire, as the proxy does not renew them any more.
    async fn put_back(&self, at: GroupTopic, messages: FreedMessages) {
        if messages.is_empty() {
            return;
        }
        let ledgers = &self.connection.consumer_state.ledgers;
        ledgers.lock().put_back(at, messages);
        if self.connection.closed().is_cancelled() {
            let unsettled = ledgers.lock().take_unsettled();
            for held in unsettled {
                self.shared.processor.stop_renewing(&held.handle).await;
            }
        }
    }

    /// The context of a command that begins now.
    fn context_now(&self) -> Context {
        Context { received: Instant::now(), ..self.context.clone() }
    }
}

/// Whether a delivery that is given back counts as an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Counts,
    DoesNotCount,
}

fn ack_entry(held: &HeldMessage) -> AckEntry {
    AckEntry { handle: held.handle.clone(), message_id: held.message_id.clone(), lite_topic: None }
}

/// Returns a message that could not be settled, unless it never can be: then it is delivered again when its lease
/// expires.
fn to_try_again(at: &GroupTopic, held: HeldMessage, result: Result<(), Error>) -> Option<HeldMessage> {
    let GroupTopic { group, topic } = at;
    let error = result.err()?;
    let is_final =
        matches!(error.kind, ErrorKind::InvalidHandle | ErrorKind::TopicNotFound | ErrorKind::GroupNotFound);
    let id = &held.message_id;
    if is_final {
        tracing::debug!(topic, group, id, %error, "failed to settle a message: it will be delivered again");
    } else {
        tracing::debug!(topic, group, id, %error, "failed to settle a message: the proxy will try again");
    }
    (!is_final).then_some(held)
}

/// Messages under leases that are not in an answer yet. Gives them back when dropped, for example because the request
/// is cancelled.
struct Unsent<'a> {
    request: &'a Request,
    at: &'a GroupTopic,
    leased: Vec<LeasedDelivery>,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        give_back_undelivered(self.request, self.at, std::mem::take(&mut self.leased));
    }
}

/// Returns the messages of a group and topic that fit into one answer, with decompressed bodies, and gives back the
/// others. Messages that are too long for any answer become dead letters.
///
/// # Errors
/// `SYSTEM_BUSY` if there is no memory for any of them.
pub(super) async fn truncate_to_answer(
    request: &Request,
    at: &GroupTopic,
    leased: Vec<LeasedDelivery>,
) -> Result<Vec<LeasedDelivery>, Refusal> {
    let mut unsent = Unsent { request, at, leased };
    let mut bodies = AnswerBodies::new(&request.charge);
    let mut fitting = 0;
    while let Some(next) = unsent.leased.get_mut(fitting) {
        match bodies.add(&mut next.delivery.message).await? {
            Fit::Fits => fitting += 1,
            Fit::Later => break,
            Fit::Never => {
                let too_long = unsent.leased.remove(fitting);
                tracing::warn!(
                    topic = at.topic,
                    group = at.group,
                    id = too_long.delivery.message.id,
                    "a message is too long for classic clients: it is moved to the dead letters"
                );
                let settler = Settler::new(&request.shared, &request.connection);
                let at = at.clone();
                tokio::spawn(async move { settler.forward_to_dead_letters(at, too_long).await });
            }
        }
    }
    let others = unsent.leased.split_off(fitting);
    give_back_undelivered(request, at, others);
    Ok(std::mem::take(&mut unsent.leased))
}

/// Gives back messages of a group and topic that are not sent to the client.
pub(super) fn give_back_undelivered(request: &Request, at: &GroupTopic, deliveries: Vec<LeasedDelivery>) {
    if deliveries.is_empty() {
        return;
    }
    let processor = request.shared.processor.clone();
    let GroupTopic { group, topic } = at.clone();
    let undelivered = Undelivered { topic, group, deliveries };
    tokio::spawn(async move { processor.give_back(undelivered).await });
}

/// Spawns a task that sweeps the ledgers of a connection, unless there is one. It gives back all messages when the
/// connection is closed.
pub(super) fn spawn_sweeper(shared: &Arc<Shared>, connection: &Arc<ClientConnection>) {
    if connection.consumer_state.is_swept.swap(true, Ordering::AcqRel) {
        return;
    }
    let (shared, connection) = (shared.clone(), connection.clone());
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        while connection.closed().run_until_cancelled(ticks.tick()).await.is_some() {
            let freed = connection.consumer_state.ledgers.lock().sweep(Instant::now());
            if !freed.is_empty() {
                connection.consumer_state.settled.notify_waiters();
                Settler::new(&shared, &connection).give_back(freed).await;
            }
        }
        let freed = connection.consumer_state.ledgers.lock().free_group(None);
        Settler::new(&shared, &connection).give_back(freed).await;
    });
}

/// Acknowledges the messages before a position, which the client has consumed.
pub(super) fn acknowledge_before(request: &Request, queue: &ClientQueue, before: i64) {
    let state = &request.connection.consumer_state;
    let consumed = state.ledgers.lock().commit(queue, before, Instant::now());
    if consumed.is_empty() {
        return;
    }
    state.settled.notify_waiters();
    let (settler, at) = (Settler::new(&request.shared, &request.connection), queue.at.clone());
    // The task continues if the connection is closed.
    tokio::spawn(async move { settler.acknowledge(at, consumed).await });
}

/// Gives back the messages that a client holds in a group, after it has left the group or closed its connection.
pub(in super::super) fn on_group_left(shared: &Arc<Shared>, connection: &Arc<ClientConnection>, group: &str) {
    connection.consumer_state.forget_mode(group);
    let (settler, connection, group) =
        (Settler::new(shared, connection), connection.clone(), group.to_owned());
    tokio::spawn(async move {
        // Requests of a connection run concurrently. Commits that the client has sent before may still be in progress.
        connection.closed().run_until_cancelled(tokio::time::sleep(GIVE_BACK_DELAY)).await;
        if connection.consumer(&group).is_none() {
            let freed = connection.consumer_state.ledgers.lock().free_group(Some(&group));
            settler.give_back(freed).await;
        }
    });
}
