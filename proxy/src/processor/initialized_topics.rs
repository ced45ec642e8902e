//! Remembers in which dead-letter topics the resend group was initialized.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a topic is remembered as initialized, and how many topics are remembered at most.
const INITIALIZED_LIFETIME: Duration = Duration::from_secs(60);
const MAX_INITIALIZED: usize = 1000;

/// The dead-letter topics in which the resend group was initialized recently. Checking this again costs a call for each
/// queue.
#[derive(Default)]
pub(super) struct InitializedTopics(Mutex<HashMap<String, Instant>>);

impl InitializedTopics {
    /// Whether the group was initialized in a topic recently.
    pub(super) fn contains(&self, topic: &str) -> bool {
        self.0.lock().get(topic).is_some_and(|since| since.elapsed() < INITIALIZED_LIFETIME)
    }

    /// Notes that the group is initialized in a topic.
    pub(super) fn insert(&self, topic: &str) {
        let mut initialized = self.0.lock();
        if initialized.len() >= MAX_INITIALIZED {
            initialized.clear();
        }
        initialized.insert(topic.to_owned(), Instant::now());
    }
}
