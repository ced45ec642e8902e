//! Resets a group in a topic: it continues from other offsets.

use std::sync::Arc;

use super::blocking::blocking;
use super::broker::Broker;
use super::catalog::group_not_found;
use super::queue::Queue;
use super::store::Store;
use crate::service::{
    QueueReset, ResetGroup, ResetTarget, ServiceError, ServiceErrorKind, TopicKind, millis,
};

impl Broker {
    /// See [`crate::service::Administration::reset`]. All queues change in one write.
    pub(super) async fn reset_group(&self, reset: ResetGroup) -> Result<Vec<QueueReset>, ServiceError> {
        let ResetGroup { group, topic: name, target } = reset;
        if self.catalog.group(&group).is_none() {
            return Err(group_not_found(&group));
        }
        let topic = self.known_topic(&name)?;
        if topic.kind() == TopicKind::Lite {
            let text =
                format!("topic {name} has lite topics, in which clients choose where their group begins");
            return Err(ServiceError::new(ServiceErrorKind::Unsupported, text));
        }
        let (_, progress) = self.group_in(&topic, &group).await?;
        let queues = self.loaded(&topic, &progress).await?;
        self.check_reset(&name, &target, &queues)?;
        let (store, targets) = (self.store.clone(), queues.clone());
        let offsets = blocking(move || offsets(&target, &targets, &store)).await?;
        let mut resets = Vec::with_capacity(offsets.len());
        let written = {
            let mut transaction = progress.begin()?;
            for (index, offset) in offsets {
                let queue = transaction.queue(index);
                resets.push(QueueReset {
                    broker: self.config.broker_name.clone(),
                    queue: index as i32,
                    before: Some(queue.first_unsettled() as i64),
                    offset: offset as i64,
                });
                queue.reset_to(offset);
            }
            transaction.commit(&self.progress_writer)
        };
        progress.wake(usize::MAX);
        written.done().await?;
        Ok(resets)
    }

    fn check_reset(
        &self,
        topic: &str,
        target: &ResetTarget,
        queues: &[Arc<Queue>],
    ) -> Result<(), ServiceError> {
        let ResetTarget::Offset { broker, queue, offset } = target else { return Ok(()) };
        let refuse = |text: String| Err(ServiceError::new(ServiceErrorKind::Rejected, text));
        if let Some(broker) = broker.as_ref().filter(|broker| **broker != self.config.broker_name) {
            return refuse(format!("broker {broker} has no queues of topic {topic}"));
        }
        let index = usize::try_from(*queue).ok();
        let Some(found) = index.and_then(|index| queues.get(index)) else {
            let last = queues.len().saturating_sub(1);
            return refuse(format!("topic {topic} has no queue {queue}: its queues are 0 to {last}"));
        };
        let (start, end) = found.range();
        match u64::try_from(*offset).is_ok_and(|offset| (start..=end).contains(&offset)) {
            true => Ok(()),
            false => {
                refuse(format!("offset {offset} is not in queue {queue}: its offsets are {start} to {end}"))
            }
        }
    }
}

/// Returns the indexes of the queues to reset, and the offsets from which the group continues. Reads the disk.
fn offsets(
    target: &ResetTarget,
    queues: &[Arc<Queue>],
    store: &Store,
) -> Result<Vec<(usize, u64)>, ServiceError> {
    if let ResetTarget::Offset { queue, offset, .. } = target {
        return Ok(vec![(*queue as usize, *offset as u64)]);
    }
    let offset = |queue: &Queue| match target {
        ResetTarget::Latest => Ok(queue.end()),
        ResetTarget::Time(at) => queue.first_stored_at(store, u64::try_from(millis(*at)).unwrap_or_default()),
        ResetTarget::Earliest | ResetTarget::Offset { .. } => Ok(queue.range().0),
    };
    queues.iter().enumerate().map(|(index, queue)| Ok((index, offset(queue)?))).collect()
}
