use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Which brokers to avoid. A broker that fails or answers slowly is avoided for a while: the slower the answer, the longer
/// (the steps of Apache's `MQFaultStrategy`).
#[derive(Default)]
pub(super) struct CircuitBreaker {
    avoided_until: Mutex<HashMap<String, Instant>>,
}

/// From which latency on a broker is avoided, and for how long.
const STEPS: [(Duration, Duration); 5] = [
    (Duration::from_millis(15_000), Duration::from_secs(30)),
    (Duration::from_millis(5_000), Duration::from_secs(10)),
    (Duration::from_millis(3_000), Duration::from_secs(6)),
    (Duration::from_millis(1_800), Duration::from_secs(5)),
    (Duration::from_millis(550), Duration::from_secs(2)),
];
const AFTER_FAILURE: Duration = Duration::from_secs(5);

impl CircuitBreaker {
    /// Notes that a broker answered, and how long it took.
    pub(super) fn answered(&self, broker: &str, took: Duration) {
        let away = STEPS.iter().find(|(latency, _)| took >= *latency).map(|(_, away)| *away);
        let mut out = self.avoided_until.lock();
        match away {
            Some(away) => drop(out.insert(broker.to_owned(), Instant::now() + away)),
            None if out.is_empty() => {}
            None => drop(out.remove(broker)),
        }
    }

    /// Notes that a broker could not be called, did not answer, or refuses everything now. Returns whether it was not
    /// avoided before.
    pub(super) fn failed(&self, broker: &str) -> bool {
        let now = Instant::now();
        let before = self.avoided_until.lock().insert(broker.to_owned(), now + AFTER_FAILURE);
        before.is_none_or(|until| until <= now)
    }

    /// Whether to call a broker now. Once the time of an avoided broker is over, one request tries it, and the others
    /// follow when that is answered.
    pub(super) fn allows(&self, broker: &str) -> bool {
        let mut out = self.avoided_until.lock();
        if out.is_empty() {
            return true;
        }
        let now = Instant::now();
        match out.get_mut(broker) {
            Some(until) if now < *until => false,
            Some(until) => {
                *until = now + AFTER_FAILURE;
                true
            }
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_or_slow_broker_is_avoided_until_it_answers_quickly() {
        let breaker = CircuitBreaker::default();
        assert!(breaker.allows("a"));
        assert!(breaker.failed("a"));
        assert!(!breaker.allows("a") && breaker.allows("b"));
        assert!(!breaker.failed("a"));
        breaker.answered("a", Duration::from_millis(3));
        assert!(breaker.allows("a") && breaker.allows("a"));
        breaker.answered("a", Duration::from_millis(600));
        assert!(!breaker.allows("a"));
    }

    #[test]
    fn one_request_tries_a_broker_whose_time_is_over() {
        let breaker = CircuitBreaker::default();
        breaker.failed("a");
        breaker.avoided_until.lock().insert("a".to_owned(), Instant::now());
        assert!(breaker.allows("a") && !breaker.allows("a"));
        breaker.answered("a", Duration::ZERO);
        assert!(breaker.allows("a") && breaker.allows("a"));
    }
}
