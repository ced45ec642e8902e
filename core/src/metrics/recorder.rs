//! The counters of one client.
//!
//! Callers look up the series of a topic once and keep it, so that counting a message takes a few atomic additions and
//! no allocation.

mod snapshot;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Mutex, RwLock};

use super::histogram::{AtomicHistogram, Bounds};
use crate::{error::ErrorKind, interceptor::Settlement};

/// The same buckets as in Apache's clients.
const SEND_COST_TIME: Bounds = [1.0, 5.0, 10.0, 20.0, 50.0, 200.0, 500.0];
const DELIVERY_LATENCY: Bounds = SEND_COST_TIME;
const AWAIT_TIME: Bounds = [1.0, 5.0, 20.0, 100.0, 1_000.0, 5_000.0, 10_000.0];
const PROCESS_TIME: Bounds = [1.0, 5.0, 10.0, 100.0, 1_000.0, 10_000.0, 60_000.0];

/// How many topics of producers, and how many pairs of group and topic of consumers, have their own series.
const MAX_SERIES: usize = 1_000;
/// The label of the series that counts all further topics. No topic can have this name.
const OTHER: &str = "(other)";

/// The counters of one client.
#[derive(Debug)]
pub(crate) struct Recorder {
    since: SystemTime,
    sends: RwLock<HashMap<String, Arc<SendSeries>>>,
    /// By group, then by topic.
    consumes: RwLock<HashMap<String, HashMap<String, Arc<ConsumeSeries>>>>,
    errors: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    retries: Mutex<BTreeMap<&'static str, u64>>,
    connections_opened: AtomicU64,
}

/// The counters of the sends to one topic.
#[derive(Debug)]
pub(crate) struct SendSeries {
    /// By status.
    cost_time: [AtomicHistogram; 2],
}

/// The counters of one group in one topic.
#[derive(Debug)]
pub(crate) struct ConsumeSeries {
    delivery_latency: AtomicHistogram,
    await_time: AtomicHistogram,
    process_time: [AtomicHistogram; 2],
    cached_messages: AtomicU64,
    cached_bytes: AtomicU64,
    received: AtomicU64,
    /// By operation, then by status.
    settled: [[AtomicU64; 2]; OPERATIONS.len()],
}

/// The names of the operations in the field `settled` of [`ConsumeSeries`].
const OPERATIONS: [&str; 4] = ["ack", "nack", "change_invisible", "dead_letter"];

impl SendSeries {
    fn new() -> Self {
        Self { cost_time: [(); 2].map(|()| AtomicHistogram::new(&SEND_COST_TIME)) }
    }

    /// Counts a send whose result came after `elapsed`.
    pub(crate) fn count_send(&self, elapsed: Duration, success: bool) {
        self.cost_time[usize::from(!success)].record(elapsed);
    }
}

impl ConsumeSeries {
    fn new() -> Self {
        Self {
            delivery_latency: AtomicHistogram::new(&DELIVERY_LATENCY),
            await_time: AtomicHistogram::new(&AWAIT_TIME),
            process_time: [(); 2].map(|()| AtomicHistogram::new(&PROCESS_TIME)),
            cached_messages: AtomicU64::new(0),
            cached_bytes: AtomicU64::new(0),
            received: AtomicU64::new(0),
            settled: Default::default(),
        }
    }

    /// Counts messages that arrived `latency` after the server had delivered them.
    pub(crate) fn count_received(&self, messages: usize, latency: Option<Duration>) {
        self.received.fetch_add(messages as u64, Ordering::Relaxed);
        if let Some(latency) = latency {
            (0..messages).for_each(|_| self.delivery_latency.record(latency));
        }
    }

    /// Counts the result of settling a delivery, if the application settled it.
    pub(crate) fn count_settled(&self, settlement: Settlement, success: bool) {
        let operation = match settlement {
            Settlement::Ack => 0,
            Settlement::Retry(_) => 1,
            Settlement::ChangeInvisible(_) => 2,
            Settlement::DeadLetter => 3,
            Settlement::Renewal(_) | Settlement::GiveBack(_) => return,
        };
        self.settled[operation][usize::from(!success)].fetch_add(1, Ordering::Relaxed);
    }
}

/// A message in the cache of a push consumer. It is counted as cached until this is dropped.
#[derive(Debug)]
pub(crate) struct CachedMessage {
    series: Arc<ConsumeSeries>,
    bytes: usize,
    /// When the message arrived, its handler started, or its handler ended, whichever was last.
    since: Instant,
}

impl CachedMessage {
    /// Counts a message with a body of `bytes` that has just arrived.
    pub(crate) fn new(series: Arc<ConsumeSeries>, bytes: usize) -> Self {
        series.cached_messages.fetch_add(1, Ordering::Relaxed);
        series.cached_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Self { series, bytes, since: Instant::now() }
    }

    /// Records that the handler starts at `now`.
    pub(crate) fn handler_started(&mut self, now: Instant) {
        self.series.await_time.record(now.saturating_duration_since(self.since));
        self.since = now;
    }

    /// Records that the handler ended at `now`.
    pub(crate) fn handler_ended(&mut self, now: Instant, success: bool) {
        let elapsed = now.saturating_duration_since(self.since);
        self.series.process_time[usize::from(!success)].record(elapsed);
        self.since = now;
    }
}

impl Drop for CachedMessage {
    fn drop(&mut self) {
        self.series.cached_messages.fetch_sub(1, Ordering::Relaxed);
        self.series.cached_bytes.fetch_sub(self.bytes as u64, Ordering::Relaxed);
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            since: SystemTime::now(),
            sends: RwLock::default(),
            consumes: RwLock::default(),
            errors: Mutex::default(),
            retries: Mutex::default(),
            connections_opened: AtomicU64::new(0),
        }
    }
}

impl Recorder {
    /// The series of the sends to `topic`.
    pub(crate) fn sends(&self, topic: &str) -> Arc<SendSeries> {
        if let Some(series) = self.sends.read().get(topic) {
            return series.clone();
        }
        let mut sends = self.sends.write();
        let topic = if sends.len() < MAX_SERIES { topic } else { OTHER };
        sends.entry(topic.to_owned()).or_insert_with(|| Arc::new(SendSeries::new())).clone()
    }

    /// The series of `group` in `topic`.
    pub(crate) fn consumes(&self, group: &str, topic: &str) -> Arc<ConsumeSeries> {
        if let Some(series) = self.consumes.read().get(group).and_then(|topics| topics.get(topic)) {
            return series.clone();
        }
        let mut consumes = self.consumes.write();
        let count: usize = consumes.values().map(HashMap::len).sum();
        let (group, topic) = if count < MAX_SERIES { (group, topic) } else { (OTHER, OTHER) };
        let topics = consumes.entry(group.to_owned()).or_default();
        topics.entry(topic.to_owned()).or_insert_with(|| Arc::new(ConsumeSeries::new())).clone()
    }

    /// Counts an operation that failed after all retries.
    pub(crate) fn count_failure(&self, operation: &'static str, kind: ErrorKind) {
        *self.errors.lock().entry((operation, kind.name())).or_default() += 1;
    }

    /// Counts a request that is sent again.
    pub(crate) fn count_retry(&self, operation: &'static str) {
        *self.retries.lock().entry(operation).or_default() += 1;
    }

    /// Counts an opened connection.
    pub(crate) fn count_connection(&self) {
        self.connections_opened.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::MetricValue;

    #[test]
    fn a_snapshot_has_a_point_for_each_set_of_labels() {
        let recorder = Recorder::default();
        recorder.sends("orders").count_send(Duration::from_millis(3), true);
        recorder.sends("orders").count_send(Duration::from_millis(3), true);
        recorder.sends("orders").count_send(Duration::from_secs(1), false);
        let series = recorder.consumes("billing", "orders");
        series.count_received(2, Some(Duration::from_millis(7)));
        drop(CachedMessage::new(series.clone(), 10));
        let mut cached = CachedMessage::new(series.clone(), 5);
        cached.handler_started(Instant::now());
        cached.handler_ended(Instant::now(), false);
        series.count_settled(Settlement::Ack, true);
        recorder.count_failure("send", ErrorKind::Timeout);
        recorder.count_retry("send");
        recorder.count_connection();
        let metrics = recorder.snapshot("me", 4, 1);

        let total = |name| metrics.get(name).unwrap().total();
        assert_eq!(total("rocketmq_send_cost_time"), 3);
        let failed = metrics.get("rocketmq_send_cost_time").unwrap();
        let failed = failed.point(&[("topic", "orders"), ("invocation_status", "failure")]).unwrap();
        assert_eq!(failed.label("client_id"), Some("me"));
        let MetricValue::Histogram(histogram) = &failed.value else { panic!("no histogram") };
        assert_eq!((histogram.counts.as_slice(), histogram.sum), (&[0, 0, 0, 0, 0, 0, 0, 1][..], 1000.0));
        for (name, expected) in [
            ("rocketmq_delivery_latency", 2),
            ("rocketmq_await_time", 1),
            ("rocketmq_process_time", 1),
            ("rocketmq_consumer_cached_messages", 1),
            ("rocketmq_consumer_cached_bytes", 5),
            ("rocketmq_client_received_messages", 2),
            ("rocketmq_client_settled_messages", 1),
            ("rocketmq_client_errors", 1),
            ("rocketmq_client_retries", 1),
            ("rocketmq_client_in_flight", 4),
            ("rocketmq_client_connections", 1),
            ("rocketmq_client_connections_opened", 1),
        ] {
            assert_eq!(total(name), expected, "{name}");
        }
        let settled = &metrics.get("rocketmq_client_settled_messages").unwrap().points[0];
        let names: Vec<_> = settled.labels.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["topic", "consumer_group", "operation", "invocation_status", "client_id"]);
    }

    #[test]
    fn topics_beyond_the_limit_are_counted_together() {
        let recorder = Recorder::default();
        for at in 0..2 * MAX_SERIES {
            recorder.sends(&format!("topic{at}")).count_send(Duration::ZERO, true);
            recorder.consumes(&format!("group{at}"), "topic").count_received(1, None);
        }
        let metrics = recorder.snapshot("me", 0, 0);
        for name in ["rocketmq_send_cost_time", "rocketmq_client_received_messages"] {
            let metric = metrics.get(name).unwrap();
            assert_eq!((metric.points.len(), metric.total()), (MAX_SERIES + 1, 2 * MAX_SERIES as u64));
            let rest = metric.point(&[("topic", OTHER)]).unwrap();
            assert_eq!(rest.value.total(), MAX_SERIES as u64);
        }
    }
}
