//! A pull that becomes a pop: it takes messages of the whole topic, and the client sees them as those of its queue.

use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use super::super::position;
use super::super::request::{Answered, Refusal, Request};
use super::give_back::{Giver, keep_fitting, undelivered, watch};
use super::ledger::{ClientQueue, GroupTopic, Pulling, Queue};
use super::pull::{Asked, answer, nothing_new};
use super::queue_ledger::{FIRST_POSITION, Held};
use super::{offsets, pops, records};
use crate::processor::{GroupCommand, LeasedDelivery, ReceiveCommand, Received};
use crate::remoting::response;

/// How long a pull waits at first, and at most, if the client holds as much as it may. Each pull brings what it has
/// consumed since.
const FULL_PAUSE: Duration = Duration::from_millis(25);
/// The same in a group that consumes in order, where nothing else can come before.
const HELD_BACK_PAUSE: Duration = Duration::from_millis(20);
const MAX_FULL_PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn pull(request: Request, asked: Asked) -> Answered {
    if !pops(&request.shared, &request.session, &asked.group) {
        // Pull is no pop for this group any more. The client goes on by offset.
        let broker = offsets::broker_of(&request, &asked.topic).await?;
        let queue = offsets::queue_name(&asked.topic, broker, asked.queue_id);
        let next = offsets::committed_or_first(&request, &asked.group, queue).await?;
        return Ok(answer(response::PULL_OFFSET_MOVED, next, next, next));
    }
    let at = GroupTopic { group: asked.group.clone(), topic: asked.topic.clone() };
    let queue = Queue { broker: asked.broker.clone(), id: asked.queue_id };
    let queue = ClientQueue { at, queue };
    let consuming = &request.session.consuming;
    if let Some(before) = asked.committed {
        commit(&request, &queue, before);
    }
    let wanted =
        usize::try_from(asked.max).unwrap_or_default().min(request.shared.processor.limits().receive_batch);
    let arrived = Instant::now();
    let begun = consuming.ledgers.lock().begin(&queue, asked.from, arrived);
    let Some(mut pulling) = begun else {
        return Ok(nothing_new(asked.from, FIRST_POSITION, asked.from));
    };
    watch(&request.shared, &request.session);
    let freed = std::mem::take(&mut pulling.freed);
    if !freed.is_empty() {
        let giver = Giver::new(&request.shared, &request.session);
        tokio::spawn(async move { giver.give_back(vec![(queue.at, freed)]).await });
    }
    let mut waiting = Waiting { request: &request, pulling };
    if waiting.is_held_back().await? {
        waiting.until_there_is_room(HELD_BACK_PAUSE, &asked).await;
        return Ok(nothing_new(asked.from, FIRST_POSITION, asked.from));
    }
    let Some(turn) = waiting.turn(asked.wait).await else {
        return Ok(nothing_new(asked.from, FIRST_POSITION, asked.from));
    };
    consuming.ledgers.lock().reserve(&mut waiting.pulling, wanted);
    if waiting.pulling.room == 0 {
        // The others find out, too: what they have consumed comes with their next pulls.
        drop(turn);
        waiting.until_there_is_room(FULL_PAUSE, &asked).await;
        return Ok(nothing_new(asked.from, FIRST_POSITION, asked.from));
    }
    let wait = asked.wait.saturating_sub(arrived.elapsed());
    waiting.receive(Asked { wait, ..asked }, turn).await
}

/// Acknowledges what the client has consumed.
pub(super) fn commit(request: &Request, queue: &ClientQueue, before: i64) {
    let consuming = &request.session.consuming;
    let consumed = consuming.ledgers.lock().commit(queue, before, Instant::now());
    if consumed.is_empty() {
        return;
    }
    consuming.room.notify_waiters();
    let (giver, at) = (Giver::new(&request.shared, &request.session), queue.at.clone());
    // A task of its own: it goes on if the connection ends.
    tokio::spawn(async move { giver.acknowledge(at, consumed).await });
}

/// A pull under way. However it ends, its room is there for others again.
struct Waiting<'a> {
    request: &'a Request,
    pulling: Pulling,
}

impl Waiting<'_> {
    /// Waits for the client's other pulls of the topic. `None` if that takes too long.
    async fn turn(&self, wait: Duration) -> Option<OwnedMutexGuard<()>> {
        tokio::select! {
            biased;
            turn = self.pulling.line.clone().lock_owned() => Some(turn),
            () = self.request.session.closing().cancelled() => None,
            () = tokio::time::sleep(wait) => None,
        }
    }

    /// Whether nothing can come before the client has told what it has consumed of this queue: in a group that consumes in
    /// order. It tells with its next pull.
    async fn is_held_back(&self) -> Result<bool, Refusal> {
        let queue = &self.pulling.queue;
        if !self.request.session.consuming.ledgers.lock().holds(queue) {
            return Ok(false);
        }
        let group = GroupCommand { group: queue.at.group.clone() };
        Ok(self.request.assist(group).await?.fifo)
    }

    async fn until_there_is_room(&self, first: Duration, asked: &Asked) {
        let session = &self.request.session;
        let full = session.consuming.ledgers.lock().full(&self.pulling.queue.at);
        let pause = first.saturating_mul(1 << full.min(8)).min(MAX_FULL_PAUSE).min(asked.wait);
        tokio::select! {
            () = session.consuming.room.notified() => {}
            () = session.closing().cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    async fn receive(self, asked: Asked, turn: OwnedMutexGuard<()>) -> Answered {
        let from = asked.from;
        let nothing = || nothing_new(from, FIRST_POSITION, from);
        // Not later: the messages would be lost to the client if it went away meanwhile.
        let cluster = records::cluster_of(self.request, &asked.topic).await;
        let receive = ReceiveCommand {
            topic: asked.topic,
            group: asked.group,
            broker: Some(asked.broker).filter(|broker| !broker.is_empty()),
            expression: asked.expression,
            batch_size: i32::try_from(self.pulling.room).unwrap_or(i32::MAX),
            invisible_ms: 0,
            auto_renew: true,
            polling_ms: Some(i64::try_from(asked.wait.as_millis()).unwrap_or(i64::MAX)),
            attempt_id: None,
        };
        let received = tokio::select! {
            biased;
            received = self.request.run(receive) => received?,
            () = self.request.session.closing().cancelled() => return Ok(nothing()),
        };
        drop(turn);
        let mut leased = match received {
            Received::Messages(leased) => leased,
            Received::NoMatch => {
                return Ok(answer(response::PULL_RETRY_IMMEDIATELY, from, FIRST_POSITION, from));
            }
            Received::Nothing => return Ok(nothing()),
        };
        let GroupTopic { group, topic } = &self.pulling.queue.at;
        keep_fitting(self.request, (group, topic), &mut leased);
        let held = leased.iter().map(held).collect();
        let first = {
            let mut ledgers = self.request.session.consuming.ledgers.lock();
            ledgers.finish(&self.pulling, held, Instant::now())
        };
        let Some(first) = first else {
            undelivered(self.request, (group, topic), leased);
            return Ok(nothing());
        };
        let mut position = first;
        let deliveries = leased.iter().map(|leased| &leased.delivery);
        let body = records::encode(self.request, &cluster, deliveries, |record| {
            record.queue_id = self.pulling.queue.queue.id;
            record.queue_offset = position;
            position += 1;
        });
        Ok(answer(response::SUCCESS, position, FIRST_POSITION, position).body(body))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.request.session.consuming.ledgers.lock().end(&self.pulling, Instant::now());
    }
}

fn held(leased: &LeasedDelivery) -> Held {
    let LeasedDelivery { delivery, handle } = leased;
    Held {
        handle: handle.clone(),
        message_id: delivery.message.id.clone(),
        log_position: position::of(delivery),
        attempt: delivery.attempt,
        bytes: delivery.message.body.len(),
        turn: 0,
    }
}
