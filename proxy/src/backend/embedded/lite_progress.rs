//! Sums up a group's progress in all lite topics of a LITE topic.
//!
//! For lite topics in memory, the progress is taken from memory. For the others, it is read in one pass over the
//! group's keys. Their ranges of offsets are cached, as they don't change until the lite topic is used
//! ([`super::lite_ranges`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catalog::Catalog;
use super::clock;
use super::keys;
use super::lease::Lease;
use super::lite_topics::LiteTopics;
use super::queue::Queue;
use super::queue_progress::QueueProgress;
use super::queue_stats::{stats_of_queue, stored_at};
use super::store::{Store, corrupt, unavailable};
use super::topic::Topic;
use crate::service::{GroupQueueStats, ServiceError, time};

/// Lite topics that can't be read within this time are left out. Reading the list of lite topics may take as long, too.
const MAX_TIME: Duration = Duration::from_secs(1);
/// How many records of lite topics are read at once.
const RECORDS_PER_READ: usize = 512;

/// A group's progress in all lite topics of a LITE topic.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LiteProgress {
    /// The sums over the lite topics from which the group has received or to which it is subscribed.
    pub(super) sum: GroupQueueStats,
    /// The number of these lite topics.
    pub(super) lite_topics: usize,
    /// Whether some are missing because the time was up.
    pub(super) truncated: bool,
}

/// Sums up a group's progress in the lite topics of `parent`. Reads their list and then their progress from the disk, each
/// for up to [`MAX_TIME`].
pub(super) fn progress_in_lite_topics(
    store: &Store,
    catalog: &Catalog,
    group: u32,
    parent: &Topic,
) -> Result<LiteProgress, ServiceError> {
    let mut scan = ProgressScan {
        store,
        lite: &catalog.lite,
        group,
        in_memory: catalog.lite.loaded_of(parent.id()),
        now: clock::monotonic(),
        found: LiteProgress::default(),
    };
    scan.run(parent.id())?;
    Ok(scan.found)
}

struct ProgressScan<'a> {
    store: &'a Store,
    lite: &'a LiteTopics,
    group: u32,
    /// By id.
    in_memory: HashMap<u32, Arc<Topic>>,
    /// In ms of [`clock::monotonic`].
    now: u64,
    found: LiteProgress,
}

/// A lite topic of the LITE topic.
struct ListedLiteTopic {
    id: u32,
    is_subscribed: bool,
}

impl ProgressScan<'_> {
    fn run(&mut self, parent: u32) -> Result<(), ServiceError> {
        let mut members = self.members(parent)?;
        let end = Instant::now() + MAX_TIME;
        // In the order of the group's keys.
        members.sort_unstable_by_key(|member| member.id);
        let state = self.store.state()?;
        let mut entries = state.prefix(self.group.to_be_bytes()).map(progress_entry).peekable();
        for member in members {
            while entries.next_if(|entry| entry.as_ref().is_ok_and(|entry| entry.topic < member.id)).is_some()
            {
            }
            let mut progress = QueueProgress::default();
            let mut has_begun = false;
            while let Some(entry) =
                entries.next_if(|entry| entry.as_ref().map_or(true, |entry| entry.topic == member.id))
            {
                let entry = entry?;
                match entry.offset {
                    Some(offset) => progress.load_lease(offset, entry.lease()?),
                    None => progress.load_cursor(entry.cursor()?),
                }
                has_begun = true;
            }
            // All messages are pending for a group that has subscribed but not received yet.
            if !has_begun && !member.is_subscribed {
                continue;
            }
            if Instant::now() >= end {
                self.found.truncated = true;
                return Ok(());
            }
            self.add(member.id, progress)?;
        }
        Ok(())
    }

    /// Reads the list of the lite topics.
    fn members(&mut self, parent: u32) -> Result<Vec<ListedLiteTopic>, ServiceError> {
        let subscribed = self.lite.subscriptions().of_group(parent, self.group);
        let (mut members, mut after) = (Vec::new(), None);
        let end = Instant::now() + MAX_TIME;
        loop {
            let mut page = self.lite.records(Some(parent), after.as_ref(), RECORDS_PER_READ)?;
            members.extend(page.iter().map(|record| ListedLiteTopic {
                id: record.id,
                is_subscribed: subscribed.contains(record.name.as_str()),
            }));
            after = page.pop();
            self.found.truncated = after.is_some() && Instant::now() >= end;
            if after.is_none() || self.found.truncated {
                return Ok(members);
            }
        }
    }

    /// Adds the progress in a lite topic. `stored` is the progress on the disk.
    fn add(&mut self, id: u32, mut stored: QueueProgress) -> Result<(), ServiceError> {
        let (store, now) = (self.store, self.now);
        let Some(topic) = self.in_memory.get(&id) else {
            let range = self.lite.stored_range(id)?;
            stored.finish_loading(range.0, range.1);
            let mut stats = stats_of_queue(&stored, range, now);
            if stats.lag > 0 {
                stats.oldest = self.lite.stored_at(id, stats.settled as u64)?.map(|at| time(at as i64));
            }
            self.sum(stats);
            return Ok(());
        };
        let queue = match topic.peek_loaded() {
            Some(queues) => queues[0].clone(),
            None => Arc::new(Queue::load(store, id, 0)?),
        };
        let range = queue.range();
        let known = topic.peek_consumer(self.group);
        let in_memory = known.as_ref().and_then(|known| {
            let state = known.lock()?;
            Some(stats_of_queue(state.queues().first()?, range, now))
        });
        let mut stats = in_memory.unwrap_or_else(|| {
            stored.finish_loading(range.0, range.1);
            stats_of_queue(&stored, range, now)
        });
        if stats.lag > 0 {
            stats.oldest = stored_at(&queue, store, stats.settled as u64)?.map(|at| time(at as i64));
        }
        self.sum(stats);
        Ok(())
    }

    fn sum(&mut self, stats: GroupQueueStats) {
        let sum = &mut self.found.sum;
        let both = |a: Option<i64>, b: Option<i64>| Some(a.unwrap_or(0) + b.unwrap_or(0));
        *sum = GroupQueueStats {
            broker: String::new(),
            id: 0,
            settled: sum.settled + stats.settled,
            next: sum.next + stats.next,
            end: sum.end + stats.end,
            lag: sum.lag + stats.lag,
            in_flight: both(sum.in_flight, stats.in_flight),
            retry: both(sum.retry, stats.retry),
            blocked: both(sum.blocked, stats.blocked),
            oldest: [sum.oldest, stats.oldest].into_iter().flatten().min(),
        };
        self.found.lite_topics += 1;
    }
}

/// A cursor or a lease of a group.
struct ProgressRecord {
    topic: u32,
    /// The offset of a lease. `None` for a cursor.
    offset: Option<u64>,
    value: fjall::UserValue,
}

fn progress_entry(entry: fjall::Guard) -> Result<ProgressRecord, ServiceError> {
    let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
    let malformed = || corrupt("progress key");
    let topic = key.get(4..).and_then(<[u8]>::first_chunk).ok_or_else(malformed)?;
    let (_, offset) = keys::progress_parts(&key).ok_or_else(malformed)?;
    Ok(ProgressRecord { topic: u32::from_be_bytes(*topic), offset, value })
}

impl ProgressRecord {
    fn lease(&self) -> Result<Lease, ServiceError> {
        Lease::decode(&self.value).map_err(|_| corrupt("lease"))
    }

    fn cursor(&self) -> Result<u64, ServiceError> {
        self.value.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| corrupt("cursor"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::broker::Broker;
    use super::super::catalog::IfExists;
    use super::super::config::EmbeddedConfig;
    use super::super::idle::unload;
    use super::super::retention::{Cutoff, Retention};
    use super::super::testing::{open, request, uncached};
    use super::*;
    use crate::service::{
        AckOutcome, Acknowledge, Administration, Change, Delivered, Delivery, GroupConfig, GroupTopicStats,
        LiteAction, LiteChange, LiteSubscriptions, Message, Messages, Receive, Settle, TopicConfig,
        TopicKind,
    };

    const MINUTE: Duration = Duration::from_secs(60);

    /// Creates a broker with a group that is bound to a LITE topic.
    async fn lite(config: EmbeddedConfig) -> Broker {
        let broker = open(config).await;
        let topic = TopicConfig::new("topic", TopicKind::Lite, 1);
        let topic = TopicConfig { lite_expiration: Some(MINUTE), ..topic };
        broker.catalog.put_topic(topic, IfExists::Refuse).expect("a new topic");
        broker.group("group").await.expect("a group");
        let bind: Change<GroupConfig> = Arc::new(|config| {
            Ok(GroupConfig { lite_bind_topic: Some("topic".to_owned()), ..config.clone() })
        });
        broker.catalog.change_group("group", &bind).expect("a change");
        broker
    }

    async fn subscribe(broker: &Broker, names: &[&str]) {
        let change = LiteChange {
            client_id: "c".to_owned(),
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            action: LiteAction::Replace,
            lite_topics: names.iter().map(|name| (*name).to_owned()).collect(),
            quota: 10,
            start: None,
            deadline: Instant::now() + MINUTE,
        };
        broker.sync(change).await.expect("a subscription");
    }

    async fn send(broker: &Broker, lite_topics: &[&str]) {
        for name in lite_topics {
            let message = Message { lite_topic: Some((*name).to_owned()), ..Message::default() };
            let sent = Messages::send(broker, "topic", vec![message], Instant::now() + MINUTE).await;
            sent.expect("a send").remove(0).expect("it is stored");
        }
    }

    async fn receive(broker: &Broker) -> Delivery {
        let asked = Receive { lite_client: Some("c".to_owned()), ..request(1) };
        match Messages::receive(broker, asked).await.expect("a receive") {
            Delivered::Messages(mut deliveries) => deliveries.remove(0),
            other => panic!("{other:?}"),
        }
    }

    async fn acknowledge(broker: &Broker, delivery: &Delivery) {
        let request = Acknowledge {
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            entries: vec![Settle::from(delivery)],
            deadline: Instant::now() + MINUTE,
        };
        let outcomes = broker.acknowledge(request).await.expect("an acknowledgement");
        assert!(matches!(outcomes[..], [AckOutcome::Done]));
    }

    async fn stats(broker: &Broker) -> Option<GroupTopicStats> {
        let mut all = broker.group_stats("group", None).await.expect("statistics");
        assert!(!all.truncated);
        let one = broker.group_stats("group", Some("topic")).await.expect("statistics");
        assert_eq!(all, one);
        all.topics.pop()
    }

    /// Returns the settled messages, the lag, and the messages in flight.
    async fn numbers(broker: &Broker) -> (i64, i64, Option<i64>) {
        let stats = stats(broker).await.expect("the group has progress");
        let [queue] = &stats.queues[..] else { panic!("{stats:?}") };
        assert_eq!((stats.topic.as_str(), queue.oldest.is_some()), ("topic", queue.lag > 0));
        (queue.settled, queue.lag, queue.in_flight)
    }

    fn unload_all(broker: &Broker) {
        for _ in 0..3 {
            unload(&broker.catalog);
        }
        assert!(broker.catalog.lite.all_loaded().is_empty());
    }

    #[tokio::test]
    async fn the_lag_is_the_same_in_memory_and_on_the_disk() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = lite(uncached(&directory)).await;
        send(&broker, &["a", "a", "b", "other"]).await;
        assert_eq!(stats(&broker).await, None, "the group has no subscriptions");
        subscribe(&broker, &["a", "b", "not-yet"]).await;
        assert_eq!(numbers(&broker).await, (0, 3, Some(0)));
        let first = receive(&broker).await;
        assert_eq!(numbers(&broker).await, (0, 3, Some(1)));
        acknowledge(&broker, &first).await;
        assert_eq!(numbers(&broker).await, (1, 2, Some(0)));
        let rates = stats(&broker).await.map(|stats| (stats.rate_delivered, stats.rate_settled));
        assert!(rates.is_some_and(|(delivered, settled)| delivered > Some(0.0) && settled > Some(0.0)));

        unload_all(&broker);
        assert_eq!(numbers(&broker).await, (1, 2, Some(0)));
        assert!(broker.catalog.lite.all_loaded().is_empty(), "statistics do not load them");
        send(&broker, &["b"]).await;
        assert_eq!(numbers(&broker).await, (1, 3, Some(0)));
        unload_all(&broker);
        assert_eq!(numbers(&broker).await, (1, 3, Some(0)), "the cached range was dropped");

        let leased = receive(&broker).await;
        drop(broker);
        let broker = open(uncached(&directory)).await;
        assert_eq!(numbers(&broker).await, (1, 3, Some(1)));
        acknowledge(&broker, &leased).await;
        assert_eq!(numbers(&broker).await, (2, 2, Some(0)));
    }

    #[tokio::test]
    async fn removed_messages_are_skipped() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = lite(uncached(&directory)).await;
        subscribe(&broker, &["a", "b"]).await;
        send(&broker, &["a", "a", "a", "b"]).await;
        let (first, second) = (receive(&broker).await, receive(&broker).await);
        acknowledge(&broker, &first).await;
        acknowledge(&broker, &second).await;
        unload_all(&broker);
        assert_eq!(numbers(&broker).await.1, 2);
        let retention = Retention::new(broker.store.clone(), broker.catalog.clone(), &broker.config);
        let later = clock::now() + 600_000;
        retention.review_lite_topics(None, Cutoff::At(later)).expect("a pass");
        assert_eq!(numbers(&broker).await.1, 1, "the last chunk of each stays, and one message was consumed");
        subscribe(&broker, &[]).await;
        while broker.catalog.lite.count(broker.known_topic("topic").expect("a topic").id()).expect("a count")
            > 0
        {
            retention.review_lite_topics(Some(later), Cutoff::At(0)).expect("a pass");
        }
        assert_eq!(stats(&broker).await, None);
    }
}
