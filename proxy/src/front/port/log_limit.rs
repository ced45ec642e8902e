//! Limits how often an event that a stranger can cause is logged.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The shortest time between two log lines.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Limits the log lines of one kind of event to one per second.
#[derive(Default)]
pub(super) struct LogLimit {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the last line was logged.
    last: Option<Instant>,
    /// Events since then.
    suppressed: u64,
}

impl LogLimit {
    /// Returns `None` if this event must not be logged. Otherwise returns how many events were suppressed since the
    /// last line.
    pub(super) fn permit(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.last.is_some_and(|last| now.duration_since(last) < MIN_INTERVAL) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_within_a_second_are_counted_instead_of_logged() {
        let limit = LogLimit::default();
        assert_eq!(limit.permit(), Some(0));
        assert_eq!((limit.permit(), limit.permit()), (None, None));
        limit.state.lock().last = Instant::now().checked_sub(MIN_INTERVAL);
        assert_eq!(limit.permit(), Some(2));
    }
}
