//! The broker: the parts together, and the look-ups that every request begins with.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use fjall::PersistMode;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::catalog::{Catalog, Existing, Group, group_not_found};
use super::config::{EmbeddedConfig, Flush};
use super::directory::{DataDirectory, OpenError};
use super::expiry::Expiry;
use super::progress::WaitingLimits;
use super::retention;
use super::store::Store;
use super::topic::{Topic, not_found};
use super::writer::{Writer, WriterOptions};
use crate::service::{
    GroupConfig, Permission, RetryPolicy, ServiceError, ServiceErrorKind, TopicConfig, TopicKind,
};

/// The embedded broker.
pub(super) struct Broker {
    pub(super) config: EmbeddedConfig,
    pub(super) store: Arc<Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) writer: Writer,
    pub(super) expiry: Arc<Expiry>,
    pub(super) waiting: AtomicUsize,
}

impl Broker {
    /// Opens the data directory and starts the writer thread. Reads the disk.
    pub(super) fn open(config: EmbeddedConfig) -> Result<Self, OpenError> {
        let store = Arc::new(Store::open(DataDirectory::take(&config.data_dir)?)?);
        let damaged = |error: ServiceError| OpenError::Damaged(config.data_dir.clone(), error.to_string());
        let catalog = Arc::new(Catalog::open(store.clone()).map_err(damaged)?);
        let options = WriterOptions {
            persist: match config.flush {
                Flush::Sync => PersistMode::SyncData,
                Flush::Async => PersistMode::Buffer,
            },
            cache_bytes: config.cache_bytes,
            max_pending_bytes: config.max_pending_bytes,
        };
        let writer = Writer::start(store.clone(), catalog.clone(), options)?;
        Ok(Self { config, store, catalog, writer, expiry: Arc::default(), waiting: AtomicUsize::new(0) })
    }

    /// Starts what runs beside the requests, until it is told to stop.
    pub(super) fn start_tasks(self: &Arc<Self>, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let (expiry, stopped) = (self.expiry.clone(), stop.clone());
        let wake_up = async move {
            stopped.run_until_cancelled(expiry.run()).await;
        };
        vec![tokio::spawn(wake_up), tokio::spawn(retention::run(self.clone(), stop.clone()))]
    }

    /// How many receives may wait.
    pub(super) fn waiting_limits(&self) -> WaitingLimits {
        WaitingLimits { per_group: self.config.max_waiting_per_group, altogether: self.config.max_waiting }
    }

    /// A topic; made now if it is missing and may be made by a request.
    pub(super) async fn topic(&self, name: &str) -> Result<Arc<Topic>, ServiceError> {
        match self.catalog.topic(name) {
            Some(topic) => Ok(topic),
            // Dead-letter topics are made by dead letters, retry topics are a matter of Apache's brokers.
            None if !self.config.auto_create_topics
                || name.starts_with("%DLQ%")
                || name.starts_with("%RETRY%") =>
            {
                Err(not_found(name))
            }
            None => self.make_topic(name, self.config.default_queues).await,
        }
    }

    /// A topic that is made if it is missing, whatever the configuration says.
    pub(super) async fn make_topic(&self, name: &str, queues: i32) -> Result<Arc<Topic>, ServiceError> {
        if let Some(topic) = self.catalog.topic(name) {
            return Ok(topic);
        }
        let config = TopicConfig {
            name: name.to_owned(),
            kind: TopicKind::Normal,
            read_queues: queues,
            write_queues: queues,
            permission: Permission { read: true, write: true },
        };
        let catalog = self.catalog.clone();
        blocking(move || catalog.put_topic(config, Existing::Keep)).await
    }

    /// A group; made now if it is missing and may be made by a request.
    pub(super) async fn group(&self, name: &str) -> Result<Group, ServiceError> {
        match self.catalog.group(name) {
            Some(group) => Ok(group),
            None if !self.config.auto_create_groups => Err(group_not_found(name)),
            None => {
                let catalog = self.catalog.clone();
                let config = new_group(name);
                blocking(move || catalog.put_group(config, Existing::Keep)).await
            }
        }
    }
}

/// Runs what reads or writes the disk where it holds up nobody.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, ServiceError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ServiceError> + Send + 'static,
{
    spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(ServiceError::new(ServiceErrorKind::Internal, format!("the broker failed: {error}")))
    })
}

/// A group as RocketMQ makes it when a request names it first.
fn new_group(name: &str) -> GroupConfig {
    GroupConfig {
        name: name.to_owned(),
        fifo: false,
        consume: true,
        max_retries: 16,
        retry: RetryPolicy::default(),
        lite_bind_topic: None,
        lite_quota: 2000,
    }
}
