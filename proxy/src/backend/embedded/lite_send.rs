//! Sends to lite topics, and creates those that don't exist.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;

use super::blocking::blocking;
use super::broker::Broker;
use super::codec;
use super::new_message::NewMessage;
use super::send::sent;
use super::topic::Topic;
use crate::service::{Message, ServiceError, ServiceErrorKind, StoreReceipt, TopicKind};

impl Broker {
    /// Stores messages in the lite topics that they name. The messages of one lite topic are stored in order, and
    /// either all of them or none. Returns an outcome for each message.
    ///
    /// # Errors
    /// See [`crate::service::Messages::send`], and `LiteTopicQuota`. Nothing is stored then.
    pub(super) async fn store_lite_messages(
        &self,
        topic: &Arc<Topic>,
        messages: Vec<Message>,
        deadline: Instant,
    ) -> Result<Vec<Result<StoreReceipt, ServiceError>>, ServiceError> {
        if topic.write_queues() == 0 {
            return Err(ServiceError::new(ServiceErrorKind::Forbidden, "no writable queue"));
        }
        let mut by_lite_topic = BTreeMap::<String, Vec<usize>>::new();
        for (index, message) in messages.iter().enumerate() {
            match &message.lite_topic {
                Some(name) if message.kind() == TopicKind::Lite => {
                    by_lite_topic.entry(name.clone()).or_default().push(index);
                }
                _ => {
                    let text = "a LITE topic accepts only messages that name a lite topic";
                    return Err(ServiceError::new(ServiceErrorKind::Rejected, text));
                }
            }
        }
        let topics = self.lite_topics(topic, by_lite_topic.keys().cloned().collect()).await?;
        let sends = by_lite_topic.iter().map(async |(name, indexes)| {
            let encode = |index: &usize| codec::encode(&messages[*index], 0);
            let entries = indexes.iter().map(|index| NewMessage {
                message: encode(index),
                queue: 0,
                due: None,
                first_check_after: None,
            });
            self.append(topics[name].clone(), entries.collect(), deadline).await
        });
        let stored = join_all(sends).await;
        let mut outcomes = BTreeMap::new();
        for (indexes, stored) in by_lite_topic.into_values().zip(stored) {
            match stored {
                Ok(placed) => {
                    let sent = |(index, placed)| (index, Ok(sent(placed, &messages[index])));
                    outcomes.extend(indexes.into_iter().zip(placed).map(sent));
                }
                Err(error) => outcomes.extend(indexes.into_iter().map(|index| (index, Err(error.clone())))),
            }
        }
        Ok(outcomes.into_values().collect())
    }

    /// Returns lite topics by name. Creates those that are missing.
    async fn lite_topics(
        &self,
        parent: &Arc<Topic>,
        names: BTreeSet<String>,
    ) -> Result<HashMap<String, Arc<Topic>>, ServiceError> {
        let loaded = |name: &String| Some((name.clone(), self.catalog.lite.loaded(parent.id(), name)?));
        if let Some(topics) = names.iter().map(loaded).collect() {
            return Ok(topics);
        }
        let (catalog, parent) = (self.catalog.clone(), parent.clone());
        blocking(move || catalog.lite.load_or_create(&catalog.ids, &parent, &names)).await
    }
}
