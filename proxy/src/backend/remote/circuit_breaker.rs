//! Avoids brokers that fail or answer slowly.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Decides which brokers to avoid. A broker that fails or answers slowly is avoided for a while. The slower the answer,
/// the longer it is avoided; the steps are those of Apache's `MQFaultStrategy`.
#[derive(Default)]
pub(super) struct CircuitBreaker {
    avoided_until: Mutex<HashMap<String, Instant>>,
}

/// (latency from which a broker is avoided, for how long), the slowest first.
const LATENCY_STEPS: [(Duration, Duration); 5] = [
    (Duration::from_millis(15_000), Duration::from_secs(30)),
    (Duration::from_millis(5_000), Duration::from_secs(10)),
    (Duration::from_millis(3_000), Duration::from_secs(6)),
    (Duration::from_millis(1_800), Duration::from_secs(5)),
    (Duration::from_millis(550), Duration::from_secs(2)),
];
/// How long a broker is avoided after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

impl CircuitBreaker {
    /// Records an answer of a broker, and how long it took.
    pub(super) fn answered(&self, broker: &str, took: Duration) {
        let pause = LATENCY_STEPS.iter().find(|(latency, _)| took >= *latency).map(|(_, pause)| *pause);
        let mut avoided = self.avoided_until.lock();
        match pause {
            Some(pause) => drop(avoided.insert(broker.to_owned(), Instant::now() + pause)),
            None if avoided.is_empty() => {}
            None => drop(avoided.remove(broker)),
        }
    }

    /// Records that a broker could not be called, did not answer, or refuses all requests now. Returns true if the
    /// broker was not already being avoided.
    pub(super) fn failed(&self, broker: &str) -> bool {
        let now = Instant::now();
        let previous = self.avoided_until.lock().insert(broker.to_owned(), now + FAILURE_PAUSE);
        previous.is_none_or(|until| until <= now)
    }

    /// Whether a broker may be called now. When its pause ends, one request probes the broker; the others follow once the
    /// probe is answered.
    pub(super) fn allows(&self, broker: &str) -> bool {
        let mut avoided = self.avoided_until.lock();
        if avoided.is_empty() {
            return true;
        }
        let now = Instant::now();
        match avoided.get_mut(broker) {
            Some(until) if now < *until => false,
            Some(until) => {
                *until = now + FAILURE_PAUSE;
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
    fn one_request_probes_a_broker_when_its_pause_ends() {
        let breaker = CircuitBreaker::default();
        breaker.failed("a");
        breaker.avoided_until.lock().insert("a".to_owned(), Instant::now());
        assert!(breaker.allows("a") && !breaker.allows("a"));
        breaker.answered("a", Duration::ZERO);
        assert!(breaker.allows("a") && breaker.allows("a"));
    }
}
