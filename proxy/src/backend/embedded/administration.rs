//! Statistics for administrators, and reading of stored messages.

use std::sync::Arc;

use async_trait::async_trait;

use super::blocking::blocking;
use super::broker::Broker;
use super::catalog::group_not_found;
use super::clock;
use super::keys;
use super::progress::{Progress, State};
use super::queue::Queue;
use super::queue_progress::QueueProgress;
use super::store::{Store, unavailable};
use super::topic::Topic;
use super::usage;
use crate::service::{
    Administration, GroupQueueStats, GroupStats, GroupTopicStats, QueueReset, QueueStats, ReadPage,
    ReadQueue, ResetGroup, ServiceError, StoreStats, TopicStats, time,
};

/// An answer about a group has no more topics.
const MAX_TOPICS: usize = 1000;

#[async_trait]
impl Administration for Broker {
    async fn topic_stats(&self, topic: &str) -> Result<TopicStats, ServiceError> {
        let topic = self.known_topic(topic)?;
        let (store, broker) = (self.store.clone(), self.config.broker_name.clone());
        blocking(move || {
            let loaded = topic.load(&store)?;
            let mut queues = Vec::with_capacity(loaded.len());
            for queue in loaded.iter() {
                let (first, next) = queue.range();
                queues.push(QueueStats {
                    broker: broker.clone(),
                    id: queue.id() as i32,
                    first: first as i64,
                    next: next as i64,
                    oldest: stored_at(queue, &store, first)?.map(|at| time(at as i64)),
                    newest: match next.checked_sub(1) {
                        Some(last) => stored_at(queue, &store, last)?.map(|at| time(at as i64)),
                        None => None,
                    },
                });
            }
            let bytes = usage::stored_bytes(&loaded, &store)?;
            Ok(TopicStats { queues, bytes: Some(bytes), rate_in: Some(topic.arrivals().rate()) })
        })
        .await
    }

    async fn group_stats(&self, group: &str, topic: Option<&str>) -> Result<GroupStats, ServiceError> {
        let group = self.catalog.group(group).ok_or_else(|| group_not_found(group))?;
        let candidates = match topic {
            Some(topic) => vec![self.known_topic(topic)?],
            None => self.catalog.topics(),
        };
        let store = self.store.clone();
        let mut begun = blocking(move || {
            let state = store.state()?;
            let mut begun = Vec::new();
            for topic in candidates {
                if let Some(entry) = state.prefix(keys::group_topic(group.id, topic.id())).next() {
                    entry.key().map_err(|e| unavailable(&e))?;
                    begun.push(topic);
                }
            }
            Ok(begun)
        })
        .await?;
        let truncated = begun.len() > MAX_TOPICS;
        begun.truncate(MAX_TOPICS);
        let mut topics = Vec::with_capacity(begun.len());
        for topic in begun {
            topics.push(self.group_in_topic(&topic, group.id).await?);
        }
        Ok(GroupStats { topics, truncated })
    }

    async fn read(&self, read: ReadQueue) -> Result<ReadPage, ServiceError> {
        self.read_stored(read).await
    }

    async fn reset(&self, reset: ResetGroup) -> Result<Vec<QueueReset>, ServiceError> {
        self.reset_group(reset).await
    }

    async fn store_stats(&self) -> Result<StoreStats, ServiceError> {
        let (store, catalog) = (self.store.clone(), self.catalog.clone());
        blocking(move || usage::store_stats(&store, &catalog)).await
    }
}

impl Broker {
    async fn group_in_topic(&self, topic: &Arc<Topic>, group: u32) -> Result<GroupTopicStats, ServiceError> {
        let progress = topic.consumer(group);
        let queues = self.loaded(topic, &progress).await?;
        let mut stats = GroupTopicStats {
            topic: topic.config().name,
            queues: self.queue_stats(&progress, &queues),
            rate_delivered: Some(progress.delivered.rate()),
            rate_settled: Some(progress.settled.rate()),
        };
        let lagging = stats.queues.iter().any(|queue| queue.lag > 0);
        if lagging {
            let store = self.store.clone();
            stats = blocking(move || {
                for (stats, queue) in stats.queues.iter_mut().zip(queues.iter()).filter(|(s, _)| s.lag > 0) {
                    let oldest = stored_at(queue, &store, stats.settled as u64)?;
                    stats.oldest = oldest.map(|at| time(at as i64));
                }
                Ok(stats)
            })
            .await?;
        }
        Ok(stats)
    }

    fn queue_stats(&self, progress: &Progress, queues: &[Arc<Queue>]) -> Vec<GroupQueueStats> {
        let now = clock::monotonic();
        let state = progress.lock();
        let known = state.as_deref().map(State::queues).unwrap_or_default();
        let stats = queues.iter().enumerate().map(|(index, queue)| {
            let stats = known.get(index).map_or_else(
                || of_queue(&QueueProgress::default(), queue, now),
                |known| of_queue(known, queue, now),
            );
            GroupQueueStats { broker: self.config.broker_name.clone(), id: queue.id() as i32, ..stats }
        });
        stats.collect()
    }
}

fn of_queue(progress: &QueueProgress, queue: &Queue, now: u64) -> GroupQueueStats {
    let (start, end) = queue.range();
    // What retention has removed is not delivered any more.
    let next = progress.cursor().clamp(start, end);
    let leases = progress.leases();
    let over = leases.iter().filter(|(_, lease)| lease.is_over(now) && !lease.is_passed_over()).count();
    let unsettled = leases.delivered() + leases.passed_over();
    GroupQueueStats {
        settled: progress.first_unsettled().clamp(start, end) as i64,
        next: next as i64,
        end: end as i64,
        lag: (end - next) as i64 + unsettled as i64,
        in_flight: Some((leases.delivered() - over) as i64),
        retry: Some(over as i64),
        blocked: Some(leases.passed_over() as i64),
        ..GroupQueueStats::default()
    }
}

/// When the message at this offset, or the next one that is there, was stored, in ms since 1970. Reads the disk.
fn stored_at(queue: &Queue, store: &Store, offset: u64) -> Result<Option<u64>, ServiceError> {
    if offset >= queue.end() {
        return Ok(None);
    }
    if let Some(chunk) = queue.recent(offset) {
        return Ok(Some(chunk.stored_at()));
    }
    Ok(queue.read(store, offset, 1)?.first().map(super::chunk::Chunk::stored_at))
}
