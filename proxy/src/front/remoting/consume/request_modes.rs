//! Which groups pop the messages of which topics.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::ledger::GroupTopic;

/// The maximum number of pairs of group and topic whose mode is POP.
const MAX_MODES: usize = 10_000;

/// The groups and topics whose clients shall pop.
#[derive(Default)]
pub(in super::super) struct RequestModes(Mutex<HashSet<GroupTopic>>);

impl RequestModes {
    /// Whether the clients of the group shall pop the topic's messages.
    pub(super) fn is_pop(&self, at: &GroupTopic) -> bool {
        self.0.lock().contains(at)
    }

    /// Sets whether the clients of the group shall pop the topic's messages. Returns
    /// `false` if too many groups and topics are set already.
    pub(super) fn set_pop(&self, at: GroupTopic, is_pop: bool) -> bool {
        let mut popped = self.0.lock();
        if !is_pop {
            popped.remove(&at);
        } else if popped.len() < MAX_MODES {
            popped.insert(at);
        } else {
            return false;
        }
        true
    }
}
