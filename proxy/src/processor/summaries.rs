//! Lists all topics, or all groups, with a summary of each.

use std::time::{Duration, Instant, SystemTime};

use super::Processor;
use crate::error::{Error, ErrorKind};
use crate::service::{GroupStats, StoredBytes, TopicStats};

/// The maximum number of topics or groups in one answer.
const MAX_LINES: usize = 500;
/// The time after which a call ends. The last topic or group may exceed the limit.
const MAX_TIME: Duration = Duration::from_secs(1);

/// The summary of a topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicSummary {
    /// The topic's name.
    pub name: String,
    /// The number of queues.
    pub queues: usize,
    /// The number of stored messages.
    pub messages: i64,
    /// The bytes of stored messages, if the backend reports them.
    pub bytes: Option<StoredBytes>,
    /// Messages stored per second over the last minute, if the backend reports them.
    pub rate_in: Option<f64>,
    /// When the first message was stored; `None` if there is none.
    pub oldest: Option<SystemTime>,
    /// When the last message was stored; `None` if there is none.
    pub newest: Option<SystemTime>,
    /// The number of lite topics of a LITE topic, if the backend reports it.
    pub lite_topics: Option<u64>,
}

/// The summary of a group's progress in all topics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupSummary {
    /// The group's name.
    pub name: String,
    /// The number of topics from which the group has received.
    pub topics: usize,
    /// The number of unsettled messages.
    pub lag: i64,
    /// The number of deliveries under a lease, if the backend reports it.
    pub in_flight: Option<i64>,
    /// The number of messages that the next receive gets again, if the backend reports it.
    pub retry: Option<i64>,
    /// The number of messages that wait behind unsettled messages of their message group, if the backend reports it.
    pub blocked: Option<i64>,
    /// When the oldest unsettled message was stored; `None` if there is none.
    pub oldest: Option<SystemTime>,
    /// Messages delivered per second over the last minute, if the backend reports them.
    pub rate_delivered: Option<f64>,
    /// Messages settled per second over the last minute, if the backend reports them.
    pub rate_settled: Option<f64>,
    /// Whether topics or lite topics were left out because there are too many.
    pub truncated: bool,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The entries, sorted by name.
    pub lines: Vec<T>,
    /// The name after which the next call continues; `None` at the end of the list.
    pub next: Option<String>,
}

impl Processor {
    /// Summaries of the topics whose names come after `after`, sorted by name: as many as there is time for.
    ///
    /// # Errors
    /// `NotImplemented`, or the backend's failure.
    pub async fn topic_summaries(&self, after: Option<&str>) -> Result<Page<TopicSummary>, Error> {
        let names = self.topics().await?.into_iter().map(|topic| topic.name);
        let mut page = PageBuilder::new(names, after);
        while let Some(name) = page.next_name() {
            match self.topic_stats(&name, None).await {
                Ok(stats) => page.add(TopicSummary::new(name, &stats)),
                // The topic was deleted in the meantime.
                Err(error) if error.kind == ErrorKind::TopicNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page.finish())
    }

    /// Summaries of the groups whose names come after `after`, sorted by name: as many as there is time for.
    ///
    /// # Errors
    /// `NotImplemented`, or the backend's failure.
    pub async fn group_summaries(&self, after: Option<&str>) -> Result<Page<GroupSummary>, Error> {
        let names = self.groups().await?.into_iter().map(|group| group.name);
        let mut page = PageBuilder::new(names, after);
        while let Some(name) = page.next_name() {
            match self.group_stats(&name, None).await {
                Ok(stats) => page.add(GroupSummary::new(name, &stats)),
                // The group was deleted in the meantime.
                Err(error) if error.kind == ErrorKind::GroupNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page.finish())
    }
}

/// Builds a page within the limits of lines and time.
struct PageBuilder<T> {
    names: std::vec::IntoIter<String>,
    last: Option<String>,
    lines: Vec<T>,
    started: Instant,
}

impl<T> PageBuilder<T> {
    /// Begins a page for the names that come after `after`.
    fn new(names: impl Iterator<Item = String>, after: Option<&str>) -> Self {
        let mut names: Vec<_> =
            names.filter(|name| after.is_none_or(|after| name.as_str() > after)).collect();
        names.sort();
        Self { names: names.into_iter(), last: None, lines: Vec::new(), started: Instant::now() }
    }

    /// The name of the next line; `None` if the page is full or there are no more names.
    fn next_name(&mut self) -> Option<String> {
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

    fn finish(self) -> Page<T> {
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
            rate_delivered: total_rate(stats.topics.iter().map(|topic| topic.rate_delivered)),
            rate_settled: total_rate(stats.topics.iter().map(|topic| topic.rate_settled)),
            truncated: stats.truncated,
        }
    }
}

/// The sum of rates; `None` if one of them is not known. `Iterator::sum` would return -0.0 for no rates.
fn total_rate(mut rates: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    rates.try_fold(0.0, |total, rate| Some(total + rate?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_has_received_nothing_has_a_rate_of_zero() {
        let group = GroupSummary::new("g".to_owned(), &GroupStats::default());
        // Also compares the sign of zero, which reports show.
        for rate in [group.rate_delivered, group.rate_settled] {
            assert_eq!(rate.map(|rate| rate.to_string()).as_deref(), Some("0"));
        }
    }

    #[test]
    fn a_total_is_known_only_if_all_rates_are() {
        assert_eq!(total_rate([Some(1.5), Some(2.0)].into_iter()), Some(3.5));
        assert_eq!(total_rate([Some(1.5), None].into_iter()), None);
    }

    #[test]
    fn a_page_continues_where_the_previous_one_has_ended() {
        let names = || (0..MAX_LINES + 1).map(|number| format!("{number:04}"));
        let (mut after, mut seen): (Option<String>, Vec<String>) = (None, Vec::new());
        loop {
            let mut builder = PageBuilder::new(names(), after.as_deref());
            while let Some(name) = builder.next_name() {
                builder.add(name);
            }
            let page = builder.finish();
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
