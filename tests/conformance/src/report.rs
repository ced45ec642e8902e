//! The events that a driver has reported: when the application's own code was called, and with what.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::pattern::{self, shortened};

/// Events that a case expects.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// A pattern; only events that match are counted.
    pub event: Value,
    /// Exactly so many.
    pub count: Option<usize>,
    /// So many or more.
    pub at_least: Option<usize>,
    /// So many or fewer.
    pub at_most: Option<usize>,
    /// A pattern for each of them, in the order in which they were reported.
    pub order: Option<Vec<Value>>,
    /// The counted `start` events: no more than so many handlers ran at the same time.
    pub together: Option<usize>,
}

/// The events of one driver, in order.
#[derive(Debug)]
pub struct Events {
    list: Mutex<Vec<Value>>,
    changed: watch::Sender<usize>,
}

impl Default for Events {
    fn default() -> Self {
        Self { list: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Events {
    /// Adds an event.
    pub fn add(&self, event: Value) {
        let mut list = self.lock();
        list.push(event);
        self.changed.send_replace(list.len());
    }

    /// Returns as soon as enough events fit.
    pub async fn wait(&self, wanted: &Report) {
        let ordered = wanted.order.as_ref().map(Vec::len);
        let enough = wanted.at_least.or(wanted.count).or(ordered).unwrap_or(1);
        let mut changed = self.changed.subscribe();
        while fitting(&self.lock(), wanted).len() < enough {
            // The sender lives as long as this: no error.
            let _ = changed.changed().await;
        }
    }

    /// Compares what was reported with what a case expects.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, wanted: &Report) -> Result<(), String> {
        let list = self.lock();
        let found = fitting(&list, wanted);
        let number = found.len();
        let counted = wanted.count.is_none_or(|count| number == count)
            && wanted.at_least.is_none_or(|least| number >= least)
            && wanted.at_most.is_none_or(|most| number <= most);
        if !counted {
            return Err(format!("{number} events fit {}; all: {}", wanted.event, shown(&list)));
        }
        if let Some(order) = &wanted.order {
            let found = Value::Array(found.iter().map(|at| list[*at].clone()).collect());
            pattern::check(&Value::Array(order.clone()), &found)
                .map_err(|why| format!("{why}\n  the events: {}", shortened(&found)))?;
        }
        let together = together(&list, &found);
        match wanted.together {
            Some(most) if together > most => {
                Err(format!("{together} handlers ran at the same time: {}", shown(&list)))
            }
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Value>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The places of the events that fit.
fn fitting(list: &[Value], wanted: &Report) -> Vec<usize> {
    let fits = |at: &usize| pattern::check(&wanted.event, &list[*at]).is_ok();
    (0..list.len()).filter(fits).collect()
}

/// How many of these starts had no end yet at the same time.
fn together(list: &[Value], starts: &[usize]) -> usize {
    let end = |start: usize| {
        let ends = |event: &Value| {
            event["event"] == "end"
                && event["handle"] == list[start]["handle"]
                && event["message_id"] == list[start]["message_id"]
        };
        (start..list.len()).find(|at| ends(&list[*at])).unwrap_or(list.len())
    };
    let running =
        |start: &usize| starts.iter().filter(|other| **other <= *start && end(**other) > *start).count();
    starts.iter().map(running).max().unwrap_or_default()
}

fn shown(list: &[Value]) -> String {
    shortened(&Value::Array(list.to_vec()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(yaml: &str) -> Report {
        serde_yaml_ng::from_str(yaml).unwrap()
    }

    #[tokio::test]
    async fn events_are_counted_in_order() {
        let events = Events::default();
        for (event, id) in [("start", 1), ("start", 2), ("end", 1), ("start", 3), ("end", 3), ("end", 2)] {
            events.add(json!({"event": event, "handle": "k1", "message_id": id}));
        }
        let all = "event: {event: start}\norder: [{message_id: 1}, {message_id: 2}, {message_id: 3}]";
        events.wait(&report(all)).await;
        assert_eq!(events.check(&report(all)), Ok(()));
        assert_eq!(events.check(&report("{event: {event: start}, together: 2, count: 3}")), Ok(()));
        for wrong in [
            "{event: {event: start}, together: 1}",
            "{event: {event: end}, count: 2}",
            "{event: {event: end}, order: [{message_id: 1}, {message_id: 2}, {message_id: 3}]}",
        ] {
            assert!(events.check(&report(wrong)).is_err(), "{wrong}");
        }
    }
}
