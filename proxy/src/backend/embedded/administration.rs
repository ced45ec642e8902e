//! Statistics for administrators, and reading of stored messages.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;

use super::blocking::blocking;
use super::broker::Broker;
use super::catalog::{Catalog, group_not_found};
use super::clock;
use super::keys;
use super::lite_progress::{LiteProgress, progress_in_lite_topics};
use super::lite_topics::LiteRecord;
use super::meter::Meter;
use super::progress::{Progress, State};
use super::queue::Queue;
use super::queue_progress::QueueProgress;
use super::store::{Opened, Store, corrupt, unavailable};
use super::topic::Topic;
use super::usage;
use crate::service::{
    Administration, DiskStats, GroupQueueStats, GroupStats, GroupTopicStats, LiteTopicPage, LiteTopicStats,
    QueueReset, QueueStats, ReadPage, ReadQueue, ResetGroup, ServiceError, StoreStats, StoredUser, TopicKind,
    TopicStats, time,
};

/// An answer about a group has no more topics.
const MAX_TOPICS: usize = 1000;
/// Nor does it look for topics more often than this.
const MAX_PROBES: usize = 100_000;
/// An answer about a LITE topic has no more lite topics.
const MAX_LITE_TOPICS: usize = 1000;
/// Nor does it take longer to collect them.
const MAX_TIME: Duration = Duration::from_millis(500);

#[async_trait]
impl Administration for Broker {
    async fn topic_stats(&self, topic: &str, lite_topic: Option<&str>) -> Result<TopicStats, ServiceError> {
        let mut topic = self.known_topic(topic)?;
        let (store, broker, catalog) =
            (self.store.clone(), self.config.broker_name.clone(), self.catalog.clone());
        let lite_topic = lite_topic.map(str::to_owned);
        blocking(move || {
            let lite_topics = match &lite_topic {
                Some(name) => {
                    topic = catalog.lite.existing(&topic, name)?;
                    None
                }
                None if topic.kind() == TopicKind::Lite => Some(catalog.lite.count(topic.id())? as u64),
                None => None,
            };
            let loaded = topic.view(&store)?;
            let mut queues = Vec::with_capacity(loaded.len());
            for queue in loaded.iter() {
                let (first, next) = queue.range();
                let (oldest, newest) = ends(queue, &store)?;
                queues.push(QueueStats {
                    broker: broker.clone(),
                    id: queue.id() as i32,
                    first: first as i64,
                    next: next as i64,
                    oldest,
                    newest,
                });
            }
            let bytes = usage::stored_bytes(&loaded, &store)?;
            let rate_in = topic.lite_membership().is_none().then(|| topic.arrivals().rate());
            Ok(TopicStats { queues, bytes: Some(bytes), rate_in, lite_topics })
        })
        .await
    }

    async fn lite_topics(
        &self,
        topic: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<LiteTopicPage, ServiceError> {
        let topic = self.known_topic(topic)?;
        let (store, catalog) = (self.store.clone(), self.catalog.clone());
        let after = after.map(|name| LiteRecord { parent: topic.id(), name: name.to_owned(), id: 0 });
        blocking(move || {
            let (started, max) = (Instant::now(), max.min(MAX_LITE_TOPICS));
            let records = catalog.lite.records(Some(topic.id()), after.as_ref(), max)?;
            let mut page = LiteTopicPage { finished: records.len() < max, ..LiteTopicPage::default() };
            for record in records {
                if started.elapsed() >= MAX_TIME {
                    page.finished = false;
                    break;
                }
                let queue = catalog.lite.queue(&store, &record)?;
                let (first, next) = queue.range();
                let (oldest, newest) = ends(&queue, &store)?;
                page.lite_topics.push(LiteTopicStats {
                    subscribed: catalog.lite.subscriptions().has_subscribers(record.parent, &record.name),
                    name: record.name,
                    first: first as i64,
                    next: next as i64,
                    oldest,
                    newest,
                });
            }
            Ok(page)
        })
        .await
    }

    async fn group_stats(&self, group: &str, topic: Option<&str>) -> Result<GroupStats, ServiceError> {
        let group = self.catalog.group(group).ok_or_else(|| group_not_found(group))?;
        let only = topic.map(|topic| self.known_topic(topic)).transpose()?;
        let bound = group.config.lite_bind_topic.as_ref().and_then(|bound| self.catalog.topic(bound));
        let (store, catalog) = (self.store.clone(), self.catalog.clone());
        let (is_bound, wanted) = (bound.is_some(), only.clone());
        let (mut begun, mut truncated) = blocking(move || {
            let state = store.state()?;
            match wanted {
                Some(topic) => Ok((begun_of(&state, vec![topic], group.id)?, false)),
                // The group's keys lead to each of its lite topics.
                None if is_bound => Ok((begun_of(&state, catalog.topics(), group.id)?, false)),
                None => begun(&state, &catalog, group.id),
            }
        })
        .await?;
        begun.retain(|topic| bound.as_ref().is_none_or(|bound| bound.id() != topic.id()));
        begun.sort_by_key(|topic| topic.config().name);
        truncated |= begun.len() > MAX_TOPICS;
        begun.truncate(MAX_TOPICS);
        let mut topics = Vec::with_capacity(begun.len());
        for topic in begun {
            topics.push(self.group_in_topic(&topic, group.id).await?);
        }
        let bound = bound.filter(|bound| only.is_none_or(|only| only.id() == bound.id()));
        if let Some(bound) = bound {
            let (stats, is_partial) = self.group_in_lite_topics(&bound, group.id).await?;
            truncated |= is_partial;
            topics.extend(stats);
        }
        Ok(GroupStats { topics, truncated })
    }

    async fn read(&self, read: ReadQueue) -> Result<ReadPage, ServiceError> {
        self.read_stored(read).await
    }

    async fn reset(&self, reset: ResetGroup) -> Result<Vec<QueueReset>, ServiceError> {
        self.reset_group(reset).await
    }

    async fn stored_users(&self) -> Result<Vec<StoredUser>, ServiceError> {
        Ok(self.catalog.users())
    }

    async fn put_user(&self, user: StoredUser) -> Result<(), ServiceError> {
        let catalog = self.catalog.clone();
        blocking(move || catalog.put_user(user)).await
    }

    async fn remove_user(&self, name: &str) -> Result<(), ServiceError> {
        let (catalog, name) = (self.catalog.clone(), name.to_owned());
        blocking(move || catalog.remove_user(&name)).await
    }

    async fn store_stats(&self) -> Result<StoreStats, ServiceError> {
        let (store, catalog) = (self.store.clone(), self.catalog.clone());
        blocking(move || usage::store_stats(&store, &catalog)).await
    }

    async fn disk_stats(&self) -> Result<DiskStats, ServiceError> {
        let store = self.store.clone();
        blocking(move || usage::disk_stats(&store)).await
    }
}

impl Broker {
    /// A look at it: what is not in memory does not come there, and what is does not stay for this.
    async fn group_in_topic(&self, topic: &Arc<Topic>, group: u32) -> Result<GroupTopicStats, ServiceError> {
        let (store, catalog, topic) = (self.store.clone(), self.catalog.clone(), topic.clone());
        let broker = self.config.broker_name.clone();
        blocking(move || {
            let queues = topic.view(&store)?;
            let known = topic.peek_consumer(group);
            let in_memory = known.as_ref().and_then(|known| Some(queue_stats(&*known.lock()?, &queues)));
            let mut stats = match in_memory {
                Some(stats) => stats,
                None => {
                    let progress = Progress::new(group, topic.id());
                    queue_stats(&progress.read(&store, &queues, catalog.start_of(group))?, &queues)
                }
            };
            for (stats, queue) in stats.iter_mut().zip(queues.iter()) {
                stats.broker.clone_from(&broker);
                if stats.lag > 0 {
                    let oldest = stored_at(queue, &store, stats.settled as u64)?;
                    stats.oldest = oldest.map(|at| time(at as i64));
                }
            }
            Ok(with_rates(&topic, stats, known.as_deref()))
        })
        .await
    }

    /// The same for the lite topics of the LITE topic that a group is bound to. `None` if it has received from none and is
    /// subscribed to none. Also returns whether some were left out.
    async fn group_in_lite_topics(
        &self,
        topic: &Arc<Topic>,
        group: u32,
    ) -> Result<(Option<GroupTopicStats>, bool), ServiceError> {
        let (store, catalog, topic) = (self.store.clone(), self.catalog.clone(), topic.clone());
        let broker = self.config.broker_name.clone();
        blocking(move || {
            let LiteProgress { sum, lite_topics, truncated } =
                progress_in_lite_topics(&store, &catalog, group, &topic)?;
            let known = topic.peek_consumer(group);
            let stats = || with_rates(&topic, vec![GroupQueueStats { broker, ..sum }], known.as_deref());
            Ok(((lite_topics > 0).then(stats), truncated))
        })
        .await
    }
}

fn with_rates(topic: &Topic, queues: Vec<GroupQueueStats>, progress: Option<&Progress>) -> GroupTopicStats {
    let rate = |meter: fn(&Progress) -> &Meter| Some(progress.map_or(0.0, |of| meter(of).rate()));
    GroupTopicStats {
        topic: topic.config().name,
        queues,
        rate_delivered: rate(|progress| &progress.delivered),
        rate_settled: rate(|progress| &progress.settled),
    }
}

fn queue_stats(state: &State, queues: &[Arc<Queue>]) -> Vec<GroupQueueStats> {
    let now = clock::monotonic();
    let stats = queues.iter().enumerate().map(|(index, queue)| {
        let stats = state.queues().get(index).map_or_else(
            || of_queue(&QueueProgress::default(), queue.range(), now),
            |known| of_queue(known, queue.range(), now),
        );
        GroupQueueStats { id: queue.id() as i32, ..stats }
    });
    stats.collect()
}

/// A group's progress in a queue with this range.
pub(super) fn of_queue(progress: &QueueProgress, (start, end): (u64, u64), now: u64) -> GroupQueueStats {
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

/// Those of the topics from which a group has received. Reads the disk once for each.
fn begun_of(state: &Opened, topics: Vec<Arc<Topic>>, group: u32) -> Result<Vec<Arc<Topic>>, ServiceError> {
    let mut found = Vec::new();
    for topic in topics {
        if let Some(entry) = state.prefix(keys::group_topic(group, topic.id())).next() {
            entry.key().map_err(|e| unavailable(&e))?;
            found.push(topic);
        }
    }
    Ok(found)
}

/// The topics from which a group has received, and whether some were left out. Reads the disk once for each.
fn begun(state: &Opened, catalog: &Catalog, group: u32) -> Result<(Vec<Arc<Topic>>, bool), ServiceError> {
    let (mut found, mut from) = (Vec::new(), 0);
    let prefix = group.to_be_bytes();
    // Lite topics may be among them, of a group that was bound to a LITE topic once.
    for _ in 0..MAX_PROBES {
        let Some(entry) = state.range(keys::group_topic(group, from)..).next() else {
            return Ok((found, false));
        };
        let key = entry.key().map_err(|e| unavailable(&e))?;
        let Some(rest) = key.strip_prefix(&prefix) else { return Ok((found, false)) };
        let topic =
            rest.first_chunk().copied().map(u32::from_be_bytes).ok_or_else(|| corrupt("progress key"))?;
        found.extend(catalog.topic_by_id(topic));
        let Some(next) = topic.checked_add(1) else { return Ok((found, false)) };
        if found.len() > MAX_TOPICS {
            break;
        }
        from = next;
    }
    Ok((found, true))
}

/// When the first and the last message of a queue were stored. Reads the disk.
fn ends(queue: &Queue, store: &Store) -> Result<(Option<SystemTime>, Option<SystemTime>), ServiceError> {
    let (first, next) = queue.range();
    let at = |offset| -> Result<Option<SystemTime>, ServiceError> {
        Ok(stored_at(queue, store, offset)?.map(|at| time(at as i64)))
    };
    Ok((at(first)?, next.checked_sub(1).map_or(Ok(None), at)?))
}

/// When the message at this offset, or the next one that is there, was stored, in ms since 1970. Reads the disk.
pub(super) fn stored_at(queue: &Queue, store: &Store, offset: u64) -> Result<Option<u64>, ServiceError> {
    if offset >= queue.end() {
        return Ok(None);
    }
    if let Some(chunk) = queue.recent(offset) {
        return Ok(Some(chunk.stored_at()));
    }
    Ok(queue.read(store, offset, 1)?.first().map(super::chunk::Chunk::stored_at))
}
