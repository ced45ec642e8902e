//! Changes a client's subscriptions to lite topics, and moves its group to the start in lite topics that were added.

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
    async fn sync(&self, mut change: LiteChange) -> Result<(), ServiceError> {
        let topic = self.known_topic(&change.topic)?;
        let group = self.catalog.group(&change.group).ok_or_else(|| group_not_found(&change.group))?;
        let client = change.client_id.as_str().into();
        let key = MemberKey { topic: topic.id(), group: group.id, client };
        let subscriptions = self.catalog.lite.subscriptions();
        let start = change.start.filter(|start| *start != LiteStart::Last);
        if let (LiteAction::Add, Some(start)) = (change.action, start) {
            // A refused change moves no group.
            subscriptions.check(&key, &change)?;
            let names = std::mem::take(&mut change.lite_topics);
            let exclusive = group.config.lite_exclusive;
            for name in subscriptions.missing(&key, &names) {
                let change = LiteChange { lite_topics: vec![name], ..change.clone() };
                let parent = topic.clone();
                self.subscribe_at(AddAtStart { parent, key: key.clone(), start, change, exclusive }).await?;
            }
            change.lite_topics = names;
        }
        subscriptions.change(&key, &change, group.config.lite_exclusive)
    }
}

/// A subscription of a client to one lite topic, in which its group starts at a position.
struct AddAtStart {
    parent: Arc<Topic>,
    key: MemberKey,
    start: LiteStart,
    /// Adds the lite topic.
    change: LiteChange,
    exclusive: bool,
}

impl Broker {
    /// Subscribes a client to a lite topic and moves its group, in one step: a request that is repeated because its
    /// answer was lost finds the subscription, and does not move the group again. Does nothing if the lite topic does not
    /// exist, as all positions are the same then.
    async fn subscribe_at(&self, add: AddAtStart) -> Result<(), ServiceError> {
        let (catalog, store) = (self.catalog.clone(), self.store.clone());
        let progress_writer = self.progress_writer.clone();
        // Runs to its end even if the request is cancelled.
        blocking(move || {
            let AddAtStart { parent, key, start, change: addition, exclusive } = add;
            let subscriptions = catalog.lite.subscriptions();
            let Some(lite_topic) = catalog.lite.load(&parent, &addition.lite_topics[0])? else {
                return Ok(());
            };
            let queues = lite_topic.load(&store)?;
            let progress = lite_topic.consumer(key.group);
            progress.load(&store, &queues, catalog.start_of(key.group))?;
            let queue = &queues[0];
            // Before the progress is locked, as this may read the disk.
            let at_time = match start {
                LiteStart::Timestamp(millis) => {
                    Some(queue.first_stored_at(&store, u64::try_from(millis).unwrap_or_default())?)
                }
                _ => None,
            };
            // Receives take no messages meanwhile, neither of this client nor of one that loses the lite topic.
            let mut transaction = progress.begin()?;
            if subscriptions.missing(&key, &addition.lite_topics).is_empty() {
                return Ok(());
            }
            subscriptions.change(&key, &addition, exclusive)?;
            let offset = at_time.unwrap_or_else(|| offset_of(start, queue, &mut transaction));
            transaction.queue(0).reset_to(offset);
            let written = transaction.commit(&progress_writer);
            drop(transaction);
            progress.wake(1);
            written.wait().inspect_err(|_| {
                // Otherwise a repeated request would not move the group. A removal can't fail.
                let removal = LiteChange { action: LiteAction::Remove, ..addition };
                let _ = subscriptions.change(&key, &removal, exclusive);
            })
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
