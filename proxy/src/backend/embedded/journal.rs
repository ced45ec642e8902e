//! Checks the journals of a database before it is opened.
//!
//! fjall refuses to open, or silently drops everything that follows, where a journal holds a broken batch. Neither is
//! right for both causes of one:
//!
//! - The machine lost its power, or the disk was full, while the last batches were written. They were never
//!   acknowledged. The journal is cut after the last whole batch, with a warning.
//! - The disk changed data that was written safely. Then acknowledged data is lost, and an operator has to decide.
//!
//! A write that was interrupted leaves zeroed sectors or the end of the file in place of data, and nothing after it
//! was acknowledged by an fsync.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// A journal that holds damaged data.
#[derive(Debug)]
pub(super) enum JournalError {
    /// Acknowledged data is damaged.
    Damaged {
        /// The journal.
        file: PathBuf,
        /// Where its first broken batch begins.
        at: usize,
    },
    /// A file can't be read or cut.
    Io(io::Error),
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A whole batch of a journal.
pub(super) struct Batch<'a> {
    sequence: u64,
    start: usize,
    end: usize,
    /// The keys that it inserts or removes.
    pub(super) keys: Vec<&'a [u8]>,
}

/// What is wrong with a journal.
pub(super) struct Flaw {
    /// The journal.
    pub(super) file: PathBuf,
    /// Where its first broken batch begins.
    pub(super) at: usize,
    /// How much follows, in bytes.
    pub(super) rest: usize,
    /// The keys in whole batches that follow.
    pub(super) later_keys: Vec<Vec<u8>>,
    /// How many whole batches follow.
    pub(super) later_batches: usize,
    /// Acknowledged data is damaged. Otherwise a write was interrupted that was never acknowledged.
    pub(super) is_damage: bool,
}

/// Finds what is wrong with the journals in this folder, without changing them. `was_synced` tells whether a batch was on the
/// disk, with all before it, when it was acknowledged.
pub(super) fn inspect(folder: &Path, was_synced: impl Fn(&Batch<'_>) -> bool) -> io::Result<Vec<Flaw>> {
    let journals = find(folder)?;
    let newest = journals.len().saturating_sub(1);
    let mut flaws = Vec::new();
    for (index, file) in journals.into_iter().enumerate() {
        let bytes = read(&file)?;
        let Err(broken) = check(&bytes) else { continue };
        let later = later_batches(&bytes, &broken);
        let region_end = later.first().map_or(bytes.len(), |later| later.start);
        let lost_in_hole = has_zeroed_sector(&bytes, broken.at, region_end);
        let ends_early = later.is_empty() && broken.reached_end;
        // fjall syncs a journal before it begins the next one.
        let is_damage = index < newest || !(lost_in_hole || ends_early) || later.iter().any(&was_synced);
        flaws.push(Flaw {
            at: broken.at,
            rest: bytes.len() - broken.at,
            later_keys: later.iter().flat_map(|batch| &batch.keys).map(|key| key.to_vec()).collect(),
            later_batches: later.len(),
            is_damage,
            file,
        });
    }
    Ok(flaws)
}

/// Cuts what an interrupted write left at the end of the newest journal in this folder. For `was_synced` see [`inspect`].
///
/// # Errors
/// [`JournalError`]; then no file was changed.
pub(super) fn repair(folder: &Path, was_synced: impl Fn(&Batch<'_>) -> bool) -> Result<(), JournalError> {
    for Flaw { file, at, rest, later_batches, is_damage, .. } in inspect(folder, was_synced)? {
        if is_damage {
            return Err(JournalError::Damaged { file, at });
        }
        cut(&file, at)?;
        tracing::warn!(
            journal = %file.display(),
            dropped_bytes = rest,
            dropped_whole_batches = later_batches,
            "a write was interrupted: dropped what was never acknowledged from the end of the journal"
        );
    }
    Ok(())
}

/// Removes what an interrupted creation of a database has left in this folder. fjall takes a database for new as long as its
/// marker is missing, and does not create it where there is a journal already. Nothing is removed unless it is empty.
pub(super) fn remove_unfinished(folder: &Path) -> io::Result<()> {
    let marker = folder.join("version");
    let is_marked = existing(fs::metadata(&marker))?.is_some_and(|marker| marker.len() > 0);
    let journals = find(folder)?;
    let tables = existing(fs::read_dir(folder.join("keyspaces")))?;
    if is_marked || tables.is_some_and(|mut tables| tables.next().is_some()) {
        return Ok(());
    }
    for journal in &journals {
        if !read(journal)?.is_empty() {
            return Ok(());
        }
    }
    // Without the marker the next start goes on here.
    for file in [marker].iter().chain(&journals) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What is there. Only a disk that says so can be trusted that it is not.
fn existing<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Syncs what was written to the newest journal in this folder. fjall syncs a journal before it begins the next one, so
/// that the older ones are on the disk.
pub(super) fn sync_newest(folder: &Path) -> io::Result<()> {
    let Some(newest) = find(folder)?.pop() else { return Ok(()) };
    match fs::File::open(newest) {
        Ok(file) => file.sync_all(),
        // All that it held is in a table meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The journals of a folder, oldest first.
fn find(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut journals = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort_unstable();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// Reads a journal without the zeros at its end: the file is allocated before it is written.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = fs::read(file)?;
    let zeros = [0; 4096];
    while bytes.ends_with(&zeros) {
        bytes.truncate(bytes.len() - zeros.len());
    }
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

/// Keeps what is cut off in a file beside the journal, as far as there is room.
fn cut(journal: &Path, at: usize) -> io::Result<()> {
    let bytes = read(journal)?;
    let kept = journal.with_extension("dropped");
    if let Err(error) = fs::write(&kept, &bytes[at..]) {
        tracing::warn!(%error, "what is dropped from the journal could not be copied to a file");
        let _ = fs::remove_file(&kept);
    }
    let file = OpenOptions::new().write(true).open(journal)?;
    file.set_len(at as u64)?;
    file.sync_all()
}

/// Where a journal can't be read on.
struct Broken {
    at: usize,
    /// The sequence number of the last whole batch.
    sequence: Option<u64>,
    /// The batch runs into the end of what was written.
    reached_end: bool,
}

/// Reads all batches of a journal.
fn check(bytes: &[u8]) -> Result<(), Broken> {
    let (mut at, mut sequence) = (0, None);
    while at < bytes.len() {
        match read_batch(bytes, at) {
            Ok(batch) => {
                at = batch.end;
                sequence = Some(batch.sequence);
            }
            Err(failure) => {
                let reached_end = failure.read_to >= bytes.len() && !failure.is_complete;
                return Err(Broken { at, sequence, reached_end });
            }
        }
    }
    Ok(())
}

/// How often a journal is read over, at most, in search of whole batches.
const MAX_PASSES: usize = 16;

/// The whole batches that follow a broken one.
fn later_batches<'a>(bytes: &'a [u8], broken: &Broken) -> Vec<Batch<'a>> {
    let mut found = Vec::new();
    let (mut at, mut sequence) = (broken.at + 1, broken.sequence);
    // Messages may hold what looks like the beginning of a batch, on purpose.
    let mut budget = MAX_PASSES * bytes.len();
    while let Some(ahead) = bytes[at..].iter().position(|byte| *byte == START) {
        let start = at + ahead;
        let read_to = match read_batch(bytes, start) {
            Ok(batch) if sequence.is_none_or(|last| batch.sequence > last) => {
                at = batch.end;
                sequence = Some(batch.sequence);
                found.push(batch);
                continue;
            }
            Ok(Batch { end: read_to, .. }) | Err(Failure { read_to, .. }) => read_to,
        };
        at = start + 1;
        budget = budget.saturating_sub(read_to - start);
        if budget == 0 {
            break;
        }
    }
    found
}

/// The smallest unit that a disk writes.
const SECTOR: usize = 512;

fn has_zeroed_sector(bytes: &[u8], from: usize, to: usize) -> bool {
    let mut sectors = (from - from % SECTOR..to).step_by(SECTOR);
    sectors.any(|start| {
        let sector = &bytes[start.max(from)..(start + SECTOR).min(bytes.len())];
        sector.iter().all(|byte| *byte == 0)
    })
}

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = [b'F', b'J', b'L', 3];

/// Why there is no whole batch at a position.
struct Failure {
    read_to: usize,
    /// It has all its parts, and only their content is wrong.
    is_complete: bool,
}

/// Reads the batch at a position.
fn read_batch(bytes: &[u8], at: usize) -> Result<Batch<'_>, Failure> {
    let mut reader = Reader { bytes, at, is_complete: false };
    let batch = reader.batch();
    batch.ok_or(Failure { read_to: reader.at, is_complete: reader.is_complete })
}

/// The format of fjall's journals: `start, items, end`, numbers little-endian; the end has a checksum of the items.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_complete: bool,
}

impl<'a> Reader<'a> {
    fn batch(&mut self) -> Option<Batch<'a>> {
        let start = self.at;
        if self.take::<1>()? != [START] {
            return None;
        }
        let count = u32::from_le_bytes(self.take()?);
        let sequence = u64::from_le_bytes(self.take()?);
        let mut keys = Vec::new();
        let items = self.at;
        for _ in 0..count {
            keys.extend(self.item()?);
        }
        let checksum = xxh3_64(&self.bytes[items..self.at]);
        if self.take::<1>()? != [END] {
            return None;
        }
        let expected = u64::from_le_bytes(self.take()?);
        self.is_complete = self.take()? == TRAILER;
        (self.is_complete && checksum == expected).then_some(Batch { sequence, start, end: self.at, keys })
    }

    /// An item's key; a keyspace that is cleared has none.
    fn item(&mut self) -> Option<Option<&'a [u8]>> {
        match self.take::<1>()? {
            [ITEM] => {
                let _value_type = self.take::<1>()?;
                let _compression = self.take::<1>()?;
                let _keyspace = self.take::<8>()?;
                let key = u16::from_le_bytes(self.take()?);
                let _value_before_compression = self.take::<4>()?;
                let value = u32::from_le_bytes(self.take()?);
                let key = self.slice(key.into())?;
                self.slice(value as usize)?;
                Some(Some(key))
            }
            [CLEAR] => self.take::<8>().map(|_| None),
            _ => None,
        }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.saturating_add(length);
        let slice = self.bytes.get(self.at..end);
        self.at = end.min(self.bytes.len());
        slice
    }
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions, PersistMode};
    use tempfile::TempDir;

    use super::*;

    const BATCHES: u8 = 5;
    /// Each batch holds a value of this size, without zeros.
    const VALUE: usize = 20_000;

    /// A database with some batches in its journal.
    fn written() -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let database = Database::builder(&folder).open().expect("a fresh directory opens");
        let keyspace = database.keyspace("test", KeyspaceCreateOptions::default).expect("a keyspace");
        for number in 0..BATCHES {
            let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
            batch.insert(&keyspace, [number], [number + 1; VALUE]);
            batch.commit().expect("a commit");
        }
        folder
    }

    #[test]
    fn an_interrupted_creation_begins_anew_and_nothing_written_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(folder.path().join("keyspaces")).expect("a folder");
        for has_marker in [false, true] {
            let allocated = fs::File::create(folder.path().join("0.jnl")).expect("a journal");
            allocated.set_len(1 << 20).expect("zeros");
            if has_marker {
                fs::File::create(folder.path().join("version")).expect("an empty marker");
            }
            remove_unfinished(folder.path()).expect("it is removed");
            assert!(find(folder.path()).expect("readable").is_empty());
        }
        Database::builder(&folder).open().expect("it opens");

        let folder = written();
        remove_unfinished(folder.path()).expect("a look");
        fs::remove_file(folder.path().join("version")).expect("the marker is lost");
        remove_unfinished(folder.path()).expect("a look");
        assert!(!read(&journal(&folder)).expect("readable").is_empty());
    }

    fn journal(folder: &TempDir) -> PathBuf {
        find(folder.path()).expect("readable").pop().expect("a journal")
    }

    /// Where each batch begins.
    fn starts(bytes: &[u8]) -> Vec<usize> {
        let mut starts = vec![0];
        while let Ok(batch) = read_batch(bytes, *starts.last().expect("one")) {
            starts.push(batch.end);
        }
        starts.pop();
        starts
    }

    /// Changes the journal. The function is given the position of each batch.
    fn change(folder: &TempDir, change: impl FnOnce(&mut Vec<u8>, &[usize])) {
        let mut bytes = fs::read(journal(folder)).expect("readable");
        let starts = starts(&bytes);
        assert_eq!(starts.len(), usize::from(BATCHES));
        change(&mut bytes, &starts);
        fs::write(journal(folder), bytes).expect("writable");
    }

    fn zero_a_page(bytes: &mut [u8], after: usize) {
        let page = after.next_multiple_of(4096);
        bytes[page..page + 4096].fill(0);
    }

    fn numbers_after_repair(folder: &TempDir) -> Vec<u8> {
        let database = Database::builder(folder).open().expect("what was repaired opens");
        let keyspace = database.keyspace("test", KeyspaceCreateOptions::default).expect("a keyspace");
        keyspace.iter().map(|entry| entry.key().expect("readable")[0]).collect()
    }

    fn assert_refused(folder: &TempDir, was_synced: bool, start: usize) {
        let before = fs::read(journal(folder)).expect("readable");
        let error = repair(folder.path(), |_| was_synced).expect_err("damaged");
        assert!(matches!(error, JournalError::Damaged { at, .. } if at == start), "{error:?}");
        assert!(before == fs::read(journal(folder)).expect("readable"), "the journal was changed");
    }

    #[test]
    fn a_whole_journal_stays_as_it_is() {
        let folder = written();
        let before = fs::read(journal(&folder)).expect("readable");
        repair(folder.path(), |_| true).expect("nothing to repair");
        assert!(before == fs::read(journal(&folder)).expect("readable"));
        assert_eq!(numbers_after_repair(&folder), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_folder_without_journals_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        repair(folder.path(), |_| true).expect("nothing to repair");
        repair(&folder.path().join("missing"), |_| true).expect("nothing to repair");
    }

    #[test]
    fn an_interrupted_last_batch_is_dropped() {
        type Interrupt = fn(&mut Vec<u8>, usize);
        let interruptions: [(&str, Interrupt); 5] = [
            ("a page is missing", |bytes, last| zero_a_page(bytes, last)),
            ("the first page is missing", |bytes, last| bytes[last..last.next_multiple_of(4096)].fill(0)),
            ("the end is missing", |bytes, last| bytes[last + VALUE / 2..].fill(0)),
            ("the file ends early", |bytes, last| bytes.truncate(last + VALUE / 2)),
            ("the file ends in the start", |bytes, last| bytes.truncate(last + 3)),
        ];
        for (name, interrupt) in interruptions {
            let folder = written();
            change(&folder, |bytes, starts| interrupt(bytes, starts[4]));
            repair(folder.path(), |_| true).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert_eq!(numbers_after_repair(&folder), [0, 1, 2, 3], "{name}");
        }
    }

    #[test]
    fn damage_before_synced_batches_is_refused() {
        let folder = written();
        let mut start = 0;
        change(&folder, |bytes, starts| {
            start = starts[2];
            zero_a_page(bytes, start);
        });
        assert_refused(&folder, true, start);
    }

    #[test]
    fn a_missing_page_before_batches_that_were_not_synced_drops_them_too() {
        let folder = written();
        change(&folder, |bytes, starts| zero_a_page(bytes, starts[2]));
        repair(folder.path(), |_| false).expect("repaired");
        assert_eq!(numbers_after_repair(&folder), [0, 1]);
    }

    #[test]
    fn changed_bytes_are_refused_even_in_the_last_batch() {
        for index in [2, 4] {
            let folder = written();
            let mut start = 0;
            change(&folder, |bytes, starts| {
                start = starts[index];
                bytes[start + VALUE / 2] ^= 1;
            });
            assert_refused(&folder, false, start);
        }
    }
}
