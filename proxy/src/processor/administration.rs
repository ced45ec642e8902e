//! The administrator's requests about what is stored, consumed and connected.

use tokio::sync::Semaphore;

use super::Processor;
use super::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::service::{
    DiskStats, GroupStats, LiteTopicPage, QueueReset, ReadPage, ReadQueue, ResetGroup, ServiceErrorKind,
    Services, StoreStats, TopicStats,
};

/// How many requests that read much are carried out at a time. The others wait.
const CONCURRENT: usize = 4;
/// Messages of one read.
const MAX_READ: usize = 100;
/// Clients in one answer.
const MAX_CLIENTS: usize = 10_000;

/// Bounds what administrators read at the same time.
pub(super) struct AdministrationTurns(Semaphore);

impl Default for AdministrationTurns {
    fn default() -> Self {
        Self(Semaphore::new(CONCURRENT))
    }
}

impl AdministrationTurns {
    pub(super) async fn take(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.0.acquire().await.expect("the semaphore is never closed")
    }
}

/// Which clients to list.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    /// Those of this group.
    pub group: Option<String>,
    /// Those that name this topic.
    pub topic: Option<String>,
}

/// What is known of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedClient {
    /// The client's name for itself.
    pub id: String,
    /// Where its settings came from.
    pub address: String,
    /// The language it says it is written in; may be empty.
    pub language: String,
    /// The version it says it has; may be empty.
    pub version: String,
    /// The namespace it works in; mostly empty.
    pub namespace: String,
    /// What it says it is: `PRODUCER` and so on.
    pub kind: String,
    /// The group of a consumer, or empty.
    pub group: String,
    /// The topics that it sends to or subscribes to, as far as it named them.
    pub topics: Vec<String>,
    /// When it sent its settings.
    pub since: std::time::SystemTime,
    /// Whether its stream is open.
    pub connected: bool,
}

/// What this proxy keeps in memory for clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    /// Clients that gave a sign of life lately.
    pub clients: u64,
    /// Leases that it renews for them.
    pub renewed_leases: u64,
    /// Renewals since the start.
    pub renewals: u64,
    /// Renewals that failed.
    pub failed_renewals: u64,
}

/// Administration of what is stored and consumed. Like the rest of administration, it bypasses the layers.
impl Processor {
    /// What a topic holds.
    ///
    /// # Errors
    /// `TopicNotFound`, `NotImplemented`, or the backend's failure.
    pub async fn topic_stats(&self, topic: &str, lite_topic: Option<&str>) -> Result<TopicStats, Error> {
        let _turn = self.environment.administration.take().await;
        Ok(self.services_of(topic).administration.topic_stats(topic, lite_topic).await?)
    }

    /// Lite topics of a LITE topic, by name, after the one that is named.
    ///
    /// # Errors
    /// `TopicNotFound`, `NotImplemented`, or the backend's failure.
    pub async fn lite_topics(
        &self,
        topic: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<LiteTopicPage, Error> {
        let _turn = self.environment.administration.take().await;
        Ok(self.services_of(topic).administration.lite_topics(topic, after, max).await?)
    }

    /// How far a group has got, in one topic or in all from which it has received.
    ///
    /// # Errors
    /// `GroupNotFound`, `TopicNotFound`, `NotImplemented`, or the backend's failure.
    pub async fn group_stats(&self, group: &str, topic: Option<&str>) -> Result<GroupStats, Error> {
        let _turn = self.environment.administration.take().await;
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
                // Another cluster may have it.
                Err(error) if error.kind == ServiceErrorKind::GroupNotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        merged.ok_or_else(|| Error::new(ErrorKind::GroupNotFound, format!("no consumer group {group}")))
    }

    /// Reads a part of a queue, without consuming it.
    ///
    /// # Errors
    /// `TopicNotFound`, `BadRequest`, `NotImplemented`, or the backend's failure.
    pub async fn read(&self, mut read: ReadQueue) -> Result<ReadPage, Error> {
        let _turn = self.environment.administration.take().await;
        read.max = read.max.min(MAX_READ);
        Ok(self.services_of(&read.topic).administration.read(read).await?)
    }

    /// Moves a group to another position in a topic.
    ///
    /// # Errors
    /// `GroupNotFound`, `TopicNotFound`, `BadRequest`, `NotImplemented`, or the backend's failure.
    pub async fn reset_group(&self, reset: ResetGroup) -> Result<Vec<QueueReset>, Error> {
        let _turn = self.environment.administration.take().await;
        Ok(self.services_of(&reset.topic).administration.reset(reset).await?)
    }

    /// The clients that have a session at this proxy, by id, and whether some were left out.
    #[must_use]
    pub fn connected_clients(&self, filter: &ClientFilter) -> (Vec<ConnectedClient>, bool) {
        let mut clients = self.environment.clients.list(filter);
        clients.sort_by(|a, b| (&a.id, &a.address).cmp(&(&b.id, &b.address)));
        let truncated = clients.len() > MAX_CLIENTS;
        clients.truncate(MAX_CLIENTS);
        (clients, truncated)
    }

    /// What the store takes on the disk.
    ///
    /// # Errors
    /// `NotImplemented`, or the backend's failure.
    pub async fn store_stats(&self) -> Result<StoreStats, Error> {
        let _turn = self.environment.administration.take().await;
        Ok(self.environment.clusters.default_services().administration.store_stats().await?)
    }

    /// The part of it that does not look at topics.
    ///
    /// # Errors
    /// As [`Processor::store_stats`].
    pub async fn disk_stats(&self) -> Result<DiskStats, Error> {
        let _turn = self.environment.administration.take().await;
        Ok(self.environment.clusters.default_services().administration.disk_stats().await?)
    }

    /// The clients and leases that this proxy knows now.
    #[must_use]
    pub fn soft_state(&self) -> SoftState {
        let Environment { clients, leases, .. } = &self.environment;
        let (renewed_leases, renewals, failed_renewals) = leases.counts();
        let clients = clients.sessions.lock().iter().count() as u64;
        SoftState { clients, renewed_leases, renewals, failed_renewals }
    }

    pub(super) fn services_of(&self, topic: &str) -> &Services {
        self.environment.clusters.services_of(topic)
    }
}
