//! Orphan checks: which half messages are undecided for too long, so that a producer is asked about them.
//!
//! Only topics with a producer here are looked at, so that half messages that nobody can be asked about cost nothing. In
//! memory there is one time for each of these topics, and the checks that were taken together from the disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::broker::Broker;
use super::clock;
use super::codec;
use super::commit::Commit;
use super::half_message::{self, HalfMessage, Record};
use super::keys;
use super::store::{corrupt, unavailable};
use super::tables::Tables;
use super::timer::MAX_AT_ONCE;
use super::topic::Topic;
use crate::service::{CheckOutcome, Delivery, ServiceError, ServiceErrorKind, time};

/// The checks of the topics that have a producer here.
#[derive(Default)]
pub(super) struct OrphanChecks {
    watched: Mutex<Watched>,
    changed: Notify,
    pending: tokio::sync::Mutex<Pending>,
    discarded: AtomicU64,
}

#[derive(Default)]
struct Watched {
    // By their ids.
    topics: BTreeMap<u32, WatchedTopic>,
    // The topic that was looked at last: the next one is another, if there is another.
    last: u32,
}

struct WatchedTopic {
    topic: Arc<Topic>,
    // There is no check before: those that were made are not read over again.
    from: u64,
    next: Next,
    // Later checks than this one are to be reviewed: if the clock was set back before this start, they are too far ahead.
    review: Option<u64>,
}

/// When the checks of a topic are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// At this time, in ms of [`clock::monotonic`].
    At(u64),
    /// There are none.
    Never,
}

/// What there is to do.
enum Look {
    Due(Arc<Topic>),
    Wait(Duration),
    Nothing,
}

/// Checks that were taken from the disk and are not passed on yet.
#[derive(Default)]
struct Pending {
    ready: VecDeque<Delivery>,
    // Kept if the caller gives up.
    under_way: Option<(Arc<Topic>, Answer)>,
}

type Answer = oneshot::Receiver<Result<Taken, ServiceError>>;

/// Checks that are due, taken from the disk.
struct Taken {
    checks: Vec<(HalfMessage, Record)>,
    /// Half messages that had their last check.
    discarded: Vec<Record>,
}

/// When half messages are checked.
#[derive(Clone, Copy)]
struct Rules {
    interval: u64,
    max: u32,
}

/// How many checks are reviewed in one commit after a start.
const MAX_REVIEWED: usize = 4096;
/// The pause of a topic after a failure, or if its producers read too slowly, in ms.
const PAUSE: u64 = 1_000;

impl OrphanChecks {
    /// Sets the topics that have a producer here.
    fn watch(&self, topics: Vec<Arc<Topic>>) {
        let mut watched = self.watched.lock();
        let mut before = std::mem::take(&mut watched.topics);
        for topic in topics {
            let id = topic.id();
            let unknown = || WatchedTopic { topic, from: 0, next: Next::At(0), review: Some(0) };
            let entry = before.remove(&id).unwrap_or_else(unknown);
            watched.topics.insert(id, entry);
        }
        drop(watched);
        self.changed.notify_one();
    }

    /// Notes checks that were stored: the earliest time of each topic.
    pub(super) fn added(&self, checks: &HashMap<u32, u64>) {
        for (topic, at) in checks {
            self.update(*topic, |watched| {
                let is_first = match watched.next {
                    Next::At(next) => *at < next,
                    Next::Never => true,
                };
                if is_first {
                    watched.next = Next::At(*at);
                    self.changed.notify_one();
                }
            });
        }
    }

    /// Makes the checks of all topics be read again, after the log was opened again.
    pub(super) fn start_over(&self) {
        for watched in self.watched.lock().topics.values_mut() {
            (watched.from, watched.next) = (0, Next::At(0));
        }
        self.changed.notify_one();
    }

    fn look(&self, now: u64) -> Look {
        let mut watched = self.watched.lock();
        let Watched { topics, last } = &mut *watched;
        let mut in_turn = topics.range((Excluded(*last), Unbounded)).chain(topics.range(..=*last));
        let due = in_turn.find(|(_, topic)| matches!(topic.next, Next::At(at) if at <= now));
        if let Some((id, found)) = due {
            let topic = found.topic.clone();
            *last = *id;
            return Look::Due(topic);
        }
        let times = topics.values().filter_map(|topic| match topic.next {
            Next::At(at) => Some(at),
            Next::Never => None,
        });
        times.min().map_or(Look::Nothing, |at| Look::Wait(Duration::from_millis(at - now)))
    }

    /// Lets a topic rest.
    fn pause(&self, topic: u32) {
        let until = clock::monotonic() + PAUSE;
        self.update(topic, |watched| {
            watched.next = match watched.next {
                Next::At(at) => Next::At(at.max(until)),
                Next::Never => Next::Never,
            };
        });
    }

    fn failed(&self, topic: u32, error: &ServiceError) {
        if error.kind == ServiceErrorKind::TopicNotFound {
            self.watched.lock().topics.remove(&topic);
            return;
        }
        let again = Next::At(clock::monotonic() + PAUSE);
        self.update(topic, |watched| (watched.from, watched.next, watched.review) = (0, again, Some(0)));
    }

    fn update(&self, topic: u32, update: impl FnOnce(&mut WatchedTopic)) {
        if let Some(watched) = self.watched.lock().topics.get_mut(&topic) {
            update(watched);
        }
    }
}

impl Broker {
    /// See [`crate::service::BrokerRequests::announce_producers`].
    pub(super) fn watch_half_messages(&self, topics: &[String]) {
        self.checks.watch(topics.iter().filter_map(|topic| self.catalog.topic(topic)).collect());
    }

    /// Waits for the next half message that is to be checked. Nothing is lost if the caller gives up.
    pub(super) async fn next_check(&self) -> Delivery {
        let mut pending = self.checks.pending.lock().await;
        loop {
            if let Some(delivery) = pending.ready.pop_front() {
                return delivery;
            }
            if let Some((topic, answer)) = &mut pending.under_way {
                let taken = answer.await;
                let topic = topic.clone();
                pending.under_way = None;
                let stopped =
                    |_| Err(ServiceError::new(ServiceErrorKind::Unavailable, "the broker has stopped"));
                match taken.unwrap_or_else(stopped) {
                    Ok(taken) => pending.ready.extend(self.checks_of(&topic, taken)),
                    Err(error) => self.checks_failed(&topic, &error),
                }
                continue;
            }
            let changed = self.checks.changed.notified();
            match self.checks.look(clock::monotonic()) {
                Look::Due(topic) => {
                    let (of, rules) = (topic.clone(), self.rules());
                    let take =
                        move |tables: &mut Tables, commit: &mut Commit| take(&of, rules, tables, commit);
                    match self.writer.change(take) {
                        Ok(answer) => pending.under_way = Some((topic, answer)),
                        Err(error) => self.checks_failed(&topic, &error),
                    }
                }
                Look::Wait(time) => {
                    let _: Result<(), _> = timeout(time, changed).await;
                }
                Look::Nothing => changed.await,
            }
        }
    }

    /// Counts a check if a producer was asked. Otherwise it does not count, and the topic rests.
    pub(super) fn count_check(&self, coordinates: &str, outcome: CheckOutcome) {
        let Ok(half) = coordinates.parse::<HalfMessage>() else { return };
        if outcome == CheckOutcome::NotSent {
            self.checks.pause(half.topic);
            return;
        }
        let count = move |_: &mut Tables, commit: &mut Commit| {
            // Without a record the transaction has ended meanwhile.
            if let Some(record) = commit.get(&half.check_key())? {
                half.add_check(half_message::decode_check(&record)?.0.saturating_add(1), commit);
            }
            Ok(())
        };
        // If it can't be stored now, the producer is asked once more.
        let _: Result<oneshot::Receiver<Result<(), ServiceError>>, _> = self.writer.change(count);
    }

    fn rules(&self) -> Rules {
        let interval = u64::try_from(self.config.transaction_check_interval.as_millis()).unwrap_or(u64::MAX);
        Rules { interval: interval.max(1), max: self.config.transaction_check_max }
    }

    fn checks_failed(&self, topic: &Topic, error: &ServiceError) {
        if self.store.failure().is_none() && error.kind != ServiceErrorKind::TopicNotFound {
            tracing::warn!(%error, "undecided half messages can't be checked now");
        }
        self.checks.failed(topic.id(), error);
    }

    fn checks_of(&self, topic: &Topic, taken: Taken) -> Vec<Delivery> {
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
                "half messages were discarded: nobody decided about them, and they had their last check"
            );
        }
        let checks = taken.checks.into_iter();
        checks.filter_map(|(half, record)| self.check(&topic, half, &record)).collect()
    }

    fn check(&self, topic: &str, half: HalfMessage, record: &Record) -> Option<Delivery> {
        let Ok(stored) = codec::decode(&record.message.body) else {
            let error = corrupt("half message");
            tracing::warn!(topic, %error, "a half message can't be checked");
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
            received_at: time(clock::now() as i64),
            invisible: Duration::ZERO,
            coordinates: half.to_string(),
        })
    }
}

/// Takes checks that are due: as many as one commit may move. Their next ones follow after the interval, so that none is
/// made twice after a restart.
fn take(
    topic: &Arc<Topic>,
    rules: Rules,
    tables: &mut Tables,
    commit: &mut Commit,
) -> Result<Taken, ServiceError> {
    topic.check_alive()?;
    let now = clock::monotonic();
    let known = tables.checks.watched.lock().topics.get(&topic.id()).map(|known| (known.from, known.review));
    let (mut from, mut review) = known.unwrap_or_default();
    let mut next = Next::Never;
    let mut due = Vec::new();
    let log = commit.log.clone();
    let range = keys::check(topic.id(), from, 0)..=keys::check(topic.id(), u64::MAX, u64::MAX);
    for entry in log.range(range) {
        let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
        let (check_at, sequence) = keys::check_parts(&key).ok_or_else(|| corrupt("check key"))?;
        if check_at > now || due.len() >= MAX_AT_ONCE || commit.is_full() {
            next = Next::At(check_at);
            break;
        }
        from = check_at;
        let half = HalfMessage { topic: topic.id(), sequence, check_at };
        due.push((half, half_message::decode_check(&value)?.0, commit.get(&half.key())?));
    }
    let mut taken = Taken { checks: Vec::new(), discarded: Vec::new() };
    for (half, checks, record) in due {
        commit.remove(&half.check_key());
        // Without a record the transaction has ended. What can't be decoded is not checked.
        let Some(Ok(record)) = record.map(Record::decode) else { continue };
        if checks >= rules.max {
            half.remove(commit);
            taken.discarded.push(record);
        } else {
            let half = HalfMessage { check_at: now.saturating_add(rules.interval), ..half };
            half.add_check(checks, commit);
            taken.checks.push((half, record));
        }
    }
    if let Some(reviewed) = review {
        let is_known = |first: u64| matches!(next, Next::At(at) if at <= first);
        let (rest, first) = bring_forward(topic.id(), reviewed.max(now), now, commit)?;
        if let Some(first) = first.filter(|first| !is_known(*first)) {
            next = Next::At(first);
        }
        review = rest;
    }
    // Before the commit, so that it does not replace an earlier time that is noted after it.
    tables.checks.update(topic.id(), |watched| {
        (watched.from, watched.next, watched.review) = (from, next, review);
    });
    Ok(taken)
}

/// Sets the checks after `from` that are further ahead than when they were set, as the clock was set back since, to times
/// that are not. Returns the time of the check from which on the others are still to be reviewed, and when there is
/// something to do next.
fn bring_forward(
    topic: u32,
    from: u64,
    now: u64,
    commit: &mut Commit,
) -> Result<(Option<u64>, Option<u64>), ServiceError> {
    let mut first: Option<u64> = None;
    let log = commit.log.clone();
    let later = keys::check(topic, from.saturating_add(1), 0)..=keys::check(topic, u64::MAX, u64::MAX);
    for (looked_at, entry) in log.range(later).enumerate() {
        let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
        let (check_at, sequence) = keys::check_parts(&key).ok_or_else(|| corrupt("check key"))?;
        if looked_at >= MAX_REVIEWED {
            return Ok((Some(check_at.saturating_sub(1)), Some(now)));
        }
        let (checks, Some(ahead)) = half_message::decode_check(&value)? else { continue };
        let latest = now.saturating_add(ahead);
        if check_at > latest {
            commit.remove(&key);
            HalfMessage { topic, sequence, check_at: latest }.add_check(checks, commit);
            first = Some(first.map_or(latest, |first| first.min(latest)));
        }
    }
    Ok((None, first))
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
        let (topic, rules) = (broker.catalog.topic(topic).expect("a topic"), broker.rules());
        let take = move |tables: &mut Tables, commit: &mut Commit| take(&topic, rules, tables, commit);
        let taken = broker.change(Instant::now() + Duration::from_secs(30), take).await.expect("checks");
        taken.checks.len()
    }

    #[tokio::test]
    async fn what_is_taken_at_once_is_bounded_by_bytes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        for id in ["a", "b", "c", "d", "e"] {
            store(&broker, "topic", id, 3 << 20).await;
        }
        broker.watch_half_messages(&["topic".to_owned()]);
        for expected in [2, 2, 1, 0] {
            assert_eq!(taken(&broker, "topic").await, expected);
        }
        // None is left in memory but the times of the topics.
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
    async fn a_check_that_was_taken_is_not_lost_if_the_caller_gives_up() {
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
    async fn a_check_comes_in_time_though_the_clock_was_set_back_before_the_start() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        for id in ["a", "b"] {
            store(&broker, "topic", id, 1).await;
        }
        // As they were stored by a clock that was an hour ahead.
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
