//! Gathers the statistics of topics, groups and the disk, which have to be queried from the backend.
//!
//! Concurrent scrapes share one gathering. The next gathering begins only after a pause that is a multiple of its
//! length, so that scrapes never keep the broker busy. Until then, scrapes return the result of the last gathering.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cap::{SeriesCap, SeriesValue};
use crate::error::{Error, ErrorKind};
use crate::processor::Processor;
use crate::service::{DiskStats, GroupTopicStats, TopicStats, names};

/// How long a scrape waits for a gathering in progress.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// The shortest pause between two gatherings: this multiple of the length of the last one, and at least `MIN_PAUSE`.
const PAUSE_FACTOR: u32 = 9;
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The number of failed topics, or groups, after which the others are not queried.
const MAX_FAILURES: usize = 3;

/// Gathers statistics when there are scrapes.
pub(super) struct Gatherer {
    processor: Arc<Processor>,
    state: Mutex<State>,
    latest: watch::Sender<Arc<Gathered>>,
}

struct State {
    running: bool,
    /// When the next gathering may begin. `None` before the first one.
    not_before: Option<Instant>,
    topics: SeriesCap<1>,
    dead_letters: SeriesCap<1>,
    groups: SeriesCap<2>,
}

/// The result of a gathering. A part that could not be queried is empty.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// When the gathering ended, and how long it took. `None` before the first one.
    pub(super) finished: Option<(SystemTime, Duration)>,
    pub(super) topics: Vec<([String; 1], TopicLine)>,
    /// Dead letters by group.
    pub(super) dead_letters: Vec<([String; 1], TopicLine)>,
    /// By group and topic.
    pub(super) groups: Vec<([String; 2], GroupLine)>,
    pub(super) disk: Option<DiskStats>,
    /// The names of the parts that could not be queried: `topics`, `groups` or `disk`.
    pub(super) failed: Vec<&'static str>,
}

/// The statistics of a topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TopicLine {
    pub(super) messages: i64,
    /// Messages stored since the topic was created.
    pub(super) stored: i64,
    pub(super) bytes: Option<u64>,
    pub(super) oldest: Option<SystemTime>,
}

/// The progress of a group in a topic.
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
            topics: SeriesCap::new(max_series),
            dead_letters: SeriesCap::new(max_series),
            groups: SeriesCap::new(max_series),
        };
        Arc::new(Self { processor, state: Mutex::new(state), latest: watch::Sender::default() })
    }

    /// The newest result. Begins a gathering if the pause since the last one is over, and waits for it for up to
    /// [`MAX_WAIT`].
    pub(super) async fn latest(self: &Arc<Self>) -> Arc<Gathered> {
        let mut latest = self.latest.subscribe();
        if self.begin() {
            let this = self.clone();
            // It continues if the scrape is cancelled.
            tokio::spawn(async move { this.run().await });
        }
        if self.state.lock().running {
            let _ = timeout(MAX_WAIT, latest.changed()).await;
        }
        latest.borrow().clone()
    }

    /// Decides whether the caller shall run a gathering now. None begins during a shutdown.
    fn begin(&self) -> bool {
        if self.processor.draining().is_cancelled() {
            return false;
        }
        let mut state = self.state.lock();
        let begins = !state.running && state.not_before.is_none_or(|at| at <= Instant::now());
        state.running |= begins;
        begins
    }

    async fn run(&self) {
        // Resets `running` even if this panics or is cancelled.
        let _running = ResetRunning(self);
        let draining = self.processor.draining().clone();
        draining.run_until_cancelled(self.gather()).await;
    }

    async fn gather(&self) {
        let started = Instant::now();
        let mut failed = Vec::new();
        let mut part = |name: &'static str, error: &Error| {
            if error.kind != ErrorKind::NotImplemented {
                tracing::debug!(%error, "failed to gather the metrics of {name}");
                failed.push(name);
            }
        };
        let mut lines = Lines::default();
        if let Err(error) = self.add_topics(&mut lines).await {
            part("topics", &error);
        }
        if let Err(error) = self.add_groups(&mut lines).await {
            part("groups", &error);
        }
        let disk = self.processor.disk_stats().await.inspect_err(|error| part("disk", error)).ok();
        let took = started.elapsed();
        let mut state = self.state.lock();
        state.not_before = Some(Instant::now() + (took * PAUSE_FACTOR).max(MIN_PAUSE));
        let gathered = Gathered {
            finished: Some((SystemTime::now(), took)),
            topics: state.topics.apply(lines.topics),
            dead_letters: state.dead_letters.apply(lines.dead_letters),
            groups: state.groups.apply(lines.groups),
            disk,
            failed,
        };
        // This comes before the scrapes are woken, so that none of them waits for another gathering.
        state.running = false;
        drop(state);
        self.latest.send_replace(Arc::new(gathered));
    }

    /// Adds the lines of all topics.
    ///
    /// # Errors
    /// The first failure. The lines of other topics may be there.
    async fn add_topics(&self, lines: &mut Lines) -> Result<(), Error> {
        let mut names: Vec<_> = self.processor.topics().await?.into_iter().map(|topic| topic.name).collect();
        names.dedup();
        let mut failures = Failures::default();
        for name in names {
            match self.processor.topic_stats(&name, None).await {
                Ok(stats) => {
                    let line = TopicLine::from(&stats);
                    match names::group_of_dead_letters(&name) {
                        Some(group) => lines.dead_letters.push(([group.to_owned()], line)),
                        None => lines.topics.push(([name], line)),
                    }
                }
                // The topic was deleted after it was listed.
                Err(error) if error.kind == ErrorKind::TopicNotFound => {}
                Err(error) => failures.add(error)?,
            }
        }
        failures.first()
    }

    /// Adds the lines of all groups.
    ///
    /// # Errors
    /// The first failure. The lines of other groups may be there.
    async fn add_groups(&self, lines: &mut Lines) -> Result<(), Error> {
        let mut failures = Failures::default();
        for group in self.processor.groups().await? {
            match self.processor.group_stats(&group.name, None).await {
                Ok(stats) => lines.groups.extend(stats.topics.iter().map(|stats| {
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

/// The lines that a gathering has collected so far.
#[derive(Default)]
struct Lines {
    topics: Vec<([String; 1], TopicLine)>,
    dead_letters: Vec<([String; 1], TopicLine)>,
    groups: Vec<([String; 2], GroupLine)>,
}

/// The failures of a gathering. One failed topic does not hide the others, but after [`MAX_FAILURES`] the gathering
/// stops: a broker that does not answer is not queried for each of its topics.
#[derive(Default)]
struct Failures(Vec<Error>);

impl Failures {
    /// Adds a failure.
    ///
    /// # Errors
    /// The first failure, if there are too many.
    fn add(&mut self, error: Error) -> Result<(), Error> {
        self.0.push(error);
        if self.0.len() < MAX_FAILURES { Ok(()) } else { Err(self.0.swap_remove(0)) }
    }

    /// Returns the first failure as an error, if there is one.
    fn first(mut self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0.swap_remove(0)) }
    }
}

/// Marks the gathering as ended when dropped, and wakes the scrapes that wait for it.
struct ResetRunning<'a>(&'a Gatherer);

impl Drop for ResetRunning<'_> {
    fn drop(&mut self) {
        self.0.state.lock().running = false;
        self.0.latest.send_modify(|_| ());
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

impl SeriesValue for TopicLine {
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

impl SeriesValue for GroupLine {
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

/// The sum of the known values. `None` if neither is known.
fn sum<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

/// The earlier of the known times. `None` if neither is known.
fn earlier(a: Option<SystemTime>, b: Option<SystemTime>) -> Option<SystemTime> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
