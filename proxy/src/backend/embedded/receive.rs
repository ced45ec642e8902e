//! Receiving: take what is there, or wait for it.

use std::sync::Arc;

use tokio::time::timeout_at;

use super::blocking::blocking;
use super::broker::Broker;
use super::catalog::group_not_found;
use super::changes::Changes;
use super::clock;
use super::codec;
use super::filter::Matcher;
use super::lease::Coordinates;
use super::progress::{Progress, State};
use super::queue::Queue;
use super::store::corrupt;
use super::take::{Catch, Order, Taken, Wanted};
use super::topic::Topic;
use crate::service::{Delivered, Delivery, Receive, ServiceError, ServiceErrorKind, TopicKind, time};

/// A receive under way.
struct Request<'a> {
    broker: &'a Broker,
    topic: Arc<Topic>,
    progress: Arc<Progress>,
    queues: Arc<[Arc<Queue>]>,
    filter: Matcher,
    asked: &'a Receive,
}

/// When a consumer is behind the messages in memory, the disk is read in pieces of this size.
const READ_AHEAD: usize = 128 << 10;

/// A longer name is as good as none: leases keep it, in memory and on the disk.
const LONGEST_ATTEMPT_ID: usize = 256;

impl Broker {
    /// See [`crate::service::Messages::receive`].
    pub(super) async fn receive_messages(&self, asked: Receive) -> Result<Delivered, ServiceError> {
        let request = self.prepare(&asked).await?;
        if let Some(deliveries) = request.try_now().await? {
            return Ok(Delivered::Messages(deliveries));
        }
        let _place = request.progress.wait_in_line(&self.waiting, self.waiting_limits())?;
        loop {
            // Registered before looking: what arrives after the look wakes this receive.
            let more = request.progress.more();
            tokio::pin!(more);
            more.as_mut().enable();
            if let Some(deliveries) = request.try_now().await? {
                return Ok(Delivered::Messages(deliveries));
            }
            if timeout_at(asked.deadline.into(), more).await.is_err() {
                return Ok(Delivered::Nothing);
            }
        }
    }

    async fn prepare<'a>(&'a self, asked: &'a Receive) -> Result<Request<'a>, ServiceError> {
        let forbidden = |text| ServiceError::new(ServiceErrorKind::Forbidden, text);
        let topic = self.topic(&asked.topic).await?;
        let group = self.group(&asked.group).await?;
        if !group.config.consume {
            return Err(forbidden(format!("the group {} may not consume", asked.group)));
        }
        if topic.read_queues() == 0 {
            return Err(forbidden("no readable queue".to_owned()));
        }
        let filter = Matcher::new(asked.filter.clone())?;
        let progress = topic.consumer(group.id);
        let queues = self.loaded(&topic, &progress).await?;
        Ok(Request { broker: self, topic, progress, queues, filter, asked })
    }

    /// A topic's queues and a group's progress in them, read from the disk if this is the first time.
    pub(super) async fn loaded(
        &self,
        topic: &Arc<Topic>,
        progress: &Arc<Progress>,
    ) -> Result<Arc<[Arc<Queue>]>, ServiceError> {
        self.store.wait_for_background_work().await;
        if let Some(queues) = topic.loaded()
            && progress.is_loaded()
        {
            return Ok(queues);
        }
        let (store, topic, progress) = (self.store.clone(), topic.clone(), progress.clone());
        let expiry = self.expiry.clone();
        blocking(move || {
            let queues = topic.load(&store)?;
            progress.load(&store, &queues)?;
            expiry.review(&progress, clock::now());
            Ok(queues)
        })
        .await
    }
}

impl Request<'_> {
    /// Takes what there is, reading the disk if it must. `None` if nothing is there.
    async fn try_now(&self) -> Result<Option<Vec<Delivery>>, ServiceError> {
        loop {
            self.topic.check_alive()?;
            self.broker.store.wait_for_background_work().await;
            if self.progress.is_deleted() {
                return Err(group_not_found(&self.asked.group));
            }
            let now = clock::now();
            let visible_at =
                now.saturating_add(u64::try_from(self.asked.invisible.as_millis()).unwrap_or(u64::MAX));
            let wanted = Wanted {
                max: self.asked.max,
                now,
                visible_at,
                token: rand::random(),
                fifo: self.asked.fifo,
                attempt_id: self.asked.attempt_id.as_deref().filter(|id| id.len() <= LONGEST_ATTEMPT_ID),
                filter: &self.filter,
                order: self.order(),
                most_leases: self.broker.config.max_unsettled_per_queue,
            };
            let catch = self.take(&wanted)?;
            if !catch.taken.is_empty() {
                return catch
                    .taken
                    .into_iter()
                    .map(|taken| self.delivery(taken, &wanted))
                    .collect::<Result<_, _>>()
                    .map(Some);
            }
            if let Some((queue, offset)) = catch.missing {
                self.read_ahead(queue, offset).await?;
            } else if catch.unfinished {
                tokio::task::yield_now().await;
            } else {
                return Ok(None);
            }
        }
    }

    fn order(&self) -> Order {
        let by_priority = self.topic.kind() == TopicKind::Priority && !self.asked.fifo;
        if by_priority { Order::HighestFirst } else { Order::InTurn }
    }

    /// Takes what is in memory, and writes that it is taken.
    fn take(&self, wanted: &Wanted<'_>) -> Result<Catch, ServiceError> {
        let readable = self.topic.read_queues().min(self.queues.len());
        let mut slot = self.progress.lock();
        let state = slot.get_or_insert_default();
        let mut changes = self.progress.changes(&self.broker.store);
        for queue in state.queues.len()..self.queues.len() {
            // Queues that were added since.
            state.queue(queue).move_to(&mut changes, queue as u32, 0);
        }
        let catch = wanted.take(state, &self.queues[..readable]).map_err(|_| corrupt("message"))?;
        record(&catch, state, &mut changes);
        changes.commit()?;
        if !catch.taken.is_empty() {
            self.broker.expiry.schedule(&self.progress, state, wanted.visible_at);
        }
        Ok(catch)
    }

    /// Reads the chunks from this offset on into memory.
    async fn read_ahead(&self, queue: u32, offset: u64) -> Result<(), ServiceError> {
        let Some(source) = self.queues.get(queue as usize).cloned() else { return Err(corrupt("queue")) };
        let cursor = self.progress.lock().as_mut().map_or(0, |state| state.queue(queue as usize).cursor);
        // What is delivered again stands alone; what is new comes with what follows it.
        let bytes = if offset < cursor { 1 } else { READ_AHEAD };
        let store = self.broker.store.clone();
        let chunks = blocking(move || source.read(&store, offset, bytes)).await?;
        if chunks.first().is_none_or(|chunk| chunk.first() > offset) {
            // Retention may have removed it since; if not, the queue has a hole.
            let (start, _) = self.queues[queue as usize].range();
            if offset >= start {
                return Err(corrupt("hole in a queue"));
            }
        }
        if let Some(state) = self.progress.lock().as_mut() {
            state.queue(queue as usize).window = chunks;
        }
        Ok(())
    }

    fn delivery(&self, taken: Taken, wanted: &Wanted<'_>) -> Result<Delivery, ServiceError> {
        let stored = codec::decode(&taken.message).map_err(|_| corrupt("message"))?;
        let coordinates = Coordinates { queue: taken.queue, offset: taken.offset, token: wanted.token };
        Ok(Delivery {
            message: stored.message,
            topic: self.asked.topic.clone(),
            queue_id: taken.queue as i32,
            queue_offset: taken.offset as i64,
            stored_at: time(taken.stored_at as i64),
            store_host: self.broker.config.store_host.clone(),
            attempt: taken.attempt.saturating_add(stored.earlier_attempts) as i32,
            received_at: time(wanted.now as i64),
            invisible: self.asked.invisible,
            coordinates: coordinates.to_string(),
        })
    }
}

fn record(catch: &Catch, state: &mut State, changes: &mut Changes<'_>) {
    for taken in &catch.taken {
        if let Some(lease) = state.queues[taken.queue as usize].leases.get(taken.offset) {
            changes.lease(taken.queue, taken.offset, lease);
        }
    }
    for (queue, offset) in &catch.settled {
        state.queues[*queue as usize].settle(changes, *queue, *offset);
    }
    for queue in &catch.passed {
        let progress = &mut state.queues[*queue as usize];
        progress.move_to(changes, *queue, progress.cursor);
    }
}
