//! Requests of administrators about stored messages, the progress of groups, and connected clients.

use std::time::Instant;

use super::Processor;
use super::connected_client::{ClientFilter, ClientList};
use super::environment::Environment;
use super::pull::{QueueName, check_queue, query_offset};
use super::renewed_leases::RenewalCounts;
use crate::error::{Error, ErrorKind};
use crate::service::{
    DiskStats, GroupStats, LiteTopicPage, QueueRef, QueueReset, ReadPage, ReadQueue, ResetGroup,
    ServiceErrorKind, Services, StoreStats, TopicStats, Whence,
};

/// The maximum number of messages of one read.
const MAX_READ: usize = 100;
/// The maximum number of clients in one answer.
const MAX_CLIENTS: usize = 10_000;

/// The state that this proxy keeps in memory for clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    /// The number of clients with a session.
    pub clients: u64,
    /// The number of leases that the proxy renews for clients.
    pub renewed_leases: u64,
    /// The number of renewals since the start.
    pub renewals: u64,
    /// The number of failed renewals since the start.
    pub failed_renewals: u64,
}

/// Administration of stored messages, groups and clients. Like all administration, it bypasses the layers.
impl Processor {
    /// The queues and messages of a topic, or of one of its lite topics.
    ///
    /// # Errors
    /// `TopicNotFound`, `NotImplemented`, or the backend's failure.
    pub async fn topic_stats(&self, topic: &str, lite_topic: Option<&str>) -> Result<TopicStats, Error> {
        let _permit = self.environment.administration.acquire().await;
        Ok(self.services_of(topic).administration.topic_stats(topic, lite_topic).await?)
    }

    /// The lite topics of a LITE topic, sorted by name: at most `max`, beginning after the name `after`.
    ///
    /// # Errors
    /// `TopicNotFound`, `NotImplemented`, or the backend's failure.
    pub async fn lite_topics(
        &self,
        topic: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<LiteTopicPage, Error> {
        let _permit = self.environment.administration.acquire().await;
        Ok(self.services_of(topic).administration.lite_topics(topic, after, max).await?)
    }

    /// The progress of a group in one topic, or in all topics from which it has received.
    ///
    /// # Errors
    /// `GroupNotFound`, `TopicNotFound`, `NotImplemented`, or the backend's failure.
    pub async fn group_stats(&self, group: &str, topic: Option<&str>) -> Result<GroupStats, Error> {
        let _permit = self.environment.administration.acquire().await;
        if let Some(name) = topic {
            return Ok(self.services_of(name).administration.group_stats(group, topic).await?);
        }
        let mut merged: Option<GroupStats> = None;
        for cluster in self.environment.clusters.all() {
            match cluster.services.administration.group_stats(group, None).await {
                Ok(stats) => {
                    let merged = merged.get_or_insert_default();
                    merged.topics.extend(stats.topics);
                    merged.truncated |= stats.truncated;
                }
                // Another cluster may have the group.
                Err(error) if error.kind == ServiceErrorKind::GroupNotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        merged.ok_or_else(|| Error::new(ErrorKind::GroupNotFound, format!("no consumer group {group}")))
    }

    /// Reads stored messages of a queue, without consuming them.
    ///
    /// # Errors
    /// `TopicNotFound`, `BadRequest`, `NotImplemented`, or the backend's failure.
    pub async fn read(&self, mut read: ReadQueue) -> Result<ReadPage, Error> {
        let _permit = self.environment.administration.acquire().await;
        read.max = read.max.min(MAX_READ);
        Ok(self.services_of(&read.topic).administration.read(read).await?)
    }

    /// Returns an offset of a queue.
    ///
    /// # Errors
    /// As [`QueryOffsetCommand`](super::QueryOffsetCommand).
    pub async fn queue_offset(&self, queue: &QueueName, whence: Whence) -> Result<i64, Error> {
        check_queue(queue)?;
        let _permit = self.environment.administration.acquire().await;
        let deadline = Instant::now() + self.environment.limits.call;
        let of = QueueRef { topic: &queue.topic, broker: &queue.broker, id: queue.id, deadline };
        query_offset(self.services_of(&queue.topic), of, whence).await
    }

    /// Moves a group to another position in a topic.
    ///
    /// # Errors
    /// `GroupNotFound`, `TopicNotFound`, `BadRequest`, `NotImplemented`, or the backend's failure.
    pub async fn reset_group(&self, reset: ResetGroup) -> Result<Vec<QueueReset>, Error> {
        let _permit = self.environment.administration.acquire().await;
        Ok(self.services_of(&reset.topic).administration.reset(reset).await?)
    }

    /// The clients with a session at this proxy.
    #[must_use]
    pub fn connected_clients(&self, filter: &ClientFilter) -> ClientList {
        let mut clients = self.environment.clients.list(filter);
        clients.sort_by(|a, b| (&a.id, &a.address).cmp(&(&b.id, &b.address)));
        let truncated = clients.len() > MAX_CLIENTS;
        clients.truncate(MAX_CLIENTS);
        ClientList { clients, truncated }
    }

    /// The space that the store takes on the disk, by kind and by topic.
    ///
    /// # Errors
    /// `NotImplemented`, or the backend's failure.
    pub async fn store_stats(&self) -> Result<StoreStats, Error> {
        let _permit = self.environment.administration.acquire().await;
        Ok(self.environment.clusters.default_services().administration.store_stats().await?)
    }

    /// The disk figures of [`Processor::store_stats`], without reading the topics.
    ///
    /// # Errors
    /// As [`Processor::store_stats`].
    pub async fn disk_stats(&self) -> Result<DiskStats, Error> {
        let _permit = self.environment.administration.acquire().await;
        Ok(self.environment.clusters.default_services().administration.disk_stats().await?)
    }

    /// The current number of clients and leases in memory.
    #[must_use]
    pub fn soft_state(&self) -> SoftState {
        let Environment { clients, leases, .. } = &self.environment;
        let RenewalCounts { leases: renewed_leases, renewals, failures: failed_renewals } = leases.counts();
        let clients = clients.sessions.lock().iter().count() as u64;
        SoftState { clients, renewed_leases, renewals, failed_renewals }
    }

    pub(super) fn services_of(&self, topic: &str) -> &Services {
        self.environment.clusters.services_of(topic)
    }
}
