//! Removes expired lite topics, and expired messages of other lite topics.

use super::catalog::Catalog;
use super::damage::{self, QueuePart};
use super::keys;
use super::lite_topics::LiteRecord;
use super::retention::{Cutoff, Removal, Retention};
use super::store::unavailable;
use crate::service::ServiceError;

/// How many records are read at once.
pub(super) const RECORDS_PER_READ: usize = 512;

impl Retention {
    /// Removes expired messages of lite topics, and lite topics that were unused for the expiration time of their LITE
    /// topic. `now` is in ms. With `None`, no lite topic is removed. Reads and writes the disk.
    pub(super) fn review_lite_topics(&self, now: Option<u64>, oldest: Cutoff) -> Result<(), ServiceError> {
        each_record(&self.catalog, None, |record| {
            // The data of a deleted topic is removed with the topic.
            let Some(parent) = self.catalog.topic_by_id(record.parent) else { return Ok(()) };
            let oldest = oldest.of(&parent);
            let expiration = parent.config().lite_expiration;
            let millis = expiration.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            if let Some(since) = now.zip(millis).map(|(now, millis)| now.saturating_sub(millis))
                && self.is_unused_since(record, since)?
                && self.catalog.lite.remove_if(record, || self.is_unused_since(record, since))?
            {
                return Ok(());
            }
            let is_loaded = self.catalog.lite.loaded(record.parent, &record.name).is_some();
            if is_loaded || self.has_expired_in(record.id, 0, oldest)? {
                let removal = Removal { stored_before: oldest, below: 0 };
                self.remove_from_queue(&*self.catalog.lite.queue(&self.store, record)?, removal)?;
                self.catalog.lite.messages_removed(record.id);
            }
            Ok(())
        })
    }

    /// Whether no message was sent to a lite topic since this time, and no client is subscribed to it.
    fn is_unused_since(&self, record: &LiteRecord, since: u64) -> Result<bool, ServiceError> {
        if self.catalog.lite.subscriptions().has_subscribers(record.parent, &record.name) {
            return Ok(false);
        }
        Ok(match self.store.log()?.prefix(keys::queue(record.id, 0)).next_back().map(damage::read_part) {
            // Its first message was never stored.
            None => true,
            Some(Ok(QueuePart::Chunk(last))) => last.stored_at() < since,
            // The age of the last messages is not known. The lite topic stays until others follow.
            Some(Ok(QueuePart::Damaged(_))) => false,
            Some(Err(error)) if damage::is_damage(&error) => false,
            Some(Err(error)) => return Err(unavailable(&error)),
        })
    }
}

/// Calls `act` with the record of each lite topic of one LITE topic, or of all. Reads the disk.
pub(super) fn each_record(
    catalog: &Catalog,
    parent: Option<u32>,
    mut act: impl FnMut(&LiteRecord) -> Result<(), ServiceError>,
) -> Result<(), ServiceError> {
    let mut after = None;
    loop {
        let page = catalog.lite.records(parent, after.as_ref(), RECORDS_PER_READ)?;
        page.iter().try_for_each(&mut act)?;
        match page.into_iter().last() {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::catalog::IfExists;
    use crate::backend::embedded::clock;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::testing::open;
    use crate::service::{
        LiteAction, LiteChange, LiteSubscriptions, Message, Messages, TopicConfig, TopicKind,
    };

    const MINUTE: Duration = Duration::from_secs(60);

    async fn broker(directory: &tempfile::TempDir) -> Broker {
        let config = EmbeddedConfig {
            data_dir: directory.path().to_owned(),
            cache_bytes: 0,
            max_lite_topics: 3,
            ..EmbeddedConfig::default()
        };
        open(config).await
    }

    fn create(broker: &Broker) {
        let lite = TopicConfig::new("topic", TopicKind::Lite, 1);
        let config = TopicConfig { lite_expiration: Some(MINUTE), ..lite };
        broker.catalog.put_topic(config, IfExists::Refuse).expect("a new topic");
    }

    async fn send(broker: &Broker, lite_topic: &str) -> Result<i64, ServiceError> {
        let message = Message { lite_topic: Some(lite_topic.to_owned()), ..Message::default() };
        let deadline = Instant::now() + Duration::from_secs(30);
        let sent = Messages::send(broker, "topic", vec![message], deadline).await?.remove(0)?;
        Ok(sent.queue_offset)
    }

    fn retention(broker: &Broker) -> Retention {
        Retention::new(broker.store.clone(), broker.catalog.clone(), &broker.config)
    }

    fn names(broker: &Broker) -> BTreeSet<String> {
        let records = broker.catalog.lite.records(None, None, 99).expect("records");
        records.into_iter().map(|record| record.name).collect()
    }

    #[tokio::test]
    async fn a_lite_topic_expires_without_sends_and_subscribers() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        create(&broker);
        broker.group("group").await.expect("a group");
        for name in ["subscribed", "unused", "unused"] {
            send(&broker, name).await.expect("a send");
        }
        let change = LiteChange {
            client_id: "c".to_owned(),
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            action: LiteAction::Add,
            lite_topics: vec!["subscribed".to_owned()],
            quota: 10,
            start: None,
            deadline: Instant::now(),
        };
        broker.sync(change).await.expect("a subscription");
        let retention = retention(&broker);
        let now = clock::now();
        retention.review_lite_topics(Some(now + 59_000), Cutoff::At(0)).expect("a pass");
        retention.review_lite_topics(None, Cutoff::At(0)).expect("a pass");
        assert_eq!(names(&broker).len(), 2);
        // The writer thread may still hold a reference for a moment.
        while names(&broker).contains("unused") {
            retention.review_lite_topics(Some(now + 600_000), Cutoff::At(0)).expect("a pass");
        }
        assert!(names(&broker).contains("subscribed"));
        // The next message creates it again.
        assert_eq!(send(&broker, "unused").await, Ok(0));
        retention.remove_deleted().expect("a pass");
        assert_eq!(send(&broker, "unused").await, Ok(1));
    }

    #[tokio::test]
    async fn expired_messages_are_removed_and_offsets_continue() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        create(&broker);
        for _ in 0..3 {
            send(&broker, "a").await.expect("a send");
        }
        let id = broker.catalog.lite.records(None, None, 1).expect("records").remove(0).id;
        let chunks = || broker.store.log().expect("open").prefix(keys::queue(id, 0)).count();
        let retention = retention(&broker);
        for is_loaded in [true, false] {
            assert_eq!(broker.catalog.lite.all_loaded().len(), usize::from(is_loaded));
            retention.review_lite_topics(None, Cutoff::At(clock::now() + 1000)).expect("a pass");
            assert_eq!(chunks(), 1, "the last chunk determines the next offset");
            for _ in 0..2 {
                broker.catalog.lite.unload_idle();
            }
        }
        assert_eq!(send(&broker, "a").await, Ok(3));
    }

    #[tokio::test]
    async fn lite_topics_are_deleted_with_their_topic() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        create(&broker);
        for name in ["a", "b", "c"] {
            send(&broker, name).await.expect("a send");
        }
        let refused = send(&broker, "d").await.expect_err("too many");
        assert_eq!(refused.kind, crate::service::ServiceErrorKind::LiteTopicQuota);
        assert_eq!(broker.catalog.topics().len(), 1, "the list does not contain lite topics");
        broker.catalog.delete_topic("topic").expect("deleted");
        create(&broker);
        assert_eq!(send(&broker, "a").await, Ok(0), "it is another topic");
        let retention = retention(&broker);
        retention.remove_deleted().expect("a pass");
        assert_eq!(names(&broker).len(), 1);
        assert_eq!(broker.store.log().expect("open").iter().count(), 1);
        for name in ["b", "c"] {
            send(&broker, name).await.expect("below the limit again");
        }
    }
}
