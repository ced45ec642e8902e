//! Receives messages of a topic, and waits for them if there are none.

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
use super::lite_subscriptions::ReceivingMember;
use super::progress::Progress;
use super::progress_writer::Written;
use super::queue::Queue;
use super::store::corrupt;
use super::take::{QueueOrder, QueuePosition, ReadChunks, TakeRequest, TakenBatch, TakenMessage};
use super::topic::Topic;
use super::waiting_limits::{self, Woken};
use crate::service::{Delivered, Delivery, Receive, ServiceError, ServiceErrorKind, TopicKind, time};

/// A receive in progress.
pub(super) struct PreparedReceive<'a> {
    pub(super) broker: &'a Broker,
    pub(super) topic: Arc<Topic>,
    pub(super) progress: Arc<Progress>,
    pub(super) filter: &'a Matcher,
    pub(super) params: &'a Receive,
    /// For a lite topic, the client and the name.
    pub(super) lite: Option<(&'a ReceivingMember, &'a str)>,
}

/// The result of one scan for messages.
enum ScanResult {
    /// Messages, under new leases.
    Found(LeasedBatch),
    /// The next message to deliver is not in memory.
    OnDisk(QueuePosition),
    /// No message so far. The scan stopped at its limit and must continue.
    Unfinished,
    /// No message can be delivered now.
    Nothing,
}

/// The result of one scan of the messages in memory.
pub(super) enum InMemoryResult {
    /// Messages, under new leases.
    Found(LeasedBatch),
    /// No message can be delivered now.
    Nothing,
    /// The disk must be read.
    OnDisk,
}

/// How many bytes are read from the disk at once for a consumer that lags behind the messages in memory.
pub(super) const READ_AHEAD: usize = 128 << 10;

/// The longest attempt id, in bytes. Longer ones are ignored, because leases contain them in memory and on the disk.
pub(super) const MAX_ATTEMPT_ID: usize = 256;

impl Broker {
    /// See [`crate::service::Messages::receive`].
    pub(super) async fn receive_messages(&self, mut params: Receive) -> Result<Delivered, ServiceError> {
        params.attempt_id.take_if(|id| id.len() > MAX_ATTEMPT_ID);
        let bytes = waiting_limits::bytes_of(&params);
        let filter = Matcher::new(std::mem::take(&mut params.filter))?;
        let request = self.prepare(&params, &filter).await?;
        if let Some(mut batch) = request.try_now().await? {
            batch.written().await?;
            return Ok(Delivered::Messages(batch.into_deliveries()));
        }
        let _waiting = request.progress.register_waiting(&self.waiting, bytes, self.waiting_limits())?;
        let mut woken = None;
        loop {
            // Registered before the scan, so that messages which arrive after the scan wake this receive.
            let available = request.progress.available();
            tokio::pin!(available);
            available.as_mut().enable();
            let found = request.try_now().await?;
            if let Some(woken) = woken.take() {
                Woken::has_scanned(woken);
            }
            if let Some(mut batch) = found {
                batch.written().await?;
                return Ok(Delivered::Messages(batch.into_deliveries()));
            }
            if timeout_at(params.deadline.into(), available).await.is_err() {
                return Ok(Delivered::Nothing);
            }
            woken = Some(Woken::new(|| request.progress.wake(1)));
        }
    }

    /// Looks up the topic and the group, and checks that they can receive.
    async fn prepare<'a>(
        &'a self,
        params: &'a Receive,
        filter: &'a Matcher,
    ) -> Result<PreparedReceive<'a>, ServiceError> {
        let topic = self.topic(&params.topic).await?;
        let (_, progress) = self.group_in(&topic, &params.group).await?;
        if topic.read_queues() == 0 {
            return Err(ServiceError::new(ServiceErrorKind::Forbidden, "no readable queue"));
        }
        if topic.kind() == TopicKind::Lite {
            let text = "only groups that are bound to a LITE topic can receive its messages";
            return Err(ServiceError::new(ServiceErrorKind::Unsupported, text));
        }
        Ok(PreparedReceive { broker: self, topic, progress, filter, params, lite: None })
    }

    /// Loads a topic's queues and a group's progress in them, unless they are in memory. Returns the queues.
    pub(super) async fn loaded(
        &self,
        topic: &Arc<Topic>,
        progress: &Arc<Progress>,
    ) -> Result<Arc<[Arc<Queue>]>, ServiceError> {
        self.progress_writer.check_capacity()?;
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
            expiry.handle_expired(&progress);
            Ok(queues)
        })
        .await
    }
}

impl PreparedReceive<'_> {
    /// Takes messages without waiting for new ones. Reads the disk if necessary. Returns `None` if there are none.
    pub(super) async fn try_now(&self) -> Result<Option<LeasedBatch>, ServiceError> {
        let order = self.order();
        let mut read = None;
        loop {
            self.check_exists()?;
            let queues = self.broker.loaded(&self.topic, &self.progress).await?;
            match self.scan(&queues, order, read.as_ref())? {
                ScanResult::Found(batch) => return Ok(Some(batch)),
                ScanResult::OnDisk(missing) => {
                    read = self.read_ahead(&queues[missing.queue as usize], missing).await?;
                }
                // Many messages did not pass the filter.
                ScanResult::Unfinished => tokio::task::yield_now().await,
                ScanResult::Nothing => return Ok(None),
            }
        }
    }

    /// Takes messages without reading the disk.
    pub(super) fn try_in_memory(&self) -> Result<InMemoryResult, ServiceError> {
        let Some(queues) = self.topic.loaded().filter(|_| self.progress.is_loaded()) else {
            return Ok(InMemoryResult::OnDisk);
        };
        self.check_exists()?;
        Ok(match self.scan(&queues, self.order(), None)? {
            ScanResult::Found(batch) => InMemoryResult::Found(batch),
            ScanResult::Nothing => InMemoryResult::Nothing,
            ScanResult::OnDisk(_) | ScanResult::Unfinished => InMemoryResult::OnDisk,
        })
    }

    fn check_exists(&self) -> Result<(), ServiceError> {
        self.topic.check_alive()?;
        if self.progress.is_deleted() { Err(group_not_found(&self.params.group)) } else { Ok(()) }
    }

    /// Scans the messages in memory and those in `read`, and takes messages that can be delivered.
    fn scan(
        &self,
        queues: &[Arc<Queue>],
        order: QueueOrder,
        read: Option<&ReadChunks>,
    ) -> Result<ScanResult, ServiceError> {
        let now = clock::monotonic();
        let invisible = u64::try_from(self.params.invisible.as_millis()).unwrap_or(u64::MAX);
        let request = TakeRequest {
            max: self.params.max,
            now,
            // A lease of no length would expire at once, and its message would be taken again and again.
            visible_at: now.saturating_add(invisible.max(1)),
            token: rand::random(),
            fifo: self.params.fifo,
            whole_queues: self.topic.lite_membership().is_some(),
            attempt_id: self.params.attempt_id.as_deref(),
            filter: self.filter,
            max_leases: self.broker.config.max_unsettled_per_queue,
            order,
            cache: &self.broker.read_cache,
            read,
        };
        let Some((batch, written)) = self.take(&request, queues)? else { return Ok(ScanResult::Nothing) };
        if !batch.taken.is_empty() {
            if batch.more {
                self.progress.wake(1);
            }
            let deliveries = batch.taken.into_iter().map(|taken| self.delivery(taken, &request));
            let deliveries = deliveries.collect::<Result<_, _>>()?;
            return Ok(ScanResult::Found(LeasedBatch {
                writer: self.broker.progress_writer.clone(),
                progress: self.progress.clone(),
                token: request.token,
                deliveries,
                written: Some(written),
            }));
        }
        Ok(match batch.missing {
            Some(missing) => ScanResult::OnDisk(missing),
            None if batch.more => ScanResult::Unfinished,
            None => ScanResult::Nothing,
        })
    }

    fn order(&self) -> QueueOrder {
        if self.topic.kind() == TopicKind::Priority && !self.params.fifo {
            QueueOrder::HighestFirst
        } else {
            QueueOrder::From(self.progress.next_round_robin())
        }
    }

    /// Takes messages, and submits their leases to the progress writer. Returns `None` if the client has lost the lite
    /// topic.
    fn take(
        &self,
        request: &TakeRequest<'_>,
        queues: &[Arc<Queue>],
    ) -> Result<Option<(TakenBatch, Written)>, ServiceError> {
        let readable = self.topic.read_queues().min(queues.len());
        let mut transaction = self.progress.begin()?;
        // Checked under the lock, under which another client takes over the lite topic and moves the group.
        if self.lite.is_some_and(|(member, name)| !member.is_subscribed(name)) {
            return Ok(None);
        }
        transaction.in_order = request.fifo;
        // This change also records the progress in queues that were added since.
        transaction.queue(queues.len().saturating_sub(1));
        let batch = request.take(&mut transaction, &queues[..readable]).map_err(|_| corrupt("message"))?;
        let written = transaction.commit(&self.broker.progress_writer);
        if !batch.taken.is_empty() {
            self.broker.expiry.schedule(&self.progress, &mut transaction, request.visible_at);
            self.topic.count_delivered(&self.progress, batch.taken.len());
        }
        Ok(Some((batch, written)))
    }

    /// Reads the chunk that contains this message. If the group gets the message for the first time, reads the
    /// following chunks as well. Returns `None` if the message is in memory by now.
    async fn read_ahead(
        &self,
        queue: &Arc<Queue>,
        missing: QueuePosition,
    ) -> Result<Option<ReadChunks>, ServiceError> {
        let QueuePosition { queue: id, offset } = missing;
        let cache = &self.broker.read_cache;
        let _one_at_a_time = self.progress.reading.lock().await;
        if queue.recent(offset).is_some() || cache.find(queue.topic(), id, offset).is_some() {
            return Ok(None);
        }
        let _permit = cache.permit().await;
        let is_new = offset >= self.progress.begin()?.queue(id as usize).cursor();
        let bytes = if is_new { READ_AHEAD } else { 1 };
        let (store, source) = (self.broker.store.clone(), queue.clone());
        let chunks = blocking(move || source.read(&store, offset, bytes)).await?;
        if chunks.first().is_none_or(|chunk| chunk.first() > offset) {
            // Retention may have removed the message since, or it is damaged. If neither, the queue has a hole.
            let (start, _) = queue.range();
            if offset >= start && queue.after_lost(offset).is_none() {
                return Err(corrupt("hole in a queue"));
            }
        }
        cache.insert(queue.topic(), id, &chunks);
        Ok(Some(ReadChunks { queue: id, chunks }))
    }

    fn delivery(&self, taken: TakenMessage, request: &TakeRequest<'_>) -> Result<Delivery, ServiceError> {
        let stored = codec::decode(&taken.message).map_err(|_| corrupt("message"))?;
        let coordinates = Coordinates {
            queue: taken.queue,
            offset: taken.offset,
            token: request.token,
            topic: Some(self.topic.id()),
            group: Some(self.progress.group()),
            until: Some(request.visible_at),
        };
        Ok(Delivery {
            attempts_of_others: stored.attempts_of_others(),
            message: stored.message,
            topic: self.params.topic.clone(),
            queue_id: taken.queue as i32,
            queue_offset: taken.offset as i64,
            stored_at: time(taken.stored_at as i64),
            store_host: self.broker.config.store_host.clone(),
            attempt: taken.attempt.saturating_add(stored.earlier_attempts) as i32,
            received_at: time(clock::now() as i64),
            invisible: self.params.invisible,
            coordinates: coordinates.to_string(),
        })
    }
}
