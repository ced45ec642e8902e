//! Statistics, resets and reads of stored messages, as far as brokers offer them (Apache's `AdminBrokerProcessor`).

use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;

use super::answer::success;
use super::convert;
use super::metadata::parse;
use super::services::Remote;
use crate::remoting::broker_stats::{self, BrokerStats, DELIVERED, PeriodStats, SETTLED, STORED};
use crate::remoting::{RemotingCommand, request};
use crate::service::{
    Administration, BrokerAcl, Delivery, EventCounts, Filter, GroupQueueStats, GroupStats, GroupTopicStats,
    Metadata, Offsets, Pull, PullOutcome, Pulled, QueueRef, QueueReset, QueueStats, ReadMessage, ReadPage,
    ReadQueue, ResetGroup, ResetTarget, ServiceError, ServiceErrorKind, TopicStats, Whence, millis,
};

/// A group that every broker has, for tools.
const TOOLS_GROUP: &str = "TOOLS_CONSUMER";
/// The maximum number of concurrent calls about queues.
const MAX_CONCURRENT_CALLS: usize = 8;
/// The timeout of the calls about one queue.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum number of messages that one read looks at.
const MAX_LOOKED_AT: u64 = 20_000;
/// A read ends once it has found this many bytes of bodies. Its last message may exceed the limit.
const MAX_BYTES: usize = 2 << 20;
/// A read ends after this time. Its last pull may exceed the limit.
const MAX_TIME: Duration = Duration::from_millis(500);
/// Messages of one pull.
const PULL_SIZE: usize = 32;

#[async_trait]
impl Administration for Remote {
    async fn topic_stats(&self, topic: &str, lite_topic: Option<&str>) -> Result<TopicStats, ServiceError> {
        refuse_lite(lite_topic)?;
        let queues = stream::iter(self.queues(topic).await?)
            .map(|(broker, id)| self.queue_stats(topic, broker, id))
            .buffered(MAX_CONCURRENT_CALLS)
            .try_collect()
            .await?;
        let (rate_in, stored) = self.events(STORED, topic).await.unzip();
        Ok(TopicStats { queues, bytes: None, rate_in, stored, lite_topics: None })
    }

    async fn group_stats(&self, group: &str, topic: Option<&str>) -> Result<GroupStats, ServiceError> {
        if !self.cluster.list_groups().await?.iter().any(|known| known.name == group) {
            return Err(no_group(group));
        }
        let names = match topic {
            Some(topic) => vec![topic.to_owned()],
            None => self.topics_of(group).await?,
        };
        let mut topics = Vec::new();
        for name in names {
            // A topic that was deleted in the meantime has no route.
            let queues = match self.queues(&name).await {
                Err(error) if error.kind == ServiceErrorKind::TopicNotFound && topic.is_none() => continue,
                queues => queues?,
            };
            let progress: Vec<Option<GroupQueueStats>> = stream::iter(queues)
                .map(async |(broker, id)| self.group_queue_stats(group, queue_of(&name, &broker, id)).await)
                .buffered(MAX_CONCURRENT_CALLS)
                .try_collect()
                .await?;
            let queues: Vec<_> = progress.into_iter().flatten().collect();
            if queues.is_empty() {
                continue;
            }
            let key = broker_stats::group_key(&name, group);
            let (rate_delivered, delivered) = self.events(DELIVERED, &key).await.unzip();
            let (rate_settled, settled) = self.events(SETTLED, &key).await.unzip();
            topics.push(GroupTopicStats {
                topic: name,
                queues,
                rate_delivered,
                rate_settled,
                delivered,
                settled,
            });
        }
        Ok(GroupStats { topics, truncated: false })
    }

    // Queues are reset one by one. After a failure, the remaining queues are unchanged and the reset can be repeated.
    async fn reset(&self, reset: ResetGroup) -> Result<Vec<QueueReset>, ServiceError> {
        if !self.cluster.list_groups().await?.iter().any(|known| known.name == reset.group) {
            return Err(no_group(&reset.group));
        }
        let mut queues = self.queues(&reset.topic).await?;
        let whence = match &reset.target {
            ResetTarget::Earliest => Some(Whence::Beginning),
            ResetTarget::Latest => Some(Whence::End),
            ResetTarget::Time(at) => Some(Whence::Time(*at)),
            ResetTarget::Offset { broker, queue, .. } => {
                queues
                    .retain(|(name, id)| id == queue && broker.as_ref().is_none_or(|broker| broker == name));
                None
            }
        };
        if whence.is_none() && queues.len() != 1 {
            let text = match queues.is_empty() {
                true => format!("topic {} has no such queue", reset.topic),
                false => "several brokers have a queue with this id: name the broker".to_owned(),
            };
            return Err(ServiceError::new(ServiceErrorKind::Rejected, text));
        }
        let mut resets = Vec::with_capacity(queues.len());
        for (broker, id) in queues {
            resets.push(self.reset_queue(&reset, queue_of(&reset.topic, &broker, id), whence).await?);
        }
        Ok(resets)
    }

    async fn acl(&self) -> Result<BrokerAcl, ServiceError> {
        self.cluster.acl().await
    }

    async fn read(&self, read: ReadQueue) -> Result<ReadPage, ServiceError> {
        refuse_lite(read.lite_topic.as_deref())?;
        let started = Instant::now();
        let queue = queue_of(&read.topic, &read.broker, read.queue_id);
        let end = self.offset(queue, Whence::End).await?;
        let mut next = read.offset.max(self.offset(queue, Whence::Beginning).await?);
        if let Some(from) = read.from {
            next = next.max(self.offset(queue, Whence::Time(from)).await?);
        }
        let mut page = ReadPage::default();
        let mut bytes = 0;
        'pages: while next < end {
            let pulled = self.pull_page(queue, next, PULL_SIZE).await?;
            let PullOutcome::Messages(messages) = pulled.outcome else {
                // The broker found no readable message, or corrected the offset.
                if pulled.next_offset <= next {
                    next = end;
                    break;
                }
                next = pulled.next_offset;
                continue;
            };
            for mut delivery in messages {
                if read.to.is_some_and(|to| millis(delivery.stored_at) > millis(to)) {
                    next = end;
                    break 'pages;
                }
                let is_full = page.messages.len() >= read.max || bytes >= MAX_BYTES;
                if is_full || page.looked_at >= MAX_LOOKED_AT || started.elapsed() >= MAX_TIME {
                    break 'pages;
                }
                page.looked_at += 1;
                next = delivery.queue_offset + 1;
                if !read.wanted.matches(&delivery.message.id, &delivery.message.keys) {
                    continue;
                }
                let body_bytes = delivery.message.body.len();
                let body = &delivery.message.body[..body_bytes.min(read.max_body)];
                delivery.message.body = Bytes::copy_from_slice(body);
                bytes += delivery.message.body.len();
                page.messages.push(ReadMessage { delivery, broker: read.broker.clone(), body_bytes });
            }
        }
        page.next_offset = next;
        page.finished = next >= end;
        Ok(page)
    }
}

impl Remote {
    async fn reset_queue(
        &self,
        reset: &ResetGroup,
        queue: QueueRef<'_>,
        whence: Option<Whence>,
    ) -> Result<QueueReset, ServiceError> {
        let (first, end) =
            (self.offset(queue, Whence::Beginning).await?, self.offset(queue, Whence::End).await?);
        let offset = match (whence, &reset.target) {
            (Some(whence), _) => self.offset(queue, whence).await?.clamp(first, end),
            (None, ResetTarget::Offset { offset, .. }) if (first..=end).contains(offset) => *offset,
            (None, _) => {
                let text = format!("the offset must be from {first} to {end} in queue {}", queue.id);
                return Err(ServiceError::new(ServiceErrorKind::Rejected, text));
            }
        };
        let before = self.committed(queue, &reset.group).await?;
        let command = RemotingCommand::request(request::INVOKE_BROKER_TO_RESET_OFFSET)
            .field("topic", &reset.topic)
            .field("group", &reset.group)
            .field("queueId", queue.id)
            .field("offset", offset)
            // Brokers require the field and ignore it.
            .field("timestamp", 0)
            .field("isForce", true);
        let master = self.cluster.master(queue.broker).await?;
        success(self.cluster.call(&master, command, self.cluster.time_left(queue.deadline)).await?)?;
        Ok(QueueReset { broker: queue.broker.to_owned(), queue: queue.id, before, offset })
    }

    /// The readable queues of a topic.
    async fn queues(&self, topic: &str) -> Result<Vec<(String, i32)>, ServiceError> {
        // Unlike `topic`, this never creates the topic.
        self.existing_topic(topic).await?;
        let route = self.cluster.route(topic).await?;
        let readable = route.queues.iter().filter(|queues| queues.readable());
        let queues = readable.flat_map(|queues| {
            (0..queues.read.max(0)).map(|id| (queues.broker_name.clone(), id)).collect::<Vec<_>>()
        });
        Ok(queues.collect())
    }

    async fn queue_stats(&self, topic: &str, broker: String, id: i32) -> Result<QueueStats, ServiceError> {
        let queue = queue_of(topic, &broker, id);
        let first = self.offset(queue, Whence::Beginning).await?;
        let next = self.offset(queue, Whence::End).await?;
        let (mut oldest, mut newest) = (None, None);
        if first < next {
            oldest = self.stored_at(queue, first).await?;
            newest = self.stored_at(queue, next - 1).await?;
        }
        Ok(QueueStats { broker, id, first, next, oldest, newest })
    }

    /// Returns `None` if the group has no offset in this queue.
    async fn group_queue_stats(
        &self,
        group: &str,
        queue: QueueRef<'_>,
    ) -> Result<Option<GroupQueueStats>, ServiceError> {
        let Some(settled) = self.committed(queue, group).await? else { return Ok(None) };
        let end = self.offset(queue, Whence::End).await?;
        let lag = (end - settled).max(0);
        let oldest = if lag > 0 { self.stored_at(queue, settled).await? } else { None };
        let (broker, id) = (queue.broker.to_owned(), queue.id);
        let stats =
            GroupQueueStats { broker, id, settled, next: settled, end, lag, oldest, ..Default::default() };
        Ok(Some(stats))
    }

    /// When the message at this offset was stored; `None` if there is no such message.
    async fn stored_at(&self, queue: QueueRef<'_>, offset: i64) -> Result<Option<SystemTime>, ServiceError> {
        let pulled = self.pull_page(queue, offset, 1).await?;
        Ok(match pulled.outcome {
            PullOutcome::Messages(messages) => messages.first().map(|delivery: &Delivery| delivery.stored_at),
            PullOutcome::Nothing | PullOutcome::OffsetIllegal => None,
        })
    }

    async fn pull_page(&self, queue: QueueRef<'_>, offset: i64, max: usize) -> Result<Pulled, ServiceError> {
        let pull = Pull {
            topic: queue.topic.to_owned(),
            group: TOOLS_GROUP.to_owned(),
            broker: queue.broker.to_owned(),
            queue_id: queue.id,
            offset,
            max,
            filter: Filter::All,
            deadline: Instant::now(),
        };
        self.cluster.pull(&pull, convert::delivery_with_origin).await
    }

    /// The topics that a group has received from.
    async fn topics_of(&self, group: &str) -> Result<Vec<String>, ServiceError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Topics {
            topic_list: Vec<String>,
        }
        let command = RemotingCommand::request(request::QUERY_TOPICS_BY_CONSUMER).field("group", group);
        let lists = self.cluster.every_master(&command, |answer| parse::<Topics>(&success(answer)?)).await?;
        let mut topics: Vec<_> = lists.into_iter().flat_map(|list| list.topic_list).collect();
        topics.sort();
        topics.dedup();
        Ok(topics)
    }

    /// Events per second over the last minute, and the number of events, summed over all brokers; `None` if a broker can't be
    /// called.
    async fn events(&self, name: &str, key: &str) -> Option<(f64, EventCounts)> {
        let command = RemotingCommand::request(request::VIEW_BROKER_STATS_DATA)
            .field("statsName", name)
            .field("statsKey", key);
        // A broker on which nothing has happened has no such statistics.
        let stats = |answer| Ok(success(answer).and_then(|a| parse::<BrokerStats>(&a)).unwrap_or_default());
        let of_brokers = self.cluster.every_master(&command, stats).await.ok()?;
        Some(of_brokers.into_iter().fold(<(f64, EventCounts)>::default(), |(rate, counts), stats| {
            (rate + stats.stats_minute.tps, counts + event_counts(&stats))
        }))
    }
}

/// The sums of a broker's statistic. A broker has that of a period only after a while; until then, it is that of the shorter one.
fn event_counts(stats: &BrokerStats) -> EventCounts {
    let sum = |period: PeriodStats| u64::try_from(period.sum).unwrap_or_default();
    let minute = sum(stats.stats_minute);
    let hour = sum(stats.stats_hour).max(minute);
    EventCounts { minute, hour, day: sum(stats.stats_day).max(hour) }
}

fn queue_of<'a>(topic: &'a str, broker: &'a str, id: i32) -> QueueRef<'a> {
    QueueRef { topic, broker, id, deadline: Instant::now() + CALL_TIMEOUT }
}

fn refuse_lite(lite_topic: Option<&str>) -> Result<(), ServiceError> {
    let Some(name) = lite_topic else { return Ok(()) };
    let text = format!("lite topic {name} can't be read on Apache's brokers, only in the merged mode");
    Err(ServiceError::new(ServiceErrorKind::Unsupported, text))
}

fn no_group(name: &str) -> ServiceError {
    ServiceError::new(ServiceErrorKind::GroupNotFound, format!("group not found: {name}"))
}
