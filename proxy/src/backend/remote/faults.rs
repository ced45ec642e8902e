use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Which brokers to leave out for a while. A broker that fails or answers slowly is left out, and comes back
/// by itself: the longer it took, the longer it stays away (the steps of Apache's `MQFaultStrategy`).
#[derive(Default)]
pub(super) struct Faults {
    out_until: Mutex<HashMap<String, Instant>>,
}

/// Latency from which a broker stays away, and for how long.
const STEPS: [(Duration, Duration); 5] = [
    (Duration::from_millis(15_000), Duration::from_secs(30)),
    (Duration::from_millis(5_000), Duration::from_secs(10)),
    (Duration::from_millis(3_000), Duration::from_secs(6)),
    (Duration::from_millis(1_800), Duration::from_secs(5)),
    (Duration::from_millis(550), Duration::from_secs(2)),
];
const AFTER_FAILURE: Duration = Duration::from_secs(5);

impl Faults {
    /// Notes that a broker answered, and how long it took.
    pub(super) fn answered(&self, broker: &str, took: Duration) {
        let away = STEPS.iter().find(|(latency, _)| took >= *latency).map(|(_, away)| *away);
        let mut out = self.out_until.lock();
        match away {
            Some(away) => drop(out.insert(broker.to_owned(), Instant::now() + away)),
            None if out.is_empty() => {}
            None => drop(out.remove(broker)),
        }
    }

    /// Notes that a broker could not be asked or did not answer.
    pub(super) fn failed(&self, broker: &str) {
        tracing::warn!(broker, "left out for {AFTER_FAILURE:?}: it does not answer");
        self.out_until.lock().insert(broker.to_owned(), Instant::now() + AFTER_FAILURE);
    }

    /// Whether a broker should be left out now.
    pub(super) fn is_out(&self, broker: &str) -> bool {
        let out = self.out_until.lock();
        !out.is_empty() && out.get(broker).is_some_and(|until| Instant::now() < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_or_slow_broker_is_out_until_it_answers_quickly() {
        let faults = Faults::default();
        assert!(!faults.is_out("a"));
        faults.failed("a");
        assert!(faults.is_out("a") && !faults.is_out("b"));
        faults.answered("a", Duration::from_millis(3));
        assert!(!faults.is_out("a"));
        faults.answered("a", Duration::from_millis(600));
        assert!(faults.is_out("a"));
    }
}
