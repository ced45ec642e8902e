use std::sync::atomic::{AtomicUsize, Ordering};

use super::faults::Faults;

/// Takes turns, and passes over brokers that are out as long as another is left.
#[derive(Default)]
pub(super) struct Turns(AtomicUsize);

impl Turns {
    pub(super) fn next<'a, T>(
        &self,
        choices: &'a [T],
        faults: &Faults,
        broker: impl Fn(&T) -> &str,
    ) -> Option<&'a T> {
        if choices.is_empty() {
            return None;
        }
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..choices.len()).map(|step| &choices[(turn.wrapping_add(step)) % choices.len()]);
        in_turn().find(|choice| !faults.is_out(broker(choice))).or_else(|| in_turn().next())
    }
}
