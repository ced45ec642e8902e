//! Orphan checks: finds half messages that have been undecided for too long, so that a producer is asked about them.
//!
//! Only topics with a connected producer are checked, so that half messages without a producer cost nothing. In memory
//! there is the time of the next check of each such topic, and one batch of due checks that were read from the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::broker::Broker;
use super::clock;
use super::codec;
use super::commit::{Commit, MAX_MOVED, StoredRecord};
use super::half_message::{CheckRecord, HalfMessage, HalfMessageId};
use super::keys;
use super::orphan_check_reads::{CheckState, DueChecks, NextRead, NextStep};
use super::scan::{Record, Scan};
use super::store::corrupt;
use super::topic::Topic;
use super::writer_state::WriterState;
use crate::service::{CheckOutcome, Delivery, ServiceError, ServiceErrorKind, time};

/// The policy for the checks of a half message.
#[derive(Clone, Copy)]
struct CheckPolicy {
    /// The time between two checks, in ms.
    interval: u64,
    /// The maximum number of checks.
    max: u32,
}

/// The maximum number of checks that are reviewed in one commit after a start.
const MAX_REVIEWED: usize = 4096;

impl Broker {
    /// See [`crate::service::BrokerRequests::announce_producers`].
    pub(super) fn watch_half_messages(&self, topics: &[String]) {
        self.checks.watch(topics.iter().filter_map(|topic| self.catalog.topic(topic)).collect());
    }

    /// Waits for the next half message to check. Cancellation safe.
    pub(super) async fn next_check(&self) -> Delivery {
        let mut pending = self.checks.pending.lock().await;
        loop {
            if let Some(delivery) = pending.ready.pop_front() {
                return delivery;
            }
            if let Some((topic, answer)) = &mut pending.in_progress {
                let taken = answer.await;
                let topic = topic.clone();
                pending.in_progress = None;
                let stopped =
                    |_| Err(ServiceError::new(ServiceErrorKind::Unavailable, "the broker has stopped"));
                match taken.unwrap_or_else(stopped) {
                    Ok(taken) => pending.ready.extend(self.checks_of(&topic, taken)),
                    Err(error) => self.checks_failed(&topic, &error),
                }
                continue;
            }
            let changed = self.checks.changed.notified();
            match self.checks.next_step(clock::monotonic()) {
                NextStep::Due(topic) => {
                    let (of, policy) = (topic.clone(), self.policy());
                    let take = move |state: &mut WriterState, commit: &mut Commit| {
                        take_due_checks(&of, policy, state, commit)
                    };
                    match self.writer.change(take) {
                        Ok(answer) => pending.in_progress = Some((topic, answer)),
                        Err(error) => self.checks_failed(&topic, &error),
                    }
                }
                NextStep::Wait(time) => {
                    let _: Result<(), _> = timeout(time, changed).await;
                }
                NextStep::Nothing => changed.await,
            }
        }
    }

    /// Counts a check if a producer was asked. If not, pauses the checks of the topic.
    pub(super) fn count_check(&self, coordinates: &str, outcome: CheckOutcome) {
        let Ok(half) = coordinates.parse::<HalfMessageId>() else { return };
        if outcome == CheckOutcome::NotSent {
            self.checks.pause(half.topic);
            return;
        }
        let count = move |_: &mut WriterState, commit: &mut Commit| {
            // Without a record, the transaction has ended in the meantime.
            if let Some(record) = commit.get(&half.check_key())?.sound() {
                half.add_check(CheckRecord::decode(&record)?.checks.saturating_add(1), commit);
            }
            Ok(())
        };
        // If this fails, the producer is asked once more often.
        let _: Result<oneshot::Receiver<Result<(), ServiceError>>, _> = self.writer.change(count);
    }

    fn policy(&self) -> CheckPolicy {
        let interval = u64::try_from(self.config.transaction_check_interval.as_millis()).unwrap_or(u64::MAX);
        CheckPolicy { interval: interval.max(1), max: self.config.transaction_check_max }
    }

    fn checks_failed(&self, topic: &Topic, error: &ServiceError) {
        if self.store.failure().is_none() && error.kind != ServiceErrorKind::TopicNotFound {
            tracing::warn!(%error, "failed to read the checks of half messages");
        }
        self.checks.failed(topic.id(), error);
    }

    fn checks_of(&self, topic: &Topic, taken: DueChecks) -> Vec<Delivery> {
        let topic = topic.config().name;
        if !taken.discarded.is_empty() {
            let count = taken.discarded.len() as u64;
            let since_start = self.checks.discarded.fetch_add(count, Ordering::Relaxed) + count;
            let decoded = codec::decode(&taken.discarded[0].message.body);
            let message_id = decoded.map_or_else(|_| String::new(), |stored| stored.message.id);
            tracing::warn!(
                topic,
                message_id,
                count,
                since_start,
                "discarded half messages that were undecided after their last check"
            );
        }
        let checks = taken.checks.into_iter();
        checks.filter_map(|(half, record)| self.check(&topic, half, &record)).collect()
    }

    fn check(&self, topic: &str, half: HalfMessageId, record: &HalfMessage) -> Option<Delivery> {
        let Ok(stored) = codec::decode(&record.message.body) else {
            let error = corrupt("half message");
            tracing::warn!(topic, %error, "failed to decode a half message for its check");
            return None;
        };
        Some(Delivery {
            message: stored.message,
            topic: topic.to_owned(),
            queue_id: record.queue as i32,
            queue_offset: 0,
            stored_at: time(record.stored_at as i64),
            store_host: self.config.store_host.clone(),
            attempt: 1,
            attempts_of_others: 0,
            received_at: time(clock::now() as i64),
            invisible: Duration::ZERO,
            coordinates: half.to_string(),
        })
    }
}

/// Reads due checks, as many as fit in one commit, and moves them ahead by the interval, so that no check repeats after a
/// restart.
fn take_due_checks(
    topic: &Arc<Topic>,
    policy: CheckPolicy,
    state: &mut WriterState,
    commit: &mut Commit,
) -> Result<DueChecks, ServiceError> {
    topic.check_alive()?;
    let now = clock::monotonic();
    let known = state.checks.state(topic.id());
    let (mut from, mut review_after) = known.map_or((0, None), |known| (known.from, known.review_after));
    let mut next = NextRead::Never;
    let mut due = Vec::new();
    let log = commit.log.clone();
    let end = keys::check(topic.id(), u64::MAX, u64::MAX);
    let checks = Scan::range(&log, &keys::check(topic.id(), from, 0), &end).reported();
    for record in checks {
        let Record { key, value } = record?;
        let (check_at, sequence) = keys::check_parts(&key).ok_or_else(|| corrupt("check key"))?;
        if check_at > now || due.len() >= MAX_MOVED || commit.is_full() {
            next = NextRead::At(check_at);
            break;
        }
        from = check_at;
        let half = HalfMessageId { topic: topic.id(), sequence, check_at };
        // A damaged half message and its check are passed over until the next start. Retention removes them.
        let Some(CheckRecord { checks, .. }) = check_record(value) else { continue };
        let record = match commit.get(&half.key())? {
            StoredRecord::Sound(record) => Some(record),
            StoredRecord::Absent => None,
            StoredRecord::Damaged => continue,
        };
        due.push((half, checks, record));
    }
    let mut taken = DueChecks { checks: Vec::new(), discarded: Vec::new() };
    for (half, checks, record) in due {
        commit.remove(&half.check_key());
        // Without a record, the transaction has ended. A half message that can't be decoded is not checked.
        let Some(Ok(record)) = record.map(HalfMessage::decode) else { continue };
        if checks >= policy.max {
            half.remove(commit);
            taken.discarded.push(record);
        } else {
            let half = HalfMessageId { check_at: now.saturating_add(policy.interval), ..half };
            half.add_check(checks, commit);
            taken.checks.push((half, record));
        }
    }
    if let Some(reviewed) = review_after {
        let is_known = |first: u64| matches!(next, NextRead::At(at) if at <= first);
        let review = bring_forward(topic.id(), reviewed.max(now), now, commit)?;
        if let Some(first) = review.first.filter(|first| !is_known(*first)) {
            next = NextRead::At(first);
        }
        review_after = review.continue_after;
    }
    // Before the commit, so that this does not overwrite an earlier time that is noted after the commit.
    state.checks.set_state(topic.id(), CheckState { from, next, review_after });
    Ok(taken)
}

/// Decodes the record of a check. `None` if it is damaged.
fn check_record(value: Option<Bytes>) -> Option<CheckRecord> {
    CheckRecord::decode(&value?).ok()
}

/// The result of [`bring_forward`], in ms of [`clock::monotonic`].
struct Review {
    /// Checks after this time are still to be reviewed. `None` if all were.
    continue_after: Option<u64>,
    /// The earliest check that was brought forward, if any.
    first: Option<u64>,
}

/// Reviews the checks after `from`. If the clock was set back, a check is further ahead than when it was written. Such
/// checks are brought forward.
fn bring_forward(topic: u32, from: u64, now: u64, commit: &mut Commit) -> Result<Review, ServiceError> {
    let mut first: Option<u64> = None;
    let log = commit.log.clone();
    let end = keys::check(topic, u64::MAX, u64::MAX);
    let later = Scan::range(&log, &keys::check(topic, from.saturating_add(1), 0), &end).reported();
    for (reviewed, record) in later.enumerate() {
        let Record { key, value } = record?;
        let (check_at, sequence) = keys::check_parts(&key).ok_or_else(|| corrupt("check key"))?;
        if reviewed >= MAX_REVIEWED {
            return Ok(Review { continue_after: Some(check_at.saturating_sub(1)), first: Some(now) });
        }
        let Some(CheckRecord { checks, ahead: Some(ahead) }) = check_record(value) else { continue };
        let latest = now.saturating_add(ahead);
        if check_at > latest {
            commit.remove(&key);
            HalfMessageId { topic, sequence, check_at: latest }.add_check(checks, commit);
            first = Some(first.map_or(latest, |first| first.min(latest)));
        }
    }
    Ok(Review { continue_after: None, first })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::config::EmbeddedConfig;
    use super::super::testing::open;
    use super::*;
    use crate::service::Message;

    async fn broker(directory: &tempfile::TempDir) -> Broker {
        let data_dir = directory.path().to_owned();
        open(EmbeddedConfig { data_dir, transaction_timeout: Duration::ZERO, ..EmbeddedConfig::default() })
            .await
    }

    async fn store(broker: &Broker, topic: &str, id: &str, bytes: usize) {
        let message =
            Message { id: id.to_owned(), half: true, body: vec![7; bytes].into(), ..Message::default() };
        let deadline = Instant::now() + Duration::from_secs(30);
        broker.store_messages(topic, vec![message], deadline).await.expect("a send");
    }

    async fn taken(broker: &Broker, topic: &str) -> usize {
        let (topic, policy) = (broker.catalog.topic(topic).expect("a topic"), broker.policy());
        let take = move |state: &mut WriterState, commit: &mut Commit| {
            take_due_checks(&topic, policy, state, commit)
        };
        let taken = broker.change(Instant::now() + Duration::from_secs(30), take).await.expect("checks");
        taken.checks.len()
    }

    #[tokio::test]
    async fn a_read_takes_a_bounded_number_of_bytes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        for id in ["a", "b", "c", "d", "e"] {
            store(&broker, "topic", id, 3 << 20).await;
        }
        broker.watch_half_messages(&["topic".to_owned()]);
        for expected in [2, 2, 1, 0] {
            assert_eq!(taken(&broker, "topic").await, expected);
        }
        // Only the next time of each topic remains in memory.
        assert!(broker.checks.pending.try_lock().is_ok_and(|pending| pending.ready.is_empty()));
    }

    #[tokio::test]
    async fn topics_take_turns() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        for id in ["1", "2", "3"] {
            store(&broker, "a", id, 3 << 20).await;
        }
        store(&broker, "b", "4", 1).await;
        broker.watch_half_messages(&["a".to_owned(), "b".to_owned()]);
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(broker.next_check().await.message.id);
        }
        assert_eq!(ids, ["1", "2", "4", "3"]);
    }

    #[tokio::test]
    async fn a_check_is_not_lost_if_the_caller_is_cancelled() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        store(&broker, "topic", "a", 1).await;
        broker.watch_half_messages(&["topic".to_owned()]);
        {
            let next = broker.next_check();
            tokio::pin!(next);
            assert!(futures::poll!(next).is_pending());
        }
        assert_eq!(broker.next_check().await.message.id, "a");
    }

    #[tokio::test]
    async fn checks_are_on_time_after_the_clock_was_set_back() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        for id in ["a", "b"] {
            store(&broker, "topic", id, 1).await;
        }
        // Rewritten as if the clock had been an hour ahead when they were stored.
        let topic = broker.topic("topic").await.expect("a topic").id();
        let all = keys::check(topic, 0, 0)..=keys::check(topic, u64::MAX, u64::MAX);
        let log = broker.store.log().expect("open");
        for entry in log.range(all).collect::<Vec<_>>() {
            let (key, value) = entry.into_inner().expect("readable");
            let (at, sequence) = keys::check_parts(&key).expect("a check");
            log.remove(key).expect("removed");
            log.insert(keys::check(topic, at + 3_600_000, sequence), value).expect("written");
        }
        broker.watch_half_messages(&["topic".to_owned()]);
        for id in ["a", "b"] {
            assert_eq!(broker.next_check().await.message.id, id);
        }
    }
}
