//! A topic in memory: its configuration, its queues if they are loaded, and the progress of its groups.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::lite_notifier::LiteNotifier;
use super::meter::Meter;
use super::progress::Progress;
use super::queue::Queue;
use super::store::Store;
use crate::service::{Permission, ServiceError, ServiceErrorKind, TopicConfig, TopicKind};

/// A topic. The first request that needs its queues loads them, so that the start-up time does not grow with the number
/// of topics.
pub(super) struct Topic {
    id: u32,
    config: RwLock<TopicConfig>,
    // The highest number of queues that it ever had. Queues above the configured number keep their messages.
    most_queues: AtomicUsize,
    queues: RwLock<Option<Arc<[Arc<Queue>]>>>,
    loading: Mutex<()>,
    consumers: RwLock<HashMap<u32, Arc<Progress>>>,
    // Whether the queues were used since the last call of `unload_idle`.
    queues_used: AtomicBool,
    round_robin: AtomicUsize,
    deleted: AtomicBool,
    arrivals: Meter,
    /// `None` unless it is a lite topic.
    lite: Option<LiteMembership>,
}

/// The LITE topic that a lite topic belongs to, and what notifies the subscribers of the lite topic.
pub(super) struct LiteMembership {
    /// The LITE topic.
    pub(super) parent: Arc<Topic>,
    /// Notifies the subscribers of the lite topic.
    pub(super) notifier: Arc<LiteNotifier>,
}

impl Topic {
    /// Creates a topic from its record in the catalog.
    pub(super) fn new(id: u32, config: TopicConfig, most_queues: usize) -> Self {
        Self {
            id,
            config: RwLock::new(config),
            most_queues: AtomicUsize::new(most_queues),
            queues: RwLock::new(None),
            loading: Mutex::new(()),
            consumers: RwLock::default(),
            queues_used: AtomicBool::new(false),
            // Topics begin at different queues, so that single messages to many topics are spread over the queues.
            round_robin: AtomicUsize::new(id as usize),
            deleted: AtomicBool::new(false),
            arrivals: Meter::default(),
            lite: None,
        }
    }

    /// Creates a lite topic, which has one queue. Errors name its LITE topic.
    pub(super) fn lite(id: u32, membership: LiteMembership) -> Self {
        let config = TopicConfig {
            read_queues: 1,
            write_queues: 1,
            permission: Permission { read: true, write: true },
            lite_expiration: None,
            ..membership.parent.config()
        };
        Self { lite: Some(membership), ..Self::new(id, config, 1) }
    }

    /// The LITE topic and the notifier. `None` unless it is a lite topic.
    pub(super) fn lite_membership(&self) -> Option<&LiteMembership> {
        self.lite.as_ref()
    }

    /// The topic's id. Its keys on the disk begin with it.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Its configuration.
    pub(super) fn config(&self) -> TopicConfig {
        self.config.read().clone()
    }

    /// The kind of messages that it takes.
    pub(super) fn kind(&self) -> TopicKind {
        self.config.read().kind
    }

    /// How long its messages are kept. `None` means the broker's retention. Lite topics have that of their LITE topic.
    pub(super) fn retention(&self) -> Option<Duration> {
        self.config.read().retention
    }

    /// How many bytes of messages it keeps; 0 means no limit. `None` means the broker's limit.
    pub(super) fn retention_bytes(&self) -> Option<u64> {
        self.config.read().retention_bytes
    }

    /// The highest number of queues that it ever had.
    pub(super) fn most_queues(&self) -> usize {
        self.most_queues.load(Ordering::Relaxed)
    }

    /// The number of queues that can be written: 0 if writing is not allowed.
    pub(super) fn write_queues(&self) -> usize {
        allowed(&self.config.read(), |p| p.write, |c| c.write_queues)
    }

    /// The number of queues that can be read: 0 if reading is not allowed.
    pub(super) fn read_queues(&self) -> usize {
        allowed(&self.config.read(), |p| p.read, |c| c.read_queues)
    }

    /// Returns the queue with this number, which was chosen earlier. If the topic has fewer writable queues by now, returns
    /// another one: nobody may read the former ones.
    pub(super) fn writable_queue<'a>(&self, queues: &'a [Arc<Queue>], number: u32) -> &'a Arc<Queue> {
        let writable = usize::try_from(self.config.read().write_queues).unwrap_or(0).min(queues.len());
        &queues[number as usize % if writable > 0 { writable } else { queues.len() }]
    }

    /// Returns the queue, modulo the number of queues, for the next message without a message group (round robin).
    pub(super) fn next_round_robin(&self) -> usize {
        self.round_robin.fetch_add(1, Ordering::Relaxed)
    }

    /// Changes its configuration. If its queues are loaded, the added ones are read from the disk.
    pub(super) fn reconfigure(
        &self,
        config: TopicConfig,
        most_queues: usize,
        store: &Store,
    ) -> Result<(), ServiceError> {
        let _loading = self.loading.lock();
        let loaded = self.loaded();
        self.most_queues.store(most_queues, Ordering::Relaxed);
        if let Some(queues) = loaded {
            let mut queues = queues.to_vec();
            for id in queues.len()..most_queues {
                queues.push(Arc::new(Queue::load(store, self.id, id as u32)?));
            }
            *self.queues.write() = Some(queues.into());
        }
        *self.config.write() = config;
        Ok(())
    }

    /// Returns the queues if they are loaded.
    pub(super) fn loaded(&self) -> Option<Arc<[Arc<Queue>]>> {
        self.queues_used.store(true, Ordering::Relaxed);
        self.peek_loaded()
    }

    /// As [`Topic::loaded`], but does not count as a use.
    pub(super) fn peek_loaded(&self) -> Option<Arc<[Arc<Queue>]>> {
        self.queues.read().clone()
    }

    /// Unloads the groups and the queues that were not used since the last call. The next request reads them from the
    /// disk.
    pub(super) fn unload_idle(&self) {
        // References are cloned only under the lock of the map, so there is none to a progress that is removed here.
        self.consumers.write().retain(|_, progress| {
            progress.take_used()
                || Arc::strong_count(progress) > 1
                || progress.has_lite_leases()
                || progress.has_last_attempts()
        });
        let mut queues = self.queues.write();
        let used = self.queues_used.swap(false, Ordering::Relaxed) || !self.consumers.read().is_empty();
        if let Some(loaded) = queues.as_ref()
            && !used
            && Arc::strong_count(loaded) == 1
            && loaded.iter().all(|queue| Arc::strong_count(queue) == 1)
        {
            *queues = None;
        }
    }

    /// Whether it has neither queues nor groups in memory.
    pub(super) fn is_unloaded(&self) -> bool {
        self.queues.read().is_none() && self.consumers.read().is_empty()
    }

    /// Reads the ends of its queues from the disk, if they are loaded. Returns how many messages lie beyond the ends that
    /// were known.
    pub(super) fn reload_ends(&self, store: &Store) -> Result<usize, ServiceError> {
        let mut found = 0usize;
        for queue in self.peek_loaded().iter().flat_map(|queues| queues.iter()) {
            found = found.saturating_add(queue.reload_end(store)?);
        }
        Ok(found)
    }

    /// Returns the queues, for statistics. If they are not in memory, reads them from the disk without keeping them.
    pub(super) fn peek_queues(&self, store: &Store) -> Result<Arc<[Arc<Queue>]>, ServiceError> {
        match self.peek_loaded() {
            Some(queues) => Ok(queues),
            None => self.read_queues_from(store),
        }
    }

    fn read_queues_from(&self, store: &Store) -> Result<Arc<[Arc<Queue>]>, ServiceError> {
        (0..self.most_queues()).map(|id| Queue::load(store, self.id, id as u32).map(Arc::new)).collect()
    }

    /// Returns the queues. Reads them from the disk if they are not loaded.
    pub(super) fn load(&self, store: &Store) -> Result<Arc<[Arc<Queue>]>, ServiceError> {
        let _loading = self.loading.lock();
        if let Some(queues) = self.loaded() {
            return Ok(queues);
        }
        let queues = self.read_queues_from(store)?;
        *self.queues.write() = Some(queues.clone());
        Ok(queues)
    }

    /// Returns the progress of a group. Creates it if it is not in memory.
    pub(super) fn consumer(&self, group: u32) -> Arc<Progress> {
        if let Some(found) = self.consumers.read().get(&group) {
            found.set_used();
            return found.clone();
        }
        let mut consumers = self.consumers.write();
        let lite = self.lite.as_ref().map(|lite| lite.notifier.clone());
        let progress = || Arc::new(Progress::new(group, self.id).in_lite_topic(lite));
        consumers.entry(group).or_insert_with(progress).clone()
    }

    /// Returns the progress of a group if it is in memory. Does not count as a use.
    pub(super) fn peek_consumer(&self, group: u32) -> Option<Arc<Progress>> {
        self.consumers.read().get(&group).cloned()
    }

    /// Counts messages that were delivered to a group. A lite topic's messages are counted for its LITE topic.
    pub(super) fn count_delivered(&self, progress: &Progress, count: usize) {
        self.count(progress, |progress| progress.delivered.add(count));
    }

    /// Counts deliveries that a group settled. A lite topic's deliveries are counted for its LITE topic.
    pub(super) fn count_settled(&self, progress: &Progress, count: usize) {
        self.count(progress, |progress| progress.settled.add(count));
    }

    fn count(&self, progress: &Progress, add: impl FnOnce(&Progress)) {
        match &self.lite {
            None => add(progress),
            Some(lite) => {
                if let Some(progress) = lite.parent.peek_consumer(progress.group()) {
                    add(&progress);
                }
            }
        }
    }

    /// Removes the progress of a group that was deleted, and ends its waiting receives.
    pub(super) fn forget_consumer(&self, group: u32) {
        if let Some(gone) = self.consumers.write().remove(&group) {
            gone.delete();
        }
    }

    /// Wakes up to `count` waiting receives of each group.
    pub(super) fn messages_arrived(&self, count: usize) {
        self.lite.as_ref().map_or(&self.arrivals, |lite| &lite.parent.arrivals).add(count);
        if let Some(lite) = self.lite.as_ref().filter(|_| count > 0) {
            // This includes groups whose progress is not in memory.
            return lite.notifier.notify(None);
        }
        for consumer in self.consumers.read().values() {
            consumer.wake(count);
        }
    }

    /// The rate of messages stored in the topic and its lite topics.
    pub(super) fn arrivals(&self) -> &Meter {
        &self.arrivals
    }

    /// Marks it as deleted, and ends all waiting receives.
    pub(super) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        for consumer in self.consumers.read().values() {
            consumer.wake_all();
        }
        for queue in self.peek_loaded().iter().flat_map(|queues| queues.iter()) {
            queue.wake_pulls();
        }
    }

    /// Fails if the topic was deleted. A lite topic is deleted with its LITE topic.
    ///
    /// # Errors
    /// `TopicNotFound`.
    pub(super) fn check_alive(&self) -> Result<(), ServiceError> {
        self.lite.as_ref().map_or(Ok(()), |lite| lite.parent.check_alive())?;
        if self.deleted.load(Ordering::Acquire) { Err(not_found(&self.config.read().name)) } else { Ok(()) }
    }
}

fn allowed(config: &TopicConfig, may: fn(Permission) -> bool, count: fn(&TopicConfig) -> i32) -> usize {
    if may(config.permission) { usize::try_from(count(config)).unwrap_or(0) } else { 0 }
}

/// The error for a topic that does not exist.
pub(super) fn not_found(name: &str) -> ServiceError {
    ServiceError::new(ServiceErrorKind::TopicNotFound, format!("no topic {name}"))
}
