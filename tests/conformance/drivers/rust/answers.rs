//! What a scripted handler or checker does.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// Answers by tag; the n-th time that a message comes it gets the n-th one, and the last one repeats.
#[derive(Debug)]
pub(crate) struct Answers {
    by_tag: HashMap<String, Vec<Value>>,
    times: Mutex<HashMap<String, usize>>,
    released: watch::Sender<bool>,
    events: mpsc::UnboundedSender<Value>,
}

impl Answers {
    pub(crate) fn new(by_tag: HashMap<String, Vec<Value>>, events: mpsc::UnboundedSender<Value>) -> Self {
        Self { by_tag, times: Mutex::default(), released: watch::Sender::new(false), events }
    }

    /// The answer that is due, or null; `released` is the one of what hangs.
    pub(crate) async fn next(&self, tag: Option<&str>, message_id: &str, released: &str) -> Value {
        let answer = self.due(tag, message_id);
        if answer == "hang" {
            // The sender lives as long as this: no error.
            let _ = self.released.subscribe().wait_for(|released| *released).await;
            return json!(released);
        }
        answer
    }

    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    pub(crate) fn report(&self, event: Value) {
        // Nobody listens any more only at the end of the program.
        let _ = self.events.send(event);
    }

    fn due(&self, tag: Option<&str>, message_id: &str) -> Value {
        let listed = tag.and_then(|tag| self.by_tag.get(tag)).or_else(|| self.by_tag.get("*"));
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let time = times.entry(message_id.to_owned()).or_default();
        *time += 1;
        listed.and_then(|list| list.get(*time - 1).or_else(|| list.last())).cloned().unwrap_or_default()
    }
}
