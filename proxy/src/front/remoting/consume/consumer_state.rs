//! The soft state of the consumers of one connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::handle_cache::HandleCache;
use super::ledger::Ledgers;
use crate::front::port::ConnectionBudget;

/// The soft state of the consumers of one connection.
pub(in super::super) struct ConsumerState {
    pub(super) ledgers: Mutex<Ledgers>,
    pub(super) handles: Mutex<HandleCache>,
    /// How the client consumes in its groups. A group that the client has not queried is missing.
    modes: Mutex<BTreeMap<String, ConsumeMode>>,
    /// Notifies waiting pulls that the client has settled messages.
    pub(super) settled: Notify,
    /// Whether a task sweeps the ledgers.
    pub(super) is_swept: AtomicBool,
}

/// How a client consumes in a group. A heartbeat does not contain this. It is derived from the client's requests for
/// its first queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConsumeMode {
    /// The client has queried the members of the group this many times, but not requested a queue yet.
    Unknown { queries: usize },
    /// The client queries offsets without a lock. In a group that is configured as FIFO, clients in order do the same.
    Concurrently,
    /// The client locks its queues.
    InOrder,
}

/// The maximum number of groups of one connection whose consume modes are recorded.
const MAX_MODES: usize = 1024;

impl ConsumerState {
    /// Creates the state of a new connection. The handles that it stores are charged to this budget.
    pub(in super::super) fn new(budget: Arc<ConnectionBudget>) -> Self {
        Self {
            ledgers: Mutex::default(),
            handles: Mutex::new(HandleCache::new(budget)),
            modes: Mutex::default(),
            settled: Notify::new(),
            is_swept: AtomicBool::new(false),
        }
    }

    /// How the client consumes in a group.
    pub(super) fn mode(&self, group: &str) -> Option<ConsumeMode> {
        self.modes.lock().get(group).copied()
    }

    /// Records how the client consumes in a group.
    pub(super) fn set_mode(&self, group: &str, mode: ConsumeMode) {
        let mut modes = self.modes.lock();
        if modes.contains_key(group) || modes.len() < MAX_MODES {
            modes.insert(group.to_owned(), mode);
        }
    }

    /// Counts a query of the group's members, unless the client's mode is known. Returns the number of queries so far.
    pub(super) fn count_query(&self, group: &str) -> usize {
        let queries = match self.mode(group) {
            None => 1,
            Some(ConsumeMode::Unknown { queries }) => queries.saturating_add(1),
            Some(_) => return 0,
        };
        self.set_mode(group, ConsumeMode::Unknown { queries });
        queries
    }

    /// Forgets how the client consumes in a group.
    pub(super) fn forget_mode(&self, group: &str) {
        self.modes.lock().remove(group);
    }
}
