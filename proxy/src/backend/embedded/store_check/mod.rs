//! `store check`: reads the whole data directory of a stopped proxy and reports damage. It reads a temporary copy that
//! links to the large files of the directory.

mod finding;
mod messages;
mod names;
mod progress;
mod sink;
mod state;
mod store_copy;
mod temporary_copy;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::Flush;
use super::directory::{DataDirectory, OpenError};
use super::journal::{self, BrokenJournal};
use super::keys;
use super::store::{LOG, OpenDatabase, STATE, is_synced_in_state, open_log_in, open_state_in};
use finding::BACKUP_ADVICE;
pub use finding::Finding;
use names::StoredNames;
use progress::CheckProgress;
use sink::Sink;
pub use store_copy::{CopyReport, copy};
use temporary_copy::TemporaryCopy;

/// The result of a check.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// The data directory.
    pub directory: PathBuf,
    /// The bytes of records that were read.
    pub bytes: u64,
    /// The number of topics, including lite topics.
    pub topics: u64,
    /// The number of consumer groups.
    pub groups: u64,
    /// The number of readable messages in queues.
    pub messages: u64,
    /// The number of delayed messages and half messages.
    pub waiting_messages: u64,
    /// The number of unsettled deliveries.
    pub leases: u64,
    /// The problems that were found.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Whether data is lost.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.damaged)
    }
}

/// Ignores all records.
struct IgnoreRecords;

impl Sink for IgnoreRecords {
    fn state(&mut self, _: &[u8], _: &[u8]) -> fjall::Result<()> {
        Ok(())
    }
    fn names(&mut self, _: &StoredNames) {}
    fn log(&mut self, _: &[u8], _: &[u8]) -> fjall::Result<()> {
        Ok(())
    }
}

/// Checks both databases of a data directory: the journals, each block and each message. Never writes to the directory.
/// `tell` is called often, with the number of bytes that were read, and with about how many bytes there are.
///
/// # Errors
/// [`OpenError`] if it is not a data directory, is in use, or can't be read.
pub fn check(directory: &Path, tell: &mut dyn FnMut(u64, u64)) -> Result<CheckReport, OpenError> {
    read(directory, &mut IgnoreRecords, tell)
}

/// Checks a data directory, and passes all readable records to `sink`.
fn read(
    directory: &Path,
    sink: &mut dyn Sink,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<CheckReport, OpenError> {
    let directory_lock = DataDirectory::open_to_read(directory)?;
    let io = |error: io::Error| OpenError::Io(directory.to_owned(), error);
    let (state_folder, log_folder) = (directory_lock.join(STATE), directory_lock.join(LOG));
    let broken_state_journals = journal::inspect(&state_folder, is_synced_in_state).map_err(io)?;
    // If the flush mode is not recorded, the stricter rule applies, which reports more.
    let is_synced = directory_lock.recorded_flush().map_err(io)?.unwrap_or_default() == Flush::Sync;
    let broken_log_journals = journal::inspect(&log_folder, |_| is_synced).map_err(io)?;
    let mut findings = Vec::new();
    let state_copy = TemporaryCopy::of(&state_folder, &broken_state_journals).map_err(io)?;
    let log_copy = TemporaryCopy::of(&log_folder, &broken_log_journals).map_err(io)?;
    let state = open(STATE, open_state_in(&state_copy.path(), 0), &mut findings);
    let log = open(LOG, open_log_in(&log_copy.path(), 0), &mut findings);
    let expected = [&state, &log].into_iter().flatten().map(|part| part.disk_space()).sum();
    let mut progress = CheckProgress { read: 0, expected, tell, sink };
    let failed = |error: fjall::Error| OpenError::Damaged(directory.to_owned(), error.to_string());
    let names = match &state {
        Some(state) => state::read(state, &mut findings, &mut progress).map_err(failed)?,
        None => StoredNames::default(),
    };
    progress.sink.names(&names);
    let counts = match &log {
        Some(log) => messages::read(log, &names, &mut findings, &mut progress).map_err(failed)?,
        None => messages::Counts::default(),
    };
    findings.extend(broken_state_journals.iter().map(|journal| journal_finding(journal, |_| None)));
    let place = |key: &[u8]| keys::chunk_first(key).map(|first| (names.topic_of(key), first));
    findings.extend(broken_log_journals.iter().map(|journal| journal_finding(journal, place)));
    Ok(CheckReport {
        directory: directory.to_owned(),
        bytes: progress.read,
        topics: names.topic_count(),
        groups: names.group_count(),
        messages: counts.messages,
        waiting_messages: counts.waiting,
        leases: names.leases,
        findings,
    })
}

fn open(
    name: &str,
    opened: fjall::Result<OpenDatabase>,
    findings: &mut Vec<Finding>,
) -> Option<OpenDatabase> {
    opened
        .map_err(|error| {
            let place = format!("database {name}: failed to open it: {error}");
            let cost = "the proxy does not start, and the content of the database can't be checked";
            findings.push(Finding::damage(place, cost, BACKUP_ADVICE));
        })
        .ok()
}

/// Describes a broken journal. `place` returns the queue and the offset of a key.
fn journal_finding(journal: &BrokenJournal, place: impl Fn(&[u8]) -> Option<(String, u64)>) -> Finding {
    let BrokenJournal { file, at, rest, later_keys, later_batches, is_damage } = journal;
    let text = format!("journal {}, from byte {at} on", file.display());
    if !is_damage {
        let cost = format!("none: a write of {rest} bytes was interrupted, and never acknowledged");
        let advice = "no action needed: the next start removes the interrupted write";
        return Finding { damaged: false, ..Finding::damage(text, &cost, advice) };
    }
    let mut queues: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (queue, first) in later_keys.iter().filter_map(|key| place(key)) {
        let range = queues.entry(queue).or_insert((first, first));
        *range = (range.0.min(first), range.1.max(first));
    }
    let queues: Vec<_> =
        queues.iter().map(|(q, (from, to))| format!("{q}, offsets {from} to {to}")).collect();
    let mut cost = format!(
        "the proxy does not start. Without the rest of the journal, a damaged write and {later_batches} later ones are lost"
    );
    if !queues.is_empty() {
        cost = format!("{cost}: {}", queues.join("; "));
    }
    let advice = format!(
        "restore the data directory from a backup, or drop the rest of the journal with: truncate --size={at} {}",
        file.display()
    );
    Finding::damage(text, &cost, &advice)
}
