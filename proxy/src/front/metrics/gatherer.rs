//! What has to be asked for: topics, groups and the disk.
//!
//! Scrapes that come together share one gathering. The next one begins only after a pause that is long compared with it, so that
//! scrapes never keep the broker busy; until then, scrapes show what the last one has found.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cap::{Shown, Sum};
use crate::error::{Error, ErrorKind};
use crate::processor::Processor;
use crate::service::{DiskStats, GroupTopicStats, TopicStats, names};

/// How long a scrape waits for a gathering.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// The least time between the end of a gathering and the begin of the next one, as a multiple of how long it took, and
/// in all.
const PAUSE_FACTOR: u32 = 9;
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// So many topics, or groups, may fail before the others are left out.
const MAX_FAILURES: usize = 3;

/// Gathers when there are scrapes.
pub(super) struct Gatherer {
    processor: Arc<Processor>,
    state: Mutex<State>,
    found: watch::Sender<Arc<Gathered>>,
}

struct State {
    running: bool,
    /// When the next gathering may begin.
    not_before: Option<Instant>,
    topics: Shown<1>,
    letters: Shown<1>,
    groups: Shown<2>,
}

/// What was found. A part that could not be asked for is empty.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// When it was found, and how long that took. `None` if nothing was gathered yet.
    pub(super) finished: Option<(SystemTime, Duration)>,
    pub(super) topics: Vec<([String; 1], TopicLine)>,
    /// Dead letters by group.
    pub(super) letters: Vec<([String; 1], TopicLine)>,
    /// By group and topic.
    pub(super) groups: Vec<([String; 2], GroupLine)>,
    pub(super) disk: Option<DiskStats>,
    /// The parts that failed.
    pub(super) failed: Vec<&'static str>,
}

/// What a topic holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TopicLine {
    pub(super) messages: i64,
    /// Messages that were ever stored.
    pub(super) stored: i64,
    pub(super) bytes: Option<u64>,
    pub(super) oldest: Option<SystemTime>,
}

/// How far a group has got in a topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct GroupLine {
    pub(super) lag: i64,
    pub(super) in_flight: Option<i64>,
    pub(super) retry: Option<i64>,
    pub(super) blocked: Option<i64>,
    pub(super) oldest: Option<SystemTime>,
}

impl Gatherer {
    pub(super) fn new(processor: Arc<Processor>, max_series: usize) -> Arc<Self> {
        let state = State {
            running: false,
            not_before: None,
            topics: Shown::new(max_series),
            letters: Shown::new(max_series),
            groups: Shown::new(max_series),
        };
        Arc::new(Self { processor, state: Mutex::new(state), found: watch::Sender::default() })
    }

    /// What is known now. Gathers if it may have changed.
    pub(super) async fn now(self: &Arc<Self>) -> Arc<Gathered> {
        let mut found = self.found.subscribe();
        if self.begin() {
            let this = self.clone();
            // It goes on if the scrape gives up.
            tokio::spawn(async move { this.run().await });
        }
        if self.state.lock().running {
            let _ = timeout(MAX_WAIT, found.changed()).await;
        }
        found.borrow().clone()
    }

    fn begin(&self) -> bool {
        let mut state = self.state.lock();
        let begins = !state.running && state.not_before.is_none_or(|at| at <= Instant::now());
        state.running |= begins;
        begins
    }

    async fn run(&self) {
        // Also if it panics or is cancelled.
        let _running = Running(self);
        let draining = self.processor.draining().clone();
        draining.run_until_cancelled(self.gather()).await;
    }

    async fn gather(&self) {
        let started = Instant::now();
        let mut failed = Vec::new();
        let mut part = |name: &'static str, error: &Error| {
            if error.kind != ErrorKind::NotImplemented {
                tracing::debug!(%error, "metrics of {name} can't be gathered");
                failed.push(name);
            }
        };
        let mut found = Found::default();
        if let Err(error) = self.topics(&mut found).await {
            part("topics", &error);
        }
        if let Err(error) = self.groups(&mut found).await {
            part("groups", &error);
        }
        let disk = self.processor.disk_stats().await.inspect_err(|error| part("disk", error)).ok();
        let took = started.elapsed();
        let mut state = self.state.lock();
        state.not_before = Some(Instant::now() + (took * PAUSE_FACTOR).max(MIN_PAUSE));
        let gathered = Gathered {
            finished: Some((SystemTime::now(), took)),
            topics: state.topics.cap(found.topics),
            letters: state.letters.cap(found.letters),
            groups: state.groups.cap(found.groups),
            disk,
            failed,
        };
        // Before the scrapes are woken, so that none of them waits for another gathering.
        state.running = false;
        drop(state);
        self.found.send_replace(Arc::new(gathered));
    }

    /// Adds the topics. Fails if some are missing.
    async fn topics(&self, found: &mut Found) -> Result<(), Error> {
        let mut names: Vec<_> = self.processor.topics().await?.into_iter().map(|topic| topic.name).collect();
        names.dedup();
        let mut failures = Failures::default();
        for name in names {
            match self.processor.topic_stats(&name, None).await {
                Ok(stats) => {
                    let line = TopicLine::from(&stats);
                    match names::group_of_dead_letters(&name) {
                        Some(group) => found.letters.push(([group.to_owned()], line)),
                        None => found.topics.push(([name], line)),
                    }
                }
                // It was deleted meanwhile.
                Err(error) if error.kind == ErrorKind::TopicNotFound => {}
                Err(error) => failures.add(error)?,
            }
        }
        failures.first()
    }

    /// Adds the groups. Fails if some are missing.
    async fn groups(&self, found: &mut Found) -> Result<(), Error> {
        let mut failures = Failures::default();
        for group in self.processor.groups().await? {
            match self.processor.group_stats(&group.name, None).await {
                Ok(stats) => found.groups.extend(stats.topics.iter().map(|stats| {
                    let names = [group.name.clone(), stats.topic.clone()];
                    (names, GroupLine::from(stats))
                })),
                Err(error) if error.kind == ErrorKind::GroupNotFound => {}
                Err(error) => failures.add(error)?,
            }
        }
        failures.first()
    }
}

/// What a gathering has found so far.
#[derive(Default)]
struct Found {
    topics: Vec<([String; 1], TopicLine)>,
    letters: Vec<([String; 1], TopicLine)>,
    groups: Vec<([String; 2], GroupLine)>,
}

/// What could not be asked for. One broken topic does not hide the others, but a broker that does not answer is not asked
/// for each of its topics.
#[derive(Default)]
struct Failures(Vec<Error>);

impl Failures {
    /// Notes a failure.
    ///
    /// # Errors
    /// The first one, if there are too many.
    fn add(&mut self, error: Error) -> Result<(), Error> {
        self.0.push(error);
        if self.0.len() < MAX_FAILURES { Ok(()) } else { Err(self.0.swap_remove(0)) }
    }

    fn first(mut self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0.swap_remove(0)) }
    }
}

struct Running<'a>(&'a Gatherer);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state.lock().running = false;
    }
}

impl From<&TopicStats> for TopicLine {
    fn from(stats: &TopicStats) -> Self {
        Self {
            messages: stats.queues.iter().map(|queue| queue.next - queue.first).sum(),
            stored: stats.queues.iter().map(|queue| queue.next).sum(),
            bytes: stats.bytes.map(|bytes| bytes.count),
            oldest: stats.queues.iter().filter_map(|queue| queue.oldest).min(),
        }
    }
}

impl From<&GroupTopicStats> for GroupLine {
    fn from(stats: &GroupTopicStats) -> Self {
        let queues = || stats.queues.iter();
        Self {
            lag: queues().map(|queue| queue.lag).sum(),
            in_flight: queues().map(|queue| queue.in_flight).sum(),
            retry: queues().map(|queue| queue.retry).sum(),
            blocked: queues().map(|queue| queue.blocked).sum(),
            oldest: queues().filter_map(|queue| queue.oldest).min(),
        }
    }
}

impl Sum for TopicLine {
    fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.stored += other.stored;
        self.bytes = sum(self.bytes, other.bytes);
        self.oldest = earlier(self.oldest, other.oldest);
    }

    fn weight(&self) -> i64 {
        self.messages
    }
}

impl Sum for GroupLine {
    fn add(&mut self, other: &Self) {
        self.lag += other.lag;
        self.in_flight = sum(self.in_flight, other.in_flight);
        self.retry = sum(self.retry, other.retry);
        self.blocked = sum(self.blocked, other.blocked);
        self.oldest = earlier(self.oldest, other.oldest);
    }

    fn weight(&self) -> i64 {
        self.lag
    }
}

/// A value that is not known counts as none.
fn sum<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

fn earlier(a: Option<SystemTime>, b: Option<SystemTime>) -> Option<SystemTime> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
