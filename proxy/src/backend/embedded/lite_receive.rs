//! Receives from all lite topics of a client: scans those that may have messages, and waits if there are none.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tokio::time::timeout_at;

use super::blocking::blocking;
use super::broker::Broker;
use super::catalog::group_not_found;
use super::chunk::Chunk;
use super::filter::Matcher;
use super::leased_batch::LeasedBatch;
use super::lite_settle::LiteCoordinates;
use super::lite_subscriptions::{MemberKey, ReceivingMember};
use super::progress::Progress;
use super::receive::{InMemoryResult, MAX_ATTEMPT_ID, PreparedReceive};
use super::take::MAX_BYTES;
use super::topic::Topic;
use super::waiting_limits::{self, Woken};
use crate::service::{Delivered, Delivery, Receive, ServiceError, ServiceErrorKind};

/// A receive in progress.
struct LiteReceive<'a> {
    broker: &'a Broker,
    topic: Arc<Topic>,
    /// The group's progress in the LITE topic itself, which has no messages. It signals the deletion of the topic or
    /// the group, and counts the waiting receives.
    parent_progress: Arc<Progress>,
    filter: Matcher,
    params: Receive,
    member: ReceivingMember,
}

/// The maximum size of the messages that are read ahead when lite topics are loaded, in bytes. Other messages are read
/// during the scan.
const MAX_READ: usize = 1 << 20;

impl Broker {
    /// See [`crate::service::Messages::receive`], for a client with lite topics. Each lite topic is consumed in order.
    pub(super) async fn receive_from_lite_topics(
        &self,
        mut params: Receive,
        client: &str,
    ) -> Result<Delivered, ServiceError> {
        params.attempt_id.take_if(|id| id.len() > MAX_ATTEMPT_ID);
        params.fifo = true;
        let bytes = waiting_limits::bytes_of(&params);
        let filter = Matcher::new(std::mem::take(&mut params.filter))?;
        let topic = self.topic(&params.topic).await?;
        let (group, parent_progress) = self.group_in(&topic, &params.group).await?;
        if group.config.lite_bind_topic.as_deref() != Some(&params.topic) {
            let text = format!("group {} is not bound to topic {}", params.group, params.topic);
            return Err(ServiceError::new(ServiceErrorKind::Rejected, text));
        }
        if topic.read_queues() == 0 {
            return Err(ServiceError::new(ServiceErrorKind::Forbidden, "no readable queue"));
        }
        let key = MemberKey { topic: topic.id(), group: group.id, client: client.into() };
        let member = self.catalog.lite.subscriptions().begin_receive(key);
        if let Some(id) = &params.attempt_id {
            member.with(|member| member.begin_attempt(id));
        }
        let receive = LiteReceive { broker: self, topic, parent_progress, filter, params, member };
        receive.run(bytes).await
    }
}

impl LiteReceive<'_> {
    async fn run(&self, bytes: usize) -> Result<Delivered, ServiceError> {
        if let Some(deliveries) = self.try_now().await? {
            return Ok(Delivered::Messages(deliveries));
        }
        let _waiting = self.parent_progress.register_waiting(
            &self.broker.waiting,
            bytes,
            self.broker.waiting_limits(),
        )?;
        let mut woken = None;
        loop {
            // Registered before the scan, so that messages which arrive after the scan wake this receive.
            let (available, deleted) = (self.member.available(), self.parent_progress.available());
            tokio::pin!(available, deleted);
            available.as_mut().enable();
            deleted.as_mut().enable();
            let found = self.try_now().await?;
            if let Some(woken) = woken.take() {
                Woken::has_scanned(woken);
            }
            if let Some(deliveries) = found {
                return Ok(Delivered::Messages(deliveries));
            }
            let woken_up = async {
                tokio::select! { () = available => {}, () = deleted => {} }
            };
            if timeout_at(self.params.deadline.into(), woken_up).await.is_err() {
                return Ok(Delivered::Nothing);
            }
            woken = Some(Woken::new(|| self.member.wake_another()));
        }
    }

    /// Takes messages without waiting for new ones. Reads the disk if necessary. Returns `None` if there are none.
    async fn try_now(&self) -> Result<Option<Vec<Delivery>>, ServiceError> {
        let max = self.params.max;
        loop {
            self.topic.check_alive()?;
            if self.parent_progress.is_deleted() {
                return Err(group_not_found(&self.params.group));
            }
            let mut ready = ReadyLiteTopics::take(&self.member, max);
            if ready.names.is_empty() {
                return Ok(None);
            }
            self.load(&mut ready).await;
            let (mut batches, mut left, mut bytes) = (Vec::new(), max, 0);
            while left > 0
                && bytes < MAX_BYTES
                && let Some(name) = ready.names.front().cloned()
            {
                // Messages that were found are not delayed by reads of the disk.
                let found = match batches.is_empty() {
                    true => self.take(&name, left).await,
                    false => self.take_in_memory(&name, left),
                };
                match found {
                    Ok(InMemoryResult::Found(batch)) => {
                        left = left.saturating_sub(batch.deliveries.len());
                        bytes += batch.deliveries.iter().map(|it| it.message.body.len()).sum::<usize>();
                        batches.push((name, batch));
                    }
                    Ok(InMemoryResult::Nothing) => {}
                    Err(error) if batches.is_empty() => {
                        // Put at the end of the queue, as other lite topics may still be readable.
                        ready.names.pop_front();
                        self.member.with(|member| member.set_ready(&name));
                        return Err(error);
                    }
                    Ok(InMemoryResult::OnDisk) | Err(_) => break,
                }
                ready.names.pop_front();
            }
            drop(ready);
            if batches.is_empty() {
                continue;
            }
            self.member.wake_another();
            return self.written(batches).await.map(Some);
        }
    }

    /// Waits until the leases are written. If some can't be written, the others are delivered.
    async fn written(
        &self,
        mut batches: Vec<(Arc<str>, LeasedBatch)>,
    ) -> Result<Vec<Delivery>, ServiceError> {
        let mut failure = None;
        for (_, batch) in &mut batches {
            failure = batch.written().await.err().or(failure);
        }
        batches.retain(|(_, batch)| !batch.deliveries.is_empty());
        if let Some(failure) = failure.filter(|_| batches.is_empty()) {
            return Err(failure);
        }
        if let Some(id) = &self.params.attempt_id {
            let lite_topics = batches.iter().map(|(name, _)| name.clone()).collect();
            self.member.with(|member| member.end_attempt(id, lite_topics));
        }
        Ok(batches.into_iter().flat_map(|(_, batch)| batch.into_deliveries()).collect())
    }

    /// Loads all lite topics that are not in memory, with their next messages, in one read. Removes those that don't
    /// exist from `ready`: their first message makes them ready again. Errors are ignored, because they occur again
    /// during the scan.
    async fn load(&self, ready: &mut ReadyLiteTopics<'_>) {
        let (broker, group) = (self.broker, self.parent_progress.group());
        let is_loaded = |name: &str| {
            let lite_topic = broker.catalog.lite.loaded(self.topic.id(), name);
            lite_topic.is_some_and(|t| t.peek_loaded().is_some() && t.consumer(group).is_loaded())
        };
        let names: Vec<_> = ready.names.iter().filter(|name| !is_loaded(name)).cloned().collect();
        if names.is_empty() {
            return;
        }
        let (catalog, store, expiry) = (broker.catalog.clone(), broker.store.clone(), broker.expiry.clone());
        let parent = self.topic.clone();
        let _permit = broker.read_cache.permit().await;
        let read = blocking(move || {
            let mut absent = HashSet::new();
            let (mut chunks, mut bytes) = (Vec::new(), 0);
            for name in names {
                let Some(lite_topic) = catalog.lite.load(&parent, &name)? else {
                    absent.insert(name);
                    continue;
                };
                let queues = lite_topic.load(&store)?;
                let progress = lite_topic.consumer(group);
                progress.load(&store, &queues, catalog.start_of(group))?;
                expiry.handle_expired(&progress);
                let next = progress.begin()?.queue(0).first_unsettled();
                let queue = &queues[0];
                if next < queue.end() && queue.recent(next).is_none() && bytes < MAX_READ {
                    let read = queue.read(&store, next, 1)?;
                    bytes += read.iter().map(Chunk::memory).sum::<usize>();
                    chunks.push((queue.topic(), read));
                }
            }
            Ok((absent, chunks))
        });
        let Ok((absent, chunks)) = read.await else { return };
        for (topic, read) in chunks {
            broker.read_cache.insert(topic, 0, &read);
        }
        ready.names.retain(|name| !absent.contains(name));
    }

    /// Takes up to `max` messages of a lite topic.
    async fn take(&self, name: &str, max: usize) -> Result<InMemoryResult, ServiceError> {
        let lite_topic = match self.broker.catalog.lite.loaded(self.topic.id(), name) {
            Some(loaded) => Some(loaded),
            None => {
                let (catalog, parent, name) =
                    (self.broker.catalog.clone(), self.topic.clone(), name.to_owned());
                blocking(move || catalog.lite.load(&parent, &name)).await?
            }
        };
        let Some(lite_topic) = lite_topic else { return Ok(InMemoryResult::Nothing) };
        let params = Receive { max, ..self.params.clone() };
        let found = self.request(name, &lite_topic, &params).try_now().await?;
        Ok(found.map_or(InMemoryResult::Nothing, |batch| InMemoryResult::Found(with_lite_topic(name, batch))))
    }

    /// Takes up to `max` messages of a lite topic without reading the disk.
    fn take_in_memory(&self, name: &str, max: usize) -> Result<InMemoryResult, ServiceError> {
        let Some(lite_topic) = self.broker.catalog.lite.loaded(self.topic.id(), name) else {
            return Ok(InMemoryResult::OnDisk);
        };
        let params = Receive { max, ..self.params.clone() };
        Ok(match self.request(name, &lite_topic, &params).try_in_memory()? {
            InMemoryResult::Found(batch) => InMemoryResult::Found(with_lite_topic(name, batch)),
            other => other,
        })
    }

    fn request<'a>(
        &'a self,
        name: &'a str,
        lite_topic: &Arc<Topic>,
        params: &'a Receive,
    ) -> PreparedReceive<'a> {
        let progress = lite_topic.consumer(self.parent_progress.group());
        progress.set_max_attempts(self.parent_progress.max_attempts());
        PreparedReceive {
            broker: self.broker,
            topic: lite_topic.clone(),
            progress,
            filter: &self.filter,
            params,
            lite: Some((&self.member, name)),
        }
    }
}

/// Adds the name of the lite topic to the coordinates.
fn with_lite_topic(name: &str, mut batch: LeasedBatch) -> LeasedBatch {
    for delivery in &mut batch.deliveries {
        let at = LiteCoordinates { name, inner: &delivery.coordinates };
        delivery.coordinates = at.to_string();
    }
    batch
}

/// Lite topics that were taken from the client's ready queue to be scanned. The remaining ones return to the front of
/// the queue when this is dropped.
struct ReadyLiteTopics<'a> {
    member: &'a ReceivingMember,
    names: VecDeque<Arc<str>>,
}

impl<'a> ReadyLiteTopics<'a> {
    /// Takes up to `max` lite topics from the ready queue.
    fn take(member: &'a ReceivingMember, max: usize) -> Self {
        let names = member.with(|m| std::iter::from_fn(|| m.next_ready()).take(max).collect());
        Self { member, names }
    }
}

impl Drop for ReadyLiteTopics<'_> {
    fn drop(&mut self) {
        self.member.with(|member| {
            self.names.iter().rev().for_each(|name| member.set_ready_first(name));
        });
    }
}
