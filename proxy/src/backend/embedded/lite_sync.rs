//! Changes a client's subscriptions to lite topics, and sets where its group starts in lite topics that were added.

use std::sync::Arc;

use async_trait::async_trait;

use super::blocking::blocking;
use super::broker::Broker;
use super::catalog::group_not_found;
use super::lite_subscriptions::MemberKey;
use super::progress::ProgressState;
use super::queue::Queue;
use super::topic::Topic;
use crate::service::{LiteAction, LiteChange, LiteStart, LiteSubscriptions, ServiceError};

#[async_trait]
impl LiteSubscriptions for Broker {
    async fn sync(&self, change: LiteChange) -> Result<(), ServiceError> {
        let topic = self.known_topic(&change.topic)?;
        let group = self.catalog.group(&change.group).ok_or_else(|| group_not_found(&change.group))?;
        let client = change.client_id.as_str().into();
        let key = MemberKey { topic: topic.id(), group: group.id, client };
        let subscriptions = self.catalog.lite.subscriptions();
        let start = change.start.filter(|start| *start != LiteStart::Last);
        if let (LiteAction::Add, Some(start)) = (change.action, start) {
            // First, so that a receive that waits gets no message from before the start. A refused change moves no group.
            subscriptions.check(&key, &change)?;
            let start_at = GroupStartAt { parent: topic, group: group.id, start };
            for name in subscriptions.missing(&key, &change.lite_topics) {
                self.set_lite_start(start_at.clone(), name).await?;
            }
        }
        subscriptions.change(&key, &change, group.config.lite_exclusive)
    }
}

/// The position at which a group starts in lite topics.
#[derive(Clone)]
struct GroupStartAt {
    parent: Arc<Topic>,
    group: u32,
    start: LiteStart,
}

impl Broker {
    /// Sets the position of a group in a lite topic. Does nothing if the lite topic does not exist, as all positions are
    /// the same then.
    async fn set_lite_start(&self, start_at: GroupStartAt, name: String) -> Result<(), ServiceError> {
        let (catalog, store) = (self.catalog.clone(), self.store.clone());
        let progress_writer = self.progress_writer.clone();
        blocking(move || {
            let GroupStartAt { parent, group, start } = start_at;
            let Some(lite_topic) = catalog.lite.load(&parent, &name)? else { return Ok(()) };
            let queues = lite_topic.load(&store)?;
            let progress = lite_topic.consumer(group);
            progress.load(&store, &queues, catalog.start_of(group))?;
            let queue = &queues[0];
            // Before the progress is locked, as this may read the disk.
            let at_time = match start {
                LiteStart::Timestamp(millis) => {
                    Some(queue.first_stored_at(&store, u64::try_from(millis).unwrap_or_default())?)
                }
                _ => None,
            };
            let mut change = progress.change()?;
            let offset = at_time.unwrap_or_else(|| offset_of(start, queue, &mut change));
            change.queue(0).reset_to(offset);
            let written = change.commit(&progress_writer);
            drop(change);
            progress.wake(1);
            written.wait()
        })
        .await
    }
}

fn offset_of(start: LiteStart, queue: &Queue, state: &mut ProgressState) -> u64 {
    let (first, end) = queue.range();
    let progress = state.queue(0);
    let consumed = progress.first_unsettled();
    let offset = match start {
        LiteStart::Last | LiteStart::Timestamp(_) => consumed,
        LiteStart::Min => first,
        LiteStart::Max => end,
        LiteStart::Offset(offset) => u64::try_from(offset).unwrap_or_default(),
        LiteStart::Tail(count) => consumed.saturating_sub(u64::try_from(count).unwrap_or_default()),
    };
    offset.clamp(first, end)
}
