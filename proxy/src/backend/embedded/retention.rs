//! What is too old, and what is left of deleted topics and groups: removed in the background, step by step.

use std::sync::Arc;
use std::time::Duration;

use fjall::{Keyspace, OwnedWriteBatch, PersistMode};

use tokio_util::sync::CancellationToken;

use super::broker::{Broker, blocking};
use super::catalog::Deleted;
use super::clock;
use super::keys;
use super::queue::{self, Queue};
use super::store::{Store, unavailable};
use super::topic::Topic;
use crate::service::ServiceError;

/// So many records are removed in one batch: sends wait no longer than that takes.
const STEP: usize = 256;
/// The longest and the shortest pause between two rounds.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Runs until it is told to stop; a round is finished first.
pub(super) async fn run(broker: Arc<Broker>, stop: CancellationToken) {
    let (shortest, longest) = PAUSES;
    let pause = (broker.config.retention / 100).clamp(shortest, longest);
    while !stop.is_cancelled() {
        let round = broker.clone();
        if let Err(error) = blocking(move || clean(&round)).await {
            tracing::warn!(%error, "old messages can't be removed now");
        }
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

/// One round. Reads and writes the disk.
pub(super) fn clean(broker: &Broker) -> Result<(), ServiceError> {
    for deleted in broker.catalog.deleted()? {
        remove_deleted(broker, deleted)?;
    }
    let keep = u64::try_from(broker.config.retention.as_millis()).unwrap_or(u64::MAX);
    let oldest = clock::now().saturating_sub(keep);
    for topic in broker.catalog.topics() {
        // Topics that nobody uses are loaded only for something old.
        let queues = match topic.loaded() {
            Some(queues) => queues,
            None if has_old(broker, &topic, oldest)? => topic.load(&broker.store)?,
            None => continue,
        };
        for queue in queues.iter() {
            remove_old(&broker.store, queue, oldest)?;
        }
    }
    Ok(())
}

fn has_old(broker: &Broker, topic: &Topic, oldest: u64) -> Result<bool, ServiceError> {
    for id in 0..topic.most_queues() as u32 {
        let Some(first) = broker.store.log.prefix(keys::queue(topic.id(), id)).next() else { continue };
        let (key, value) = first.into_inner().map_err(|e| unavailable(&e))?;
        if queue::parse(&key, value.into())?.stored_at() < oldest {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes chunks from the front of a queue. The last chunk stays on the disk, whatever its age: it says which
/// offset comes next.
fn remove_old(store: &Store, queue: &Queue, oldest: u64) -> Result<(), ServiceError> {
    loop {
        let (start, end) = queue.range();
        if start >= end {
            return Ok(());
        }
        let mut batch = store.log_batch(PersistMode::Buffer);
        let mut kept_from = start;
        for chunk in queue.chunks_from(store, start).take(STEP) {
            let chunk = chunk?;
            if chunk.stored_at() >= oldest {
                break;
            }
            kept_from = chunk.end();
            if chunk.end() < end {
                batch.remove(&store.log, queue.chunk_key(&chunk));
            }
        }
        if kept_from == start {
            return Ok(());
        }
        // First nobody reads it any more, then it goes.
        queue.begin_at(kept_from);
        batch.commit().map_err(|e| unavailable(&e))?;
    }
}

fn remove_deleted(broker: &Broker, deleted: Deleted) -> Result<(), ServiceError> {
    let store = &broker.store;
    match deleted {
        Deleted::Topic(topic) => {
            let log = || store.log_batch(PersistMode::Buffer);
            remove_prefix(&store.log, &topic.to_be_bytes(), log)?;
            for group in broker.catalog.groups() {
                let prefix = keys::group_topic(group.id, topic);
                remove_prefix(&store.state, &prefix, || store.progress_batch())?;
            }
        }
        Deleted::Group(group) => {
            remove_prefix(&store.state, &group.to_be_bytes(), || store.progress_batch())?;
        }
    }
    broker.catalog.removed(deleted)
}

fn remove_prefix(
    keyspace: &Keyspace,
    prefix: &[u8],
    batch: impl Fn() -> OwnedWriteBatch,
) -> Result<(), ServiceError> {
    loop {
        let mut removals = batch();
        for entry in keyspace.prefix(prefix).take(STEP) {
            removals.remove(keyspace, entry.key().map_err(|e| unavailable(&e))?);
        }
        if removals.is_empty() {
            return Ok(());
        }
        removals.commit().map_err(|e| unavailable(&e))?;
    }
}
