//! Who asks, from where, and until when.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much before the client gives up a wait ends, so that the answer is there in time.
const ANSWER_TIME: Duration = Duration::from_millis(40);

/// What the rules know about a request besides its content. A front end fills it from what its protocol
/// carries; headers that only the server may set are never taken from the client.
#[derive(Clone, Debug)]
pub struct Context {
    /// The client's own name for itself; never blank.
    pub client_id: String,
    /// The version the client claims, such as `5.0.7`; may be empty.
    pub client_version: String,
    /// The namespace the client works in; mostly empty.
    pub namespace: String,
    /// The client's address, `ip:port`, by the socket or by a PROXY protocol header.
    pub peer: Arc<str>,
    /// When the request came in.
    pub received: Instant,
    /// When the client stops waiting, if it said so.
    pub deadline: Option<Instant>,
}

impl Context {
    /// The time the client still waits, if it said so.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// When a wait that begins now ends: after so long, but in time for the answer to reach the client.
    #[must_use]
    pub fn end_of_wait(&self, wait: Duration) -> Instant {
        let ours = Instant::now() + wait;
        let theirs = self.deadline.and_then(|deadline| deadline.checked_sub(ANSWER_TIME));
        theirs.map_or(ours, |theirs| theirs.min(ours))
    }

    /// When to stop working on this request: the client's deadline, or this long after it came in.
    #[must_use]
    pub fn deadline_within(&self, longest: Duration) -> Instant {
        let ours = self.received + longest;
        self.deadline.map_or(ours, |theirs| theirs.min(ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_cut_only_by_the_clients_deadline() {
        let now = Instant::now();
        let context = |deadline| Context {
            client_id: "c".to_owned(),
            client_version: String::new(),
            namespace: String::new(),
            peer: "p".into(),
            received: now,
            deadline,
        };
        let wait = Duration::from_secs(10);
        for deadline in [None, Some(now + wait * 2)] {
            assert!(context(deadline).end_of_wait(wait) >= now + wait);
        }
        assert_eq!(context(Some(now + wait)).end_of_wait(wait), now + wait - ANSWER_TIME);
    }
}
