//! Logs damaged records of the database `log` when they are found, each once. They stay on the disk and are passed over.

use std::collections::HashSet;
use std::ops::Range;

use parking_lot::Mutex;

use super::keys;
use super::record_kind::RecordKind;

/// The damage that was logged since the database was opened.
#[derive(Default)]
pub(super) struct DamageReports {
    /// The keys of damaged records, and the first keys after damaged blocks.
    known: Mutex<HashSet<Vec<u8>>>,
}

/// The maximum number of damaged records that are logged.
const MAX_REPORTS: usize = 1000;

impl DamageReports {
    /// Reports a record whose value can't be read.
    pub(super) fn report_record(&self, key: &[u8]) {
        if self.is_new(key) {
            let kind = RecordKind::of(key);
            tracing::error!(
                topic_id = kind.topic(),
                record = kind.description(),
                cost = kind.cost(),
                "stored data is corrupt. Everything else continues; run `store check` for details"
            );
        }
    }

    /// Reports that all records between two keys can't be read.
    pub(super) fn report_gap(&self, before: &[u8], after: Option<&[u8]>) {
        if self.is_new(after.unwrap_or(before)) {
            let kind = after.map_or(RecordKind::of(before), RecordKind::of);
            tracing::error!(
                topic_id = kind.topic(),
                cost = kind.cost_of_gap(),
                "a block of stored data is corrupt, and the storage can't be compacted any more. Run `store check` for \
                 details, and `store copy` to get a sound copy"
            );
        }
    }

    /// Reports that messages of a queue are lost.
    pub(super) fn report_lost(&self, topic: u32, queue: u32, lost: Range<u64>) {
        if self.is_new(&[&keys::chunk(topic, queue, lost.start)[..], &lost.end.to_be_bytes()].concat()) {
            tracing::error!(
                topic_id = topic,
                queue,
                first = lost.start,
                last = lost.end.saturating_sub(1),
                "messages are lost because stored data is corrupt. Consumers continue after them; run `store check` for \
                 details"
            );
        }
    }

    fn is_new(&self, key: &[u8]) -> bool {
        let mut known = self.known.lock();
        known.len() < MAX_REPORTS && known.insert(key.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::catalog::IfExists;
    use crate::backend::embedded::clock;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::directory::OpenError;
    use crate::backend::embedded::reclaim;
    use crate::backend::embedded::retention::{Cutoff, Retention};
    use crate::backend::embedded::store_check::check;
    use crate::backend::embedded::testing::{flip, open, receive, send};
    use crate::service::{
        Delay, EndTransaction, Message, Messages, Resolution, ServiceErrorKind, TopicConfig, TopicKind, time,
    };

    const BEGIN: u64 = 1_700_000_000_000;

    async fn broker(directory: &TempDir) -> Broker {
        let config = EmbeddedConfig {
            data_dir: directory.path().to_owned(),
            default_queues: 1,
            cache_bytes: 0,
            transaction_timeout: Duration::ZERO,
            ..EmbeddedConfig::default()
        };
        open(config).await
    }

    fn deadline() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    /// Sends a message whose body consists of the lowest byte of its number. Returns the coordinates of a half message.
    async fn store(broker: &Broker, number: u64, size: usize, message: Message) -> Option<String> {
        let message = Message { id: number.to_string(), body: vec![number as u8; size].into(), ..message };
        broker.store_messages("topic", vec![message], deadline()).await.expect("a send").remove(0).transaction
    }

    /// Writes everything to tables and blob files, and stops the broker.
    fn stop(broker: Broker) {
        reclaim::flush(&broker.store.log().expect("open"), &broker.store).expect("written");
        broker.writer.stop();
    }

    /// Damages the body of the message with this number.
    fn damage(directory: &TempDir, number: u8) {
        flip(directory.path(), "blobs", |bytes| {
            let body = bytes.windows(1000).position(|window| window.iter().all(|byte| *byte == number));
            body.expect("a body")
        });
    }

    /// What `store check` says about the only damage: where it is, and the consequences.
    fn finding(directory: &TempDir) -> (String, String) {
        loop {
            match check(directory.path(), &mut |_, _| {}) {
                // The writer thread may hold the directory for a moment.
                Err(OpenError::Running(_)) => std::thread::yield_now(),
                checked => {
                    let mut findings = checked.expect("a report").findings;
                    assert_eq!(findings.len(), 1, "{findings:?}");
                    let finding = findings.remove(0);
                    return (finding.place, finding.cost);
                }
            }
        }
    }

    fn retention(broker: &Broker) -> Retention {
        Retention::new(broker.store.clone(), broker.catalog.clone(), &broker.config)
    }

    fn delayed(due: u64) -> Message {
        Message { delay: Some(Delay::Until(time(due as i64))), ..Message::default() }
    }

    /// Lets the writer thread deliver what is due.
    async fn deliver_due(broker: &Broker) {
        for _ in 0..2 {
            broker.change(deadline(), |_, _| Ok(())).await.expect("an empty change");
        }
    }

    #[tokio::test]
    async fn delayed_messages_are_delivered_despite_a_damaged_one() {
        let clock = clock::controlled::begin(BEGIN);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stopped = broker(&directory).await;
        for number in 1..=3 {
            store(&stopped, number, 2_000, delayed(BEGIN + 1_000)).await;
        }
        stop(stopped);
        damage(&directory, 2);
        let (place, cost) = finding(&directory);
        assert_eq!(
            (place.as_str(), cost.as_str()),
            ("database log, a delayed message", "the message is lost")
        );
        let broker = broker(&directory).await;
        store(&broker, 4, 10, delayed(BEGIN + 5_000)).await;
        clock.advance(2_000);
        deliver_due(&broker).await;
        assert_eq!(receive(&broker, 32).await, ["1", "3"]);
        clock.advance(4_000);
        deliver_due(&broker).await;
        assert_eq!(receive(&broker, 32).await, ["4"]);
    }

    #[tokio::test]
    async fn delayed_messages_are_delivered_despite_a_damaged_block() {
        let clock = clock::controlled::begin(BEGIN);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stopped = broker(&directory).await;
        for number in 0..300 {
            store(&stopped, number, 30, delayed(BEGIN + 1_000)).await;
        }
        stop(stopped);
        flip(directory.path(), "tables", |_| 6_000);
        let (place, cost) = finding(&directory);
        assert!(place.contains("between a delayed message and a delayed message"), "{place}");
        assert!(cost.starts_with("delayed messages are lost"), "{cost}");
        let broker = broker(&directory).await;
        clock.advance(2_000);
        deliver_due(&broker).await;
        send(&broker, ["last"]).await;
        let mut received = Vec::new();
        while received.last().is_none_or(|last| last != "last") {
            received.extend(receive(&broker, 32).await);
        }
        assert!((150..301).contains(&received.len()), "{received:?}");
        assert_eq!((received[0].as_str(), received[received.len() - 2].as_str()), ("0", "299"));
    }

    #[tokio::test]
    async fn messages_that_are_delayed_into_the_range_of_a_damaged_block_are_delivered() {
        let clock = clock::controlled::begin(BEGIN);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store_delayed = async |broker: &Broker, kind: u64| {
            for number in 0..300 {
                store(broker, 1000 * kind + number, 30, delayed(BEGIN + 1_000 + 3 * number + kind)).await;
            }
        };
        let first = broker(&directory).await;
        store_delayed(&first, 0).await;
        stop(first);
        flip(directory.path(), "tables", |_| 6_000);
        // The next messages get into another table, and the last ones stay in memory.
        let second = broker(&directory).await;
        store_delayed(&second, 1).await;
        stop(second);
        let third = broker(&directory).await;
        store_delayed(&third, 2).await;
        clock.advance(3_000);
        deliver_due(&third).await;
        send(&third, ["last"]).await;
        let mut received = Vec::new();
        while received.last().is_none_or(|last| last != "last") {
            received.extend(receive(&third, 32).await);
        }
        received.pop();
        let mut numbers: Vec<u64> = received.iter().map(|id| id.parse().expect("a number")).collect();
        let is_in_order = numbers.is_sorted_by_key(|number| 3 * (number % 1000) + number / 1000);
        assert!(is_in_order, "{numbers:?}");
        numbers.sort_unstable();
        let of_kind = |kind: u64| numbers.iter().filter(|number| *number / 1000 == kind).count();
        assert_eq!([of_kind(1), of_kind(2)], [300, 300]);
        // Only messages in the damaged block are lost.
        let lost: Vec<_> = (0..300).filter(|number| !numbers.contains(number)).collect();
        assert!(!lost.is_empty() && lost.len() < 150, "{lost:?}");
        assert_eq!((lost[lost.len() - 1] - lost[0]) as usize, lost.len() - 1, "{lost:?}");
    }

    #[tokio::test]
    async fn half_messages_are_checked_decided_and_removed_despite_a_damaged_one() {
        let clock = clock::controlled::begin(BEGIN);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stopped = broker(&directory).await;
        let half = Message { half: true, ..Message::default() };
        let mut coordinates = Vec::new();
        for number in 1..=3 {
            coordinates.extend(store(&stopped, number, 2_000, half.clone()).await);
        }
        stop(stopped);
        damage(&directory, 2);
        let (place, cost) = finding(&directory);
        assert_eq!(place, "database log, a half message of topic topic");
        assert_eq!(cost, "its transaction can't be committed");
        // No two starts are in the same millisecond.
        clock.advance(1);
        let broker = broker(&directory).await;
        broker.watch_half_messages(&["topic".to_owned()]);
        for id in ["1", "3"] {
            assert_eq!(broker.next_check().await.message.id, id);
        }
        let end = |number: usize, resolution| EndTransaction {
            topic: "topic".to_owned(),
            message_id: String::new(),
            coordinates: coordinates[number - 1].clone(),
            resolution,
            answers_check: false,
            deadline: deadline(),
        };
        let refused = broker.end_transaction(end(2, Resolution::Commit)).await.expect_err("it is lost");
        assert_eq!(refused.kind, ServiceErrorKind::Rejected, "the client must not try again: {refused}");
        broker.end_transaction(end(1, Resolution::Commit)).await.expect("a commit");
        assert_eq!(receive(&broker, 32).await, ["1"]);
        clock.advance(1_000);
        // The last one is younger.
        store(&broker, 4, 10, half).await;
        let topic = broker.topic("topic").await.expect("a topic").id();
        let halves = || broker.store.log().expect("open").prefix(super::keys::half_messages(topic)).count();
        assert_eq!(halves(), 3);
        retention(&broker).remove_stored_before(Cutoff::At(BEGIN + 1)).expect("a pass");
        assert_eq!(halves(), 1);
    }

    #[tokio::test]
    async fn retention_goes_on_after_a_damaged_lite_topic() {
        let _clock = clock::controlled::begin(BEGIN);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stopped = broker(&directory).await;
        let lite = TopicConfig::new("topic", TopicKind::Lite, 1);
        stopped.catalog.put_topic(lite, IfExists::Refuse).expect("a new topic");
        for (number, name) in [(1u8, "damaged"), (2, "sound"), (3, "sound")] {
            let body = vec![number; 2_000].into();
            let message = Message { lite_topic: Some(name.to_owned()), body, ..Message::default() };
            Messages::send(&stopped, "topic", vec![message], deadline()).await.expect("a send");
        }
        stop(stopped);
        damage(&directory, 1);
        let broker = broker(&directory).await;
        let chunks = || broker.store.log().expect("open").iter().count();
        assert_eq!(chunks(), 3);
        retention(&broker).review_lite_topics(Some(BEGIN), Cutoff::At(BEGIN + 1)).expect("a pass");
        assert_eq!(chunks(), 2, "the last message of each stays");
    }
}
