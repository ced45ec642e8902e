//! All topics, and all groups, in a line each.

use std::time::{Duration, Instant, SystemTime};

use super::Processor;
use crate::error::{Error, ErrorKind};
use crate::service::{GroupStats, StoredBytes, TopicStats};

/// Topics or groups of one answer.
const MAX_LINES: usize = 500;
/// How long a call may take, apart from one topic or group.
const MAX_TIME: Duration = Duration::from_secs(1);

/// What a topic holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicSummary {
    /// Its name.
    pub name: String,
    /// How many queues it has.
    pub queues: usize,
    /// How many messages are in them.
    pub messages: i64,
    /// Their bytes, if the backend tells them.
    pub bytes: Option<StoredBytes>,
    /// Messages that were stored per second, over the last minute.
    pub rate_in: Option<f64>,
    /// When the first message was stored.
    pub oldest: Option<SystemTime>,
    /// When the last message was stored.
    pub newest: Option<SystemTime>,
    /// How many lite topics it has, if it is a LITE topic and the backend tells them.
    pub lite_topics: Option<u64>,
}

/// How far a group has got, in all topics together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupSummary {
    /// Its name.
    pub name: String,
    /// From how many topics it has received.
    pub topics: usize,
    /// Messages that are not settled.
    pub lag: i64,
    /// Deliveries under a lease, if the backend tells them.
    pub in_flight: Option<i64>,
    /// Messages that the next receive gets again.
    pub retry: Option<i64>,
    /// Messages that wait behind unsettled ones of their message group.
    pub blocked: Option<i64>,
    /// When the oldest unsettled message was stored.
    pub oldest: Option<SystemTime>,
    /// Messages that were delivered per second, over the last minute.
    pub rate_delivered: Option<f64>,
    /// Messages that were settled per second, over the last minute.
    pub rate_settled: Option<f64>,
    /// Whether there are more topics, or lite topics, than were looked at.
    pub truncated: bool,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// By name.
    pub lines: Vec<T>,
    /// The name after which the next call goes on. `None` if there are no others.
    pub next: Option<String>,
}

impl Processor {
    /// What the topics after this one hold, by name: as many as there is time for.
    ///
    /// # Errors
    /// `NotImplemented`, or the backend's failure.
    pub async fn topic_summaries(&self, after: Option<&str>) -> Result<Page<TopicSummary>, Error> {
        let names = self.topics().await?.into_iter().map(|topic| topic.name);
        let mut page = Lines::of(names, after);
        while let Some(name) = page.next() {
            match self.topic_stats(&name, None).await {
                Ok(stats) => page.add(TopicSummary::new(name, &stats)),
                // It was deleted meanwhile.
                Err(error) if error.kind == ErrorKind::TopicNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page.done())
    }

    /// How far the groups after this one have got, by name: as many as there is time for.
    ///
    /// # Errors
    /// `NotImplemented`, or the backend's failure.
    pub async fn group_summaries(&self, after: Option<&str>) -> Result<Page<GroupSummary>, Error> {
        let names = self.groups().await?.into_iter().map(|group| group.name);
        let mut page = Lines::of(names, after);
        while let Some(name) = page.next() {
            match self.group_stats(&name, None).await {
                Ok(stats) => page.add(GroupSummary::new(name, &stats)),
                Err(error) if error.kind == ErrorKind::GroupNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page.done())
    }
}

/// The lines of an answer, as long as there is time.
struct Lines<T> {
    names: std::vec::IntoIter<String>,
    last: Option<String>,
    lines: Vec<T>,
    started: Instant,
}

impl<T> Lines<T> {
    /// Lines for the names after this one.
    fn of(names: impl Iterator<Item = String>, after: Option<&str>) -> Self {
        let mut names: Vec<_> =
            names.filter(|name| after.is_none_or(|after| name.as_str() > after)).collect();
        names.sort();
        Self { names: names.into_iter(), last: None, lines: Vec::new(), started: Instant::now() }
    }

    /// The name of the next line. `None` if the answer is full, or there are no others.
    fn next(&mut self) -> Option<String> {
        if self.lines.len() >= MAX_LINES || (self.last.is_some() && self.started.elapsed() >= MAX_TIME) {
            return None;
        }
        let name = self.names.next()?;
        self.last = Some(name.clone());
        Some(name)
    }

    fn add(&mut self, line: T) {
        self.lines.push(line);
    }

    fn done(self) -> Page<T> {
        let has_more = self.names.len() > 0;
        Page { lines: self.lines, next: self.last.filter(|_| has_more) }
    }
}

impl TopicSummary {
    fn new(name: String, stats: &TopicStats) -> Self {
        Self {
            name,
            queues: stats.queues.len(),
            messages: stats.queues.iter().map(|queue| queue.next - queue.first).sum(),
            bytes: stats.bytes,
            rate_in: stats.rate_in,
            oldest: stats.queues.iter().filter_map(|queue| queue.oldest).min(),
            newest: stats.queues.iter().filter_map(|queue| queue.newest).max(),
            lite_topics: stats.lite_topics,
        }
    }
}

impl GroupSummary {
    fn new(name: String, stats: &GroupStats) -> Self {
        let queues = || stats.topics.iter().flat_map(|topic| &topic.queues);
        Self {
            name,
            topics: stats.topics.len(),
            lag: queues().map(|queue| queue.lag).sum(),
            in_flight: queues().map(|queue| queue.in_flight).sum(),
            retry: queues().map(|queue| queue.retry).sum(),
            blocked: queues().map(|queue| queue.blocked).sum(),
            oldest: queues().filter_map(|queue| queue.oldest).min(),
            rate_delivered: stats.topics.iter().map(|topic| topic.rate_delivered).sum(),
            rate_settled: stats.topics.iter().map(|topic| topic.rate_settled).sum(),
            truncated: stats.truncated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_goes_on_where_the_answer_before_has_ended() {
        let names = || (0..MAX_LINES + 1).map(|number| format!("{number:04}"));
        let (mut after, mut seen): (Option<String>, Vec<String>) = (None, Vec::new());
        loop {
            let mut lines = Lines::of(names(), after.as_deref());
            while let Some(name) = lines.next() {
                lines.add(name);
            }
            let page = lines.done();
            assert!(page.lines.len() <= MAX_LINES);
            seen.extend(page.lines);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, names().collect::<Vec<_>>());
    }
}
