//! The broker: its components, and the lookups of topics and groups at the start of every request.

use std::sync::Arc;

use super::blocking::blocking;
use super::catalog::{Catalog, Group, IfExists, group_not_found};
use super::config::EmbeddedConfig;
use super::directory::{DataDirectory, OpenError};
use super::lease_expiry::LeaseExpiry;
use super::lite_subscriptions::Subscriptions;
use super::lite_topics::LiteTopics;
use super::orphan_check_reads::CheckSchedule;
use super::progress::Progress;
use super::progress_beyond_end;
use super::progress_writer::ProgressWriter;
use super::queue_locks::QueueLocks;
use super::read_cache::ReadCache;
use super::store::{Store, unavailable};
use super::topic::{Topic, not_found};
use super::waiting_limits::{WaitingLimits, WaitingReceives};
use super::writer::{Writer, WriterOptions};
use crate::service::{GroupConfig, ServiceError, TopicConfig, TopicKind, names};

/// The embedded broker.
pub(super) struct Broker {
    pub(super) config: EmbeddedConfig,
    pub(super) store: Arc<Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) writer: Writer,
    pub(super) progress_writer: Arc<ProgressWriter>,
    pub(super) checks: Arc<CheckSchedule>,
    pub(super) expiry: Arc<LeaseExpiry>,
    pub(super) read_cache: ReadCache,
    pub(super) waiting: WaitingReceives,
    pub(super) queue_locks: QueueLocks,
}

impl Broker {
    /// Opens the data directory and starts the writer threads. Reads the disk.
    pub(super) fn open(config: EmbeddedConfig) -> Result<Self, OpenError> {
        let store = Arc::new(Store::open(DataDirectory::open(&config.data_dir)?, config.flush)?);
        let damaged = |error: ServiceError| OpenError::Damaged(config.data_dir.clone(), error.to_string());
        let subscriptions = Subscriptions::new(config.max_lite_subscriptions);
        let lite = LiteTopics::new(store.clone(), subscriptions, config.max_lite_topics);
        let catalog = Catalog::open(store.clone(), lite)
            .map_err(|error| OpenError::DamagedCatalog(config.data_dir.clone(), error.to_string()))?;
        let catalog = Arc::new(catalog);
        if store.directory.may_lack_messages {
            progress_beyond_end::correct_all(&store, &catalog).map_err(damaged)?;
        }
        // After the correction: if it is interrupted, the next start repeats it.
        let recorded = store.directory.record_flush(config.flush);
        recorded.map_err(|error| OpenError::Io(config.data_dir.clone(), error))?;
        let options =
            WriterOptions { cache_bytes: config.cache_bytes, max_pending_bytes: config.max_pending_bytes };
        let checks = Arc::new(CheckSchedule::default());
        let writer = Writer::start(store.clone(), catalog.clone(), checks.clone(), options)?;
        let progress_writer = ProgressWriter::start(store.clone())
            .map_err(|error| OpenError::Io(config.data_dir.clone(), error))?;
        Ok(Self {
            config,
            store,
            catalog,
            writer,
            progress_writer: Arc::new(progress_writer),
            checks,
            expiry: Arc::default(),
            read_cache: ReadCache::default(),
            waiting: WaitingReceives::default(),
            queue_locks: QueueLocks::default(),
        })
    }

    /// Stores all accepted messages and changes, and syncs everything. Later requests fail. Blocks.
    pub(super) fn stop(&self) -> Result<(), ServiceError> {
        self.writer.stop();
        self.progress_writer.stop();
        self.store.sync()?;
        self.store.directory.record_clean_stop().map_err(|error| unavailable(&error.into()))
    }

    /// Returns the limits for the number of waiting receives.
    pub(super) fn waiting_limits(&self) -> WaitingLimits {
        WaitingLimits { per_group: self.config.max_waiting_per_group, total: self.config.max_waiting }
    }

    /// Returns a topic. Creates it if it is missing and requests may create topics.
    pub(super) async fn topic(&self, name: &str) -> Result<Arc<Topic>, ServiceError> {
        match self.catalog.topic(name) {
            Some(topic) => Ok(topic),
            None if !self.config.auto_create_topics || !may_be_created(name) => Err(not_found(name)),
            None => self.put_topic(name, self.config.default_queues, self.config.auto_create_limit).await,
        }
    }

    /// Returns a topic without creating it.
    ///
    /// # Errors
    /// `TopicNotFound`.
    pub(super) fn known_topic(&self, name: &str) -> Result<Arc<Topic>, ServiceError> {
        self.catalog.topic(name).ok_or_else(|| not_found(name))
    }

    /// Returns a topic. Creates it if it is missing, even if requests must not create topics.
    pub(super) async fn ensure_topic(&self, name: &str, queues: i32) -> Result<Arc<Topic>, ServiceError> {
        match self.catalog.topic(name) {
            Some(topic) => Ok(topic),
            None => self.put_topic(name, queues, usize::MAX).await,
        }
    }

    async fn put_topic(&self, name: &str, queues: i32, limit: usize) -> Result<Arc<Topic>, ServiceError> {
        let config = TopicConfig::new(name, TopicKind::Undeclared, queues);
        let catalog = self.catalog.clone();
        blocking(move || catalog.put_topic(config, IfExists::Keep { limit })).await
    }

    /// Returns a group. Creates it if it is missing and requests may create groups.
    pub(super) async fn group(&self, name: &str) -> Result<Group, ServiceError> {
        match self.catalog.group(name) {
            Some(group) => Ok(group),
            None if !self.config.auto_create_groups => Err(group_not_found(name)),
            None => {
                let catalog = self.catalog.clone();
                let (config, limit) = (GroupConfig::named(name), self.config.auto_create_limit);
                blocking(move || catalog.put_group(config, IfExists::Keep { limit })).await
            }
        }
    }

    /// Returns a group, created as by [`Broker::group`], and its progress in a topic.
    pub(super) async fn group_in(
        &self,
        topic: &Arc<Topic>,
        name: &str,
    ) -> Result<(Group, Arc<Progress>), ServiceError> {
        let group = self.group(name).await?;
        let progress = topic.consumer(group.id);
        progress.set_max_attempts(group.config.max_attempts().unsigned_abs());
        // If the group was deleted in the meantime, its progress in all topics was removed before this one was added.
        if self.catalog.group(name).is_none_or(|now| now.id != group.id) {
            topic.forget_consumer(group.id);
            return Err(group_not_found(name));
        }
        Ok((group, progress))
    }
}

/// Whether the first use of a topic may create it. Retry and dead-letter topics are created when a message is moved
/// there, and the topic for message traces by the operator.
fn may_be_created(name: &str) -> bool {
    !names::is_retry_or_dead_letter(name) && name != names::TRACE_TOPIC
}
