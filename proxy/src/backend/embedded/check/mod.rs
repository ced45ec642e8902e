//! Checks a data directory that no proxy uses: reads all of it, by way of a copy that shares its large files.

mod copy;
mod messages;
mod names;
mod rescue;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::Flush;
use super::directory::{DataDirectory, OpenError};
use super::journal::{self, Flaw};
use super::keys;
use super::store::{LOG, Opened, STATE, is_synced_in_state, open_log_in, open_state_in};
use copy::Copy;
use names::Names;
pub use rescue::{CopyReport, copy};

/// What to do about most damage.
const BACKUP: &str = "restore the data directory from a backup";
/// What to do about damage that the storage meets again and again.
const COPY: &str =
    "copy what can be read into a new directory (store copy), or restore the data directory from a backup";

/// What a check has found.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// The data directory.
    pub directory: PathBuf,
    /// How many bytes of records were read.
    pub bytes: u64,
    /// Topics, with lite topics.
    pub topics: u64,
    /// Consumer groups.
    pub groups: u64,
    /// Messages in queues that can be read.
    pub messages: u64,
    /// Delayed messages and half messages.
    pub waiting_messages: u64,
    /// Deliveries that are not settled.
    pub leases: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something that is wrong with a data directory.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Whether something is lost. Otherwise it is a trace of a crash that the next start removes.
    pub damaged: bool,
    /// Where it is.
    pub place: String,
    /// The topic, for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The queue, for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// The first offset that is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_offset: Option<u64>,
    /// The last offset that is lost, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_offset: Option<u64>,
    /// What it costs.
    pub cost: String,
    /// What to do.
    pub advice: String,
}

impl CheckReport {
    /// Whether something is lost.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.damaged)
    }
}

impl Finding {
    fn damage(place: String, cost: &str, advice: &str) -> Self {
        Self {
            damaged: true,
            place,
            topic: None,
            queue: None,
            first_offset: None,
            last_offset: None,
            cost: cost.to_owned(),
            advice: advice.to_owned(),
        }
    }
}

/// How far a check has got.
struct Progress<'a> {
    read: u64,
    expected: u64,
    tell: &'a mut dyn FnMut(u64, u64),
    sink: &'a mut dyn Sink,
}

impl Progress<'_> {
    fn add(&mut self, bytes: usize) {
        self.read += bytes as u64;
        (self.tell)(self.read, self.expected.max(self.read));
    }
}

/// What is done with a record that can be read.
trait Sink {
    /// Takes a record of the database `state`.
    fn state(&mut self, key: &[u8], value: &[u8]) -> fjall::Result<()>;
    /// Hears what the database `state` says, before the first record of `log`.
    fn names(&mut self, names: &Names);
    /// Takes a record of the database `log`.
    fn log(&mut self, key: &[u8], value: &[u8]) -> fjall::Result<()>;
}

/// Does nothing.
struct NoSink;

impl Sink for NoSink {
    fn state(&mut self, _: &[u8], _: &[u8]) -> fjall::Result<()> {
        Ok(())
    }
    fn names(&mut self, _: &Names) {}
    fn log(&mut self, _: &[u8], _: &[u8]) -> fjall::Result<()> {
        Ok(())
    }
}

/// Checks both databases of a data directory: the journals, each block and each message. Never writes to the directory.
/// `tell` is called often, with the bytes that were read and about how many there are.
///
/// # Errors
/// [`OpenError`] if the directory is none, is in use, or can't be read.
pub fn check(directory: &Path, tell: &mut dyn FnMut(u64, u64)) -> Result<CheckReport, OpenError> {
    read(directory, &mut NoSink, tell)
}

/// Checks a data directory, and hands out what can be read.
fn read(
    directory: &Path,
    sink: &mut dyn Sink,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<CheckReport, OpenError> {
    let taken = DataDirectory::take_to_read(directory)?;
    let io = |error: io::Error| OpenError::Io(directory.to_owned(), error);
    let (state_folder, log_folder) = (taken.part(STATE), taken.part(LOG));
    let state_flaws = journal::inspect(&state_folder, is_synced_in_state).map_err(io)?;
    // Without a word about it, the stricter rule: it reports more.
    let is_synced = taken.flush().map_err(io)?.unwrap_or_default() == Flush::Sync;
    let log_flaws = journal::inspect(&log_folder, |_| is_synced).map_err(io)?;
    let mut findings = Vec::new();
    let state_copy = Copy::of(&state_folder, &state_flaws).map_err(io)?;
    let log_copy = Copy::of(&log_folder, &log_flaws).map_err(io)?;
    let state = open(STATE, open_state_in(&state_copy.path(), 0), &mut findings);
    let log = open(LOG, open_log_in(&log_copy.path(), 0), &mut findings);
    let expected = [&state, &log].into_iter().flatten().map(|part| part.disk_space()).sum();
    let mut progress = Progress { read: 0, expected, tell, sink };
    let failed = |error: fjall::Error| OpenError::Damaged(directory.to_owned(), error.to_string());
    let names = match &state {
        Some(state) => Names::read(state, &mut findings, &mut progress).map_err(failed)?,
        None => Names::default(),
    };
    progress.sink.names(&names);
    let counts = match &log {
        Some(log) => messages::read(log, &names, &mut findings, &mut progress).map_err(failed)?,
        None => messages::Counts::default(),
    };
    findings.extend(state_flaws.iter().map(|flaw| journal_finding(flaw, |_| None)));
    let place = |key: &[u8]| keys::chunk_first(key).map(|first| (names.topic_of(key), first));
    findings.extend(log_flaws.iter().map(|flaw| journal_finding(flaw, place)));
    let (topics, groups) = names.counts();
    Ok(CheckReport {
        directory: directory.to_owned(),
        bytes: progress.read,
        topics,
        groups,
        messages: counts.messages,
        waiting_messages: counts.waiting,
        leases: names.leases,
        findings,
    })
}

fn open(name: &str, opened: fjall::Result<Opened>, findings: &mut Vec<Finding>) -> Option<Opened> {
    opened
        .map_err(|error| {
            let place = format!("database {name}: it can't be opened: {error}");
            let cost = "the proxy does not start, and what is in the database can't be checked";
            findings.push(Finding::damage(place, cost, BACKUP));
        })
        .ok()
}

/// Describes a flaw. `place` returns the queue and the offset of a key.
fn journal_finding(flaw: &Flaw, place: impl Fn(&[u8]) -> Option<(String, u64)>) -> Finding {
    let Flaw { file, at, rest, later_keys, later_batches, is_damage } = flaw;
    let text = format!("journal {}, from byte {at} on", file.display());
    if !is_damage {
        let cost = format!("nothing: a write of {rest} bytes was interrupted, and never acknowledged");
        let advice = "nothing has to be done: the next start drops it";
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
        "restore the data directory from a backup, or give up the rest with: truncate --size={at} {}",
        file.display()
    );
    Finding::damage(text, &cost, &advice)
}
