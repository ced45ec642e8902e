//! Rotates among brokers or queues.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::circuit_breaker::CircuitBreaker;

/// Rotates among choices. Skips choices whose broker is avoided, unless all brokers are avoided.
#[derive(Default)]
pub(super) struct RoundRobin {
    turn: AtomicUsize,
    pub(super) breaker: CircuitBreaker,
}

impl RoundRobin {
    /// The next choice; `None` if there are no choices. `broker` returns the broker's name of a choice.
    pub(super) fn next<'a, T>(&self, choices: &'a [T], broker: impl Fn(&T) -> &str) -> Option<&'a T> {
        if choices.is_empty() {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..choices.len()).map(|step| &choices[(turn.wrapping_add(step)) % choices.len()]);
        in_turn().find(|choice| self.breaker.allows(broker(choice))).or_else(|| in_turn().next())
    }
}
