//! Implements the administration service: statistics, stored messages, resets and users.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::blocking::blocking;
use super::broker::Broker;
use super::catalog::{Catalog, group_not_found};
use super::clock;
use super::disk_usage;
use super::keys;
use super::lite_progress::{LiteProgress, progress_in_lite_topics};
use super::lite_topics::LiteRecord;
use super::meter::Meter;
use super::progress::{Progress, ProgressState};
use super::queue::Queue;
use super::queue_progress::QueueProgress;
use super::queue_stats::{ends, stats_of_queue, stored_at};
use super::store::{OpenDatabase, corrupt, unavailable};
use super::topic::Topic;
use crate::service::{
    Administration, DiskStats, GroupQueueStats, GroupStats, GroupTopicStats, LiteTopicPage, LiteTopicStats,
    QueueReset, QueueStats, ReadPage, ReadQueue, ResetGroup, ServiceError, StoreStats, StoredUser, TopicKind,
    TopicStats, time,
};

/// The maximum number of topics in the statistics of a group.
const MAX_TOPICS: usize = 1000;
/// The maximum number of reads of the disk in search of the topics of a group.
const MAX_PROBES: usize = 100_000;
/// The maximum number of lite topics in a list of the lite topics of a LITE topic.
const MAX_LITE_TOPICS: usize = 1000;
/// The longest time to collect such a list.
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
            let loaded = topic.peek_queues(&store)?;
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
            let bytes = disk_usage::stored_bytes(&loaded, &store)?;
            let arrivals = topic.lite_membership().is_none().then(|| topic.arrivals());
            let rate_in = arrivals.map(Meter::rate);
            let stored = arrivals.map(Meter::counts);
            Ok(TopicStats { queues, bytes: Some(bytes), rate_in, stored, lite_topics })
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
        let (mut topics_with_progress, mut truncated) = blocking(move || {
            let state = store.state()?;
            match wanted {
                Some(topic) => Ok((filter_with_progress(&state, vec![topic], group.id)?, false)),
                // Not by the group's keys, which include those of all its lite topics.
                None if is_bound => Ok((filter_with_progress(&state, catalog.topics(), group.id)?, false)),
                None => topics_with_progress(&state, &catalog, group.id),
            }
        })
        .await?;
        topics_with_progress.retain(|topic| bound.as_ref().is_none_or(|bound| bound.id() != topic.id()));
        topics_with_progress.sort_by_key(|topic| topic.config().name);
        truncated |= topics_with_progress.len() > MAX_TOPICS;
        topics_with_progress.truncate(MAX_TOPICS);
        let mut topics = Vec::with_capacity(topics_with_progress.len());
        for topic in topics_with_progress {
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
        blocking(move || disk_usage::store_stats(&store, &catalog)).await
    }

    async fn disk_stats(&self) -> Result<DiskStats, ServiceError> {
        let store = self.store.clone();
        blocking(move || disk_usage::disk_stats(&store)).await
    }
}

impl Broker {
    /// Returns the statistics of a group in a topic. Neither loads queues or progress nor counts as a use of them.
    async fn group_in_topic(&self, topic: &Arc<Topic>, group: u32) -> Result<GroupTopicStats, ServiceError> {
        let (store, catalog, topic) = (self.store.clone(), self.catalog.clone(), topic.clone());
        let broker = self.config.broker_name.clone();
        blocking(move || {
            let queues = topic.peek_queues(&store)?;
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

    /// Returns the statistics of a group in all lite topics of a LITE topic. `None` if the group has neither received
    /// from any nor subscribed to any. Also returns whether some lite topics are missing.
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
    let counts =
        |meter: fn(&Progress) -> &Meter| Some(progress.map(|of| meter(of).counts()).unwrap_or_default());
    GroupTopicStats {
        topic: topic.config().name,
        queues,
        rate_delivered: rate(|progress| &progress.delivered),
        rate_settled: rate(|progress| &progress.settled),
        delivered: counts(|progress| &progress.delivered),
        settled: counts(|progress| &progress.settled),
    }
}

fn queue_stats(state: &ProgressState, queues: &[Arc<Queue>]) -> Vec<GroupQueueStats> {
    let now = clock::monotonic();
    let stats = queues.iter().enumerate().map(|(index, queue)| {
        let stats = state.queues().get(index).map_or_else(
            || stats_of_queue(&QueueProgress::default(), queue.range(), now),
            |known| stats_of_queue(known, queue.range(), now),
        );
        GroupQueueStats { id: queue.id() as i32, ..stats }
    });
    stats.collect()
}

/// Filters the topics from which a group has received. Reads the disk once per topic.
fn filter_with_progress(
    state: &OpenDatabase,
    topics: Vec<Arc<Topic>>,
    group: u32,
) -> Result<Vec<Arc<Topic>>, ServiceError> {
    let mut found = Vec::new();
    for topic in topics {
        if let Some(entry) = state.prefix(keys::group_topic(group, topic.id())).next() {
            entry.key().map_err(|e| unavailable(&e))?;
            found.push(topic);
        }
    }
    Ok(found)
}

/// Finds the topics from which a group has received, and returns whether some are missing. Reads the disk once per topic.
fn topics_with_progress(
    state: &OpenDatabase,
    catalog: &Catalog,
    group: u32,
) -> Result<(Vec<Arc<Topic>>, bool), ServiceError> {
    let (mut found, mut from) = (Vec::new(), 0);
    let prefix = group.to_be_bytes();
    // The keys may include those of lite topics, if the group was once bound to a LITE topic.
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
