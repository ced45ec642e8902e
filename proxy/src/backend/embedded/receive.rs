//! Receiving: takes the messages that are there, or waits for some.

use std::sync::Arc;

use tokio::time::timeout_at;

use super::blocking::blocking;
use super::broker::Broker;
use super::catalog::group_not_found;
use super::clock;
use super::codec;
use super::filter::Matcher;
use super::lease::Coordinates;
use super::leased_batch::LeasedBatch;
use super::progress::Progress;
use super::progress_writer::Written;
use super::queue::Queue;
use super::store::corrupt;
use super::take::{Batch, Order, Position, ReadChunks, Taken, Wanted};
use super::topic::Topic;
use super::waiting_limits::{self, Woken};
use crate::service::{Delivered, Delivery, Receive, ServiceError, ServiceErrorKind, TopicKind, time};

/// A receive under way.
pub(super) struct Request<'a> {
    pub(super) broker: &'a Broker,
    pub(super) topic: Arc<Topic>,
    pub(super) progress: Arc<Progress>,
    pub(super) filter: &'a Matcher,
    pub(super) asked: &'a Receive,
}

/// What a look for messages finds.
enum Look {
    /// Messages, under new leases.
    Found(LeasedBatch),
    /// A message that is not in memory comes first.
    OnDisk(Position),
    /// Nothing, but there is more to look at.
    Unfinished,
    /// No message that can be delivered now.
    Nothing,
}

/// What a look at messages in memory finds.
pub(super) enum InMemory {
    /// Messages, under new leases.
    Found(LeasedBatch),
    /// No message that can be delivered now.
    Nothing,
    /// The disk must be read.
    OnDisk,
}

/// How many bytes are read from the disk at once for a consumer that is behind the messages in memory.
pub(super) const READ_AHEAD: usize = 128 << 10;

/// Longer attempt ids are ignored: leases keep them, in memory and on the disk.
pub(super) const MAX_ATTEMPT_ID: usize = 256;

impl Broker {
    /// See [`crate::service::Messages::receive`].
    pub(super) async fn receive_messages(&self, mut asked: Receive) -> Result<Delivered, ServiceError> {
        asked.attempt_id.take_if(|id| id.len() > MAX_ATTEMPT_ID);
        let bytes = waiting_limits::bytes_of(&asked);
        let filter = Matcher::new(std::mem::take(&mut asked.filter))?;
        let request = self.prepare(&asked, &filter).await?;
        if let Some(mut batch) = request.try_now().await? {
            batch.written().await?;
            return Ok(Delivered::Messages(batch.into_deliveries()));
        }
        let _place = request.progress.wait_in_line(&self.waiting, bytes, self.waiting_limits())?;
        let mut woken = None;
        loop {
            // Registered before it looks: what arrives after the look wakes this receive.
            let more = request.progress.more();
            tokio::pin!(more);
            more.as_mut().enable();
            let found = request.try_now().await?;
            if let Some(woken) = woken.take() {
                Woken::has_looked(woken);
            }
            if let Some(mut batch) = found {
                batch.written().await?;
                return Ok(Delivered::Messages(batch.into_deliveries()));
            }
            if timeout_at(asked.deadline.into(), more).await.is_err() {
                return Ok(Delivered::Nothing);
            }
            woken = Some(Woken::new(|| request.progress.wake(1)));
        }
    }

    async fn prepare<'a>(
        &'a self,
        asked: &'a Receive,
        filter: &'a Matcher,
    ) -> Result<Request<'a>, ServiceError> {
        let topic = self.topic(&asked.topic).await?;
        let (_, progress) = self.group_in(&topic, &asked.group).await?;
        if topic.read_queues() == 0 {
            return Err(ServiceError::new(ServiceErrorKind::Forbidden, "no readable queue"));
        }
        if topic.kind() == TopicKind::Lite {
            let text = "this broker delivers the messages of a LITE topic to groups that are bound to it, and to no others";
            return Err(ServiceError::new(ServiceErrorKind::Unsupported, text));
        }
        Ok(Request { broker: self, topic, progress, filter, asked })
    }

    /// A topic's queues and a group's progress in them. Reads the disk the first time.
    pub(super) async fn loaded(
        &self,
        topic: &Arc<Topic>,
        progress: &Arc<Progress>,
    ) -> Result<Arc<[Arc<Queue>]>, ServiceError> {
        self.progress_writer.check_room()?;
        if let Some(queues) = topic.loaded()
            && progress.is_loaded()
        {
            return Ok(queues);
        }
        let (store, topic, progress) = (self.store.clone(), topic.clone(), progress.clone());
        let (expiry, catalog) = (self.expiry.clone(), self.catalog.clone());
        blocking(move || {
            let queues = topic.load(&store)?;
            progress.load(&store, &queues, catalog.start_of(progress.group()))?;
            expiry.review(&progress);
            Ok(queues)
        })
        .await
    }
}

impl Request<'_> {
    /// Takes the messages that are there, reading the disk if necessary. Returns `None` if there are none.
    pub(super) async fn try_now(&self) -> Result<Option<LeasedBatch>, ServiceError> {
        let order = self.order();
        let mut read = None;
        loop {
            self.check_exists()?;
            let queues = self.broker.loaded(&self.topic, &self.progress).await?;
            match self.look(&queues, order, read.as_ref())? {
                Look::Found(batch) => return Ok(Some(batch)),
                Look::OnDisk(missing) => {
                    read = self.read_ahead(&queues[missing.queue as usize], missing).await?;
                }
                // It has looked at many messages that did not pass the filter.
                Look::Unfinished => tokio::task::yield_now().await,
                Look::Nothing => return Ok(None),
            }
        }
    }

    /// Takes the messages that are in memory.
    pub(super) fn try_in_memory(&self) -> Result<InMemory, ServiceError> {
        let Some(queues) = self.topic.loaded().filter(|_| self.progress.is_loaded()) else {
            return Ok(InMemory::OnDisk);
        };
        self.check_exists()?;
        Ok(match self.look(&queues, self.order(), None)? {
            Look::Found(batch) => InMemory::Found(batch),
            Look::Nothing => InMemory::Nothing,
            Look::OnDisk(_) | Look::Unfinished => InMemory::OnDisk,
        })
    }

    fn check_exists(&self) -> Result<(), ServiceError> {
        self.topic.check_alive()?;
        if self.progress.is_deleted() { Err(group_not_found(&self.asked.group)) } else { Ok(()) }
    }

    /// Takes what is in memory, or was read.
    fn look(
        &self,
        queues: &[Arc<Queue>],
        order: Order,
        read: Option<&ReadChunks>,
    ) -> Result<Look, ServiceError> {
        let now = clock::monotonic();
        let invisible = u64::try_from(self.asked.invisible.as_millis()).unwrap_or(u64::MAX);
        let wanted = Wanted {
            max: self.asked.max,
            now,
            // One that is over at once would be taken again and again.
            visible_at: now.saturating_add(invisible.max(1)),
            token: rand::random(),
            fifo: self.asked.fifo,
            whole_queues: self.topic.lite_membership().is_some(),
            attempt_id: self.asked.attempt_id.as_deref(),
            filter: self.filter,
            max_leases: self.broker.config.max_unsettled_per_queue,
            order,
            cache: &self.broker.read_cache,
            read,
        };
        let (batch, written) = self.take(&wanted, queues)?;
        if !batch.taken.is_empty() {
            if batch.more {
                self.progress.wake(1);
            }
            let deliveries = batch.taken.into_iter().map(|taken| self.delivery(taken, &wanted));
            let deliveries = deliveries.collect::<Result<_, _>>()?;
            return Ok(Look::Found(LeasedBatch {
                writer: self.broker.progress_writer.clone(),
                progress: self.progress.clone(),
                token: wanted.token,
                deliveries,
                written: Some(written),
            }));
        }
        Ok(match batch.missing {
            Some(missing) => Look::OnDisk(missing),
            None if batch.more => Look::Unfinished,
            None => Look::Nothing,
        })
    }

    fn order(&self) -> Order {
        if self.topic.kind() == TopicKind::Priority && !self.asked.fifo {
            Order::HighestFirst
        } else {
            Order::From(self.progress.next_turn())
        }
    }

    /// Takes what is in memory, and has the leases written.
    fn take(&self, wanted: &Wanted<'_>, queues: &[Arc<Queue>]) -> Result<(Batch, Written), ServiceError> {
        let readable = self.topic.read_queues().min(queues.len());
        let mut change = self.progress.change()?;
        change.in_order = wanted.fifo;
        // The progress in queues that were added since is recorded with this change.
        change.queue(queues.len().saturating_sub(1));
        let batch = wanted.take(&mut change, &queues[..readable]).map_err(|_| corrupt("message"))?;
        let written = change.commit(&self.broker.progress_writer);
        if !batch.taken.is_empty() {
            self.broker.expiry.schedule(&self.progress, &mut change, wanted.visible_at);
            self.progress.count_delivered(batch.taken.len());
        }
        Ok((batch, written))
    }

    /// Reads the chunk that holds this message. If the group gets it for the first time, those that follow are read as
    /// well. Returns `None` if the message is in memory meanwhile.
    async fn read_ahead(
        &self,
        queue: &Arc<Queue>,
        missing: Position,
    ) -> Result<Option<ReadChunks>, ServiceError> {
        let Position { queue: id, offset } = missing;
        let cache = &self.broker.read_cache;
        let _one_at_a_time = self.progress.reading.lock().await;
        if queue.recent(offset).is_some() || cache.find(queue.topic(), id, offset).is_some() {
            return Ok(None);
        }
        let _permit = cache.permit().await;
        let is_new = offset >= self.progress.change()?.queue(id as usize).cursor();
        let bytes = if is_new { READ_AHEAD } else { 1 };
        let (store, source) = (self.broker.store.clone(), queue.clone());
        let chunks = blocking(move || source.read(&store, offset, bytes)).await?;
        if chunks.first().is_none_or(|chunk| chunk.first() > offset) {
            // Retention may have removed it since, or it is damaged; if not, the queue has a hole.
            let (start, _) = queue.range();
            if offset >= start && queue.after_lost(offset).is_none() {
                return Err(corrupt("hole in a queue"));
            }
        }
        cache.insert(queue.topic(), id, &chunks);
        Ok(Some(ReadChunks { queue: id, chunks }))
    }

    fn delivery(&self, taken: Taken, wanted: &Wanted<'_>) -> Result<Delivery, ServiceError> {
        let stored = codec::decode(&taken.message).map_err(|_| corrupt("message"))?;
        let coordinates = Coordinates {
            queue: taken.queue,
            offset: taken.offset,
            token: wanted.token,
            topic: Some(self.topic.id()),
        };
        Ok(Delivery {
            message: stored.message,
            topic: self.asked.topic.clone(),
            queue_id: taken.queue as i32,
            queue_offset: taken.offset as i64,
            stored_at: time(taken.stored_at as i64),
            store_host: self.broker.config.store_host.clone(),
            attempt: taken.attempt.saturating_add(stored.earlier_attempts) as i32,
            received_at: time(clock::now() as i64),
            invisible: self.asked.invisible,
            coordinates: coordinates.to_string(),
        })
    }
}
