//! Pulls that become pops: they receive messages of the whole topic, which the client gets as messages of the queue
//! that it pulls.

use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use super::super::answer::{Answered, Refusal};
use super::super::log_position;
use super::super::request::Request;
use super::consume_mode::pull_is_pop;
use super::give_back::{
    Settler, acknowledge_before, give_back_undelivered, spawn_sweeper, truncate_to_answer,
};
use super::ledger::{BrokerQueue, ClientQueue, GroupTopic, PendingPull};
use super::offsets::committed_or_first;
use super::pull_request::{PullRequest, answer, nothing_new};
use super::queue_ledger::{FIRST_POSITION, HeldMessage};
use super::queue_names::{broker_of, queue_name};
use super::records;
use crate::processor::{GetGroupConfigCommand, LeasedDelivery, ReceiveCommand, Received};
use crate::remoting::response;

/// The first delay of a pull whose client has filled its window. Each pull commits what the client has consumed since
/// the last.
const FULL_DELAY: Duration = Duration::from_millis(25);
/// The first delay of a pull in a FIFO group whose client must settle messages of the queue first.
const BLOCKED_DELAY: Duration = Duration::from_millis(20);
/// The longest delay in both cases. The delay doubles with each pull.
const MAX_FULL_DELAY: Duration = Duration::from_secs(5);

/// Serves a pull from a position.
pub(super) async fn pull(request: Request, pull_request: PullRequest) -> Answered {
    if !pull_is_pop(&request.shared, &request.connection, &pull_request.group) {
        // The group's pulls are not pops any more. The client continues by offset.
        let broker = broker_of(&request, &pull_request.topic).await?;
        let queue = queue_name(&pull_request.topic, broker, pull_request.queue_id);
        let next = committed_or_first(&request, &pull_request.group, queue).await?;
        return Ok(answer(response::PULL_OFFSET_MOVED, next, next, next));
    }
    let at = GroupTopic { group: pull_request.group.clone(), topic: pull_request.topic.clone() };
    let queue = BrokerQueue { broker: pull_request.broker.clone(), id: pull_request.queue_id };
    let queue = ClientQueue { at, queue };
    let state = &request.connection.consumer_state;
    if let Some(before) = pull_request.committed {
        acknowledge_before(&request, &queue, before);
    }
    let wanted = usize::try_from(pull_request.max)
        .unwrap_or_default()
        .min(request.shared.processor.limits().receive_batch);
    let arrived = Instant::now();
    let begun = state.ledgers.lock().begin_pull(&queue, pull_request.from, arrived);
    let Some(mut pull) = begun else {
        return Ok(nothing_new(pull_request.from, FIRST_POSITION, pull_request.from));
    };
    spawn_sweeper(&request.shared, &request.connection);
    let freed = std::mem::take(&mut pull.freed);
    if !freed.is_empty() {
        let settler = Settler::new(&request.shared, &request.connection);
        tokio::spawn(async move { settler.give_back(vec![(queue.at, freed)]).await });
    }
    let mut guard = PullGuard { request: &request, pull };
    if guard.is_blocked().await? {
        guard.wait_for_settling(BLOCKED_DELAY, &pull_request).await;
        return Ok(nothing_new(pull_request.from, FIRST_POSITION, pull_request.from));
    }
    let Some(receive_lock) = guard.receive_lock(pull_request.wait).await else {
        return Ok(nothing_new(pull_request.from, FIRST_POSITION, pull_request.from));
    };
    state.ledgers.lock().reserve(&mut guard.pull, wanted);
    if guard.pull.reserved == 0 {
        // Lets the client's other pulls be answered as well: its next pulls commit what it has consumed.
        drop(receive_lock);
        guard.wait_for_settling(FULL_DELAY, &pull_request).await;
        return Ok(nothing_new(pull_request.from, FIRST_POSITION, pull_request.from));
    }
    let wait = pull_request.wait.saturating_sub(arrived.elapsed());
    guard.receive(PullRequest { wait, ..pull_request }, receive_lock).await
}

/// A pull in progress. Ends it in the ledger when dropped.
struct PullGuard<'a> {
    request: &'a Request,
    pull: PendingPull,
}

impl PullGuard<'_> {
    /// Waits until no other pull of the client receives from the broker. `None` if that takes longer than `wait`.
    async fn receive_lock(&self, wait: Duration) -> Option<OwnedMutexGuard<()>> {
        tokio::select! {
            biased;
            lock = self.pull.receive_lock.clone().lock_owned() => Some(lock),
            () = self.request.connection.closing().cancelled() => None,
            () = tokio::time::sleep(wait) => None,
        }
    }

    /// Whether the pull can't return messages before the client has settled those of the queue that it holds, because
    /// the group is configured as FIFO. The client commits them with its next pull.
    async fn is_blocked(&self) -> Result<bool, Refusal> {
        let queue = &self.pull.queue;
        if !self.request.connection.consumer_state.ledgers.lock().holds(queue) {
            return Ok(false);
        }
        let group = GetGroupConfigCommand { group: queue.at.group.clone() };
        Ok(self.request.run_uncounted(group).await?.fifo)
    }

    /// Waits until the client has settled messages, or for a delay that doubles with each pull in vain.
    async fn wait_for_settling(&self, first: Duration, pull_request: &PullRequest) {
        let connection = &self.request.connection;
        let full_pulls = connection.consumer_state.ledgers.lock().count_full_pull(&self.pull.queue.at);
        let delay = first.saturating_mul(1 << full_pulls.min(8)).min(MAX_FULL_DELAY).min(pull_request.wait);
        tokio::select! {
            () = connection.consumer_state.settled.notified() => {}
            () = connection.closing().cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }

    /// Receives messages, and adds them to the ledger.
    async fn receive(self, pull_request: PullRequest, receive_lock: OwnedMutexGuard<()>) -> Answered {
        let from = pull_request.from;
        let nothing = || nothing_new(from, FIRST_POSITION, from);
        // Queried before the receive: after it, a cancelled request would leave the messages leased.
        let cluster = records::cluster_of(self.request, &pull_request.topic).await;
        let receive = ReceiveCommand {
            topic: pull_request.topic,
            group: pull_request.group,
            broker: Some(pull_request.broker).filter(|broker| !broker.is_empty()),
            expression: pull_request.expression,
            batch_size: i32::try_from(self.pull.reserved).unwrap_or(i32::MAX),
            invisible_ms: 0,
            auto_renew: true,
            polling_ms: Some(i64::try_from(pull_request.wait.as_millis()).unwrap_or(i64::MAX)),
            attempt_id: None,
        };
        let received = tokio::select! {
            biased;
            received = self.request.run(receive) => received?,
            () = self.request.connection.closing().cancelled() => return Ok(nothing()),
        };
        drop(receive_lock);
        let leased = match received {
            Received::Messages(leased) => leased,
            Received::NoMatch => {
                return Ok(answer(response::PULL_RETRY_IMMEDIATELY, from, FIRST_POSITION, from));
            }
            Received::Nothing => return Ok(nothing()),
        };
        let at = &self.pull.queue.at;
        let leased = truncate_to_answer(self.request, at, leased).await?;
        if leased.is_empty() {
            return Ok(nothing());
        }
        let held = leased.iter().map(held).collect();
        let first = {
            let mut ledgers = self.request.connection.consumer_state.ledgers.lock();
            ledgers.hand_out(&self.pull, held, Instant::now())
        };
        let Some(first) = first else {
            give_back_undelivered(self.request, at, leased);
            return Ok(nothing());
        };
        let mut position = first;
        let deliveries = leased.iter().map(|leased| &leased.delivery);
        let body = records::encode(self.request, &cluster, deliveries, |record| {
            record.queue_id = self.pull.queue.queue.id;
            record.queue_offset = position;
            position += 1;
        });
        Ok(answer(response::SUCCESS, position, FIRST_POSITION, position).body(body))
    }
}

impl Drop for PullGuard<'_> {
    fn drop(&mut self) {
        self.request.connection.consumer_state.ledgers.lock().end_pull(&self.pull, Instant::now());
    }
}

/// The ledger's entry for a delivery.
fn held(leased: &LeasedDelivery) -> HeldMessage {
    let LeasedDelivery { delivery, handle } = leased;
    HeldMessage {
        handle: handle.clone(),
        message_id: delivery.message.id.clone(),
        log_position: log_position::of(delivery),
        attempt: delivery.attempt,
        bytes: delivery.message.body.len(),
        pull: 0,
    }
}
