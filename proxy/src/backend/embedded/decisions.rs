//! Remembers decisions about half messages, so that the first decision counts: 100,000 of them at most, for an hour, in
//! memory and on the disk. After a start, the hour begins again.

use std::collections::{HashMap, VecDeque};

use super::clock;
use super::commit::{Commit, TransactionDecision};
use super::keys;
use super::scan::{Record, Scan};
use super::store::{Store, corrupt};
use crate::service::{Resolution, ServiceError};

/// The remembered decisions.
#[derive(Default)]
pub(super) struct Decisions {
    by_sequence: HashMap<u64, Resolution>,
    // Oldest first.
    order: VecDeque<Remembered>,
}

/// A remembered decision.
struct Remembered {
    sequence: u64,
    /// When it was taken, as in its key.
    at: u64,
    /// Since when it is remembered in memory, in ms of [`clock::monotonic`]. The wall clock may be set forward.
    since: u64,
}

/// How long a decision is remembered, in ms.
const MAX_AGE_MS: u64 = 3_600_000;
/// The maximum number of decisions that are remembered.
const MAX_DECISIONS: usize = 100_000;
/// How many outdated decisions one commit may remove in addition to those that exceed `MAX_DECISIONS`.
const MAX_REMOVED: usize = 256;

impl Decisions {
    /// Reads the decisions from the disk.
    pub(super) fn open(store: &Store) -> Result<Self, ServiceError> {
        let mut decisions = Self::default();
        let log = store.log()?;
        let (first, last) = (keys::decision(0, 0), keys::decision(u64::MAX, u64::MAX));
        for record in Scan::range(&log, &first, &last).reported() {
            let Record { key, value } = record?;
            let (at, sequence) = keys::decision_parts(&key).ok_or_else(|| corrupt("decision key"))?;
            if let Some(resolution) = value.and_then(|value| read(&value)) {
                decisions.add(sequence, TransactionDecision { at, resolution }, clock::monotonic());
            }
        }
        Ok(decisions)
    }

    /// Returns the decision about the half message with this sequence number.
    pub(super) fn get(&self, sequence: u64) -> Option<Resolution> {
        self.by_sequence.get(&sequence).copied()
    }

    /// Adds the records of a commit's decisions to the commit, and removes the oldest records if there are too many or
    /// if they are too old. Returns how many it removes.
    pub(super) fn write(&self, commit: &mut Commit) -> usize {
        let outdated = self.outdated(commit.decided.len(), clock::monotonic());
        let decided: Vec<_> =
            commit.decided.iter().map(|(sequence, decision)| (*sequence, *decision)).collect();
        for (sequence, TransactionDecision { at, resolution }) in &decided {
            commit.put(&keys::decision(*at, *sequence), vec![number(*resolution)]);
        }
        for Remembered { at, sequence, .. } in self.order.iter().take(outdated) {
            commit.remove(&keys::decision(*at, *sequence));
        }
        outdated
    }

    /// Remembers the decisions of a stored commit, and forgets as many old ones as it removed.
    pub(super) fn committed(&mut self, decided: HashMap<u64, TransactionDecision>, removed: usize) {
        for Remembered { sequence, .. } in self.order.drain(..removed) {
            self.by_sequence.remove(&sequence);
        }
        for (sequence, decision) in decided {
            self.add(sequence, decision, clock::monotonic());
        }
    }

    /// How many of the oldest decisions to remove when `added` are added.
    fn outdated(&self, added: usize, now: u64) -> usize {
        if added == 0 {
            return 0;
        }
        let too_many = (self.order.len() + added).saturating_sub(MAX_DECISIONS).min(self.order.len());
        let oldest = now.saturating_sub(MAX_AGE_MS);
        let examined = self.order.iter().take(too_many + MAX_REMOVED);
        let too_old = examined.take_while(|decision| decision.since < oldest).count();
        too_many.max(too_old)
    }

    fn add(&mut self, sequence: u64, decision: TransactionDecision, since: u64) {
        self.by_sequence.insert(sequence, decision.resolution);
        self.order.push_back(Remembered { sequence, at: decision.at, since });
    }
}

fn number(resolution: Resolution) -> u8 {
    match resolution {
        Resolution::Commit => 1,
        Resolution::Rollback => 2,
    }
}

fn read(value: &[u8]) -> Option<Resolution> {
    match value {
        [1] => Some(Resolution::Commit),
        [2] => Some(Resolution::Rollback),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Resolution = Resolution::Commit;

    #[test]
    fn excess_decisions_are_forgotten() {
        let mut decisions = Decisions::default();
        for sequence in 0..MAX_DECISIONS as u64 {
            decisions.add(sequence, TransactionDecision { at: 10_000, resolution: COMMIT }, 10_000);
        }
        assert_eq!(decisions.outdated(0, 10_000), 0);
        assert_eq!(decisions.outdated(3, 10_000), 3);
        let added = [(1 << 40, TransactionDecision { at: 10_000, resolution: COMMIT })].into();
        decisions.committed(added, 3);
        assert_eq!(
            (decisions.get(2), decisions.get(3), decisions.get(1 << 40)),
            (None, Some(COMMIT), Some(COMMIT))
        );
        assert_eq!(decisions.by_sequence.len(), decisions.order.len());
    }

    #[test]
    fn old_decisions_are_forgotten_step_by_step() {
        let mut decisions = Decisions::default();
        for sequence in 0..1000 {
            let since = if sequence < 700 { 0 } else { MAX_AGE_MS };
            decisions.add(sequence, TransactionDecision { at: 0, resolution: COMMIT }, since);
        }
        assert_eq!(decisions.outdated(1, MAX_AGE_MS), 0);
        let mut removed = Vec::new();
        loop {
            let outdated = decisions.outdated(1, MAX_AGE_MS + 1);
            decisions.committed(HashMap::new(), outdated);
            removed.push(outdated);
            if outdated == 0 {
                break;
            }
        }
        assert_eq!(removed, [256, 256, 188, 0]);
    }
}
