//! Checks and repairs the journals of a database before it is opened.
//!
//! If a journal contains a broken batch, fjall refuses to open it or silently drops everything that follows. Neither is
//! right for both causes of a broken batch:
//!
//! - The machine lost power, or the disk was full, while the last batches were written. They were never acknowledged. The
//!   journal is truncated after the last whole batch, with a warning.
//! - The disk corrupted data that was written safely. Then acknowledged data is lost, and an operator has to decide.
//!
//! An interrupted write leaves zeroed sectors or the end of the file, and no later batch was acknowledged after an fsync.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// Why the journals can't be repaired.
#[derive(Debug)]
pub(super) enum JournalError {
    /// Acknowledged data is damaged.
    Damaged {
        /// The journal.
        file: PathBuf,
        /// Where its first broken batch begins.
        at: usize,
    },
    /// A file can't be read or truncated.
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

/// A journal with a broken batch.
pub(super) struct BrokenJournal {
    /// The journal.
    pub(super) file: PathBuf,
    /// Where its first broken batch begins.
    pub(super) at: usize,
    /// The number of bytes from there to the end.
    pub(super) rest: usize,
    /// The keys in whole batches that follow.
    pub(super) later_keys: Vec<Vec<u8>>,
    /// The number of whole batches that follow.
    pub(super) later_batches: usize,
    /// Whether acknowledged data is damaged. If not, the write was interrupted and never acknowledged.
    pub(super) is_damage: bool,
}

/// Finds the broken journals in this folder. `was_synced` returns whether a batch was synced when it was acknowledged.
pub(super) fn inspect(
    folder: &Path,
    was_synced: impl Fn(&Batch<'_>) -> bool,
) -> io::Result<Vec<BrokenJournal>> {
    let journals = list(folder)?;
    let newest = journals.len().saturating_sub(1);
    let mut broken_journals = Vec::new();
    for (index, file) in journals.into_iter().enumerate() {
        let bytes = read(&file)?;
        let Err(broken) = check_batches(&bytes) else { continue };
        let later = later_batches(&bytes, &broken);
        let region_end = later.first().map_or(bytes.len(), |later| later.start);
        let has_hole = has_zeroed_sector(&bytes, broken.at, region_end);
        let ends_early = later.is_empty() && broken.reached_end;
        // fjall syncs a journal before it begins the next one.
        let is_damage = index < newest || !(has_hole || ends_early) || later.iter().any(&was_synced);
        broken_journals.push(BrokenJournal {
            at: broken.at,
            rest: bytes.len() - broken.at,
            later_keys: later.iter().flat_map(|batch| &batch.keys).map(|key| key.to_vec()).collect(),
            later_batches: later.len(),
            is_damage,
            file,
        });
    }
    Ok(broken_journals)
}

/// Truncates the newest journal in this folder if a write was interrupted. For `was_synced` see [`inspect`].
///
/// # Errors
/// See [`JournalError`]. No damaged file is changed.
pub(super) fn repair(folder: &Path, was_synced: impl Fn(&Batch<'_>) -> bool) -> Result<(), JournalError> {
    for BrokenJournal { file, at, rest, later_batches, is_damage, .. } in inspect(folder, was_synced)? {
        if is_damage {
            return Err(JournalError::Damaged { file, at });
        }
        truncate(&file, at)?;
        tracing::warn!(
            journal = %file.display(),
            dropped_bytes = rest,
            dropped_whole_batches = later_batches,
            "truncated the journal after an interrupted write, which was never acknowledged"
        );
    }
    Ok(())
}

/// Removes the empty files that an interrupted creation of a database has left in this folder. As long as its marker is
/// missing, fjall treats a database as new, but it fails to create one if there is a journal.
pub(super) fn remove_unfinished(folder: &Path) -> io::Result<()> {
    let marker = folder.join("version");
    let is_marked = none_if_not_found(fs::metadata(&marker))?.is_some_and(|marker| marker.len() > 0);
    let journals = list(folder)?;
    let tables = none_if_not_found(fs::read_dir(folder.join("keyspaces")))?;
    if is_marked || tables.is_some_and(|mut tables| tables.next().is_some()) {
        return Ok(());
    }
    for journal in &journals {
        if !read(journal)?.is_empty() {
            return Ok(());
        }
    }
    // The marker goes first: should this be interrupted, the next start removes the journals.
    for file in [marker].iter().chain(&journals) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Turns `NotFound` into `None`. Other errors do not mean that the file is missing.
fn none_if_not_found<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Syncs the newest journal in this folder. fjall syncs a journal before it begins the next one.
pub(super) fn sync_newest(folder: &Path) -> io::Result<()> {
    let Some(newest) = list(folder)?.pop() else { return Ok(()) };
    match fs::File::open(newest) {
        Ok(file) => file.sync_all(),
        // fjall removed the journal in the meantime, because its content is in a table.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lists the journals of a folder, oldest first.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
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

/// Reads a journal without the zeros at its end. They are preallocated space.
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

/// Truncates a journal. Copies the removed bytes to a file next to it, if there is space.
fn truncate(journal: &Path, at: usize) -> io::Result<()> {
    let bytes = read(journal)?;
    let kept = journal.with_extension("dropped");
    if let Err(error) = fs::write(&kept, &bytes[at..]) {
        tracing::warn!(%error, "failed to copy the end of the journal to a file before truncating it");
        let _ = fs::remove_file(&kept);
    }
    let file = OpenOptions::new().write(true).open(journal)?;
    file.set_len(at as u64)?;
    file.sync_all()
}

/// The first broken batch of a journal.
struct BrokenBatch {
    at: usize,
    /// The sequence number of the last whole batch before it.
    sequence: Option<u64>,
    /// Whether the data ends before the batch does.
    reached_end: bool,
}

/// Reads all batches of a journal, and fails at the first broken one.
fn check_batches(bytes: &[u8]) -> Result<(), BrokenBatch> {
    let (mut at, mut sequence) = (0, None);
    while at < bytes.len() {
        match read_batch(bytes, at) {
            Ok(batch) => {
                at = batch.end;
                sequence = Some(batch.sequence);
            }
            Err(failure) => {
                let reached_end = failure.read_to >= bytes.len() && !failure.is_complete;
                return Err(BrokenBatch { at, sequence, reached_end });
            }
        }
    }
    Ok(())
}

/// The search for whole batches reads at most this many times the length of the journal.
const MAX_PASSES: usize = 16;

/// Finds the whole batches that follow a broken one.
fn later_batches<'a>(bytes: &'a [u8], broken: &BrokenBatch) -> Vec<Batch<'a>> {
    let mut found = Vec::new();
    let (mut at, mut sequence) = (broken.at + 1, broken.sequence);
    // Messages may be crafted to contain bytes that look like the start of a batch.
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
            Ok(Batch { end: read_to, .. }) | Err(BatchError { read_to, .. }) => read_to,
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

/// There is no whole batch at a position.
struct BatchError {
    /// Where reading stopped.
    read_to: usize,
    /// Whether the batch has all its parts, and only its checksum is wrong.
    is_complete: bool,
}

/// Reads the batch at a position.
fn read_batch(bytes: &[u8], at: usize) -> Result<Batch<'_>, BatchError> {
    let mut reader = Reader { bytes, at, is_complete: false };
    let batch = reader.batch();
    batch.ok_or(BatchError { read_to: reader.at, is_complete: reader.is_complete })
}

/// Reads fjall's journal format: `start, items, end` with little-endian numbers. The end has a checksum of the items.
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

    /// Reads an item and returns its key. The clearing of a keyspace has no key.
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
    fn an_interrupted_creation_is_repeated_and_nothing_written_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(folder.path().join("keyspaces")).expect("a folder");
        for has_marker in [false, true] {
            let allocated = fs::File::create(folder.path().join("0.jnl")).expect("a journal");
            allocated.set_len(1 << 20).expect("zeros");
            if has_marker {
                fs::File::create(folder.path().join("version")).expect("an empty marker");
            }
            remove_unfinished(folder.path()).expect("removed");
            assert!(list(folder.path()).expect("readable").is_empty());
        }
        Database::builder(&folder).open().expect("it opens");

        let folder = written();
        remove_unfinished(folder.path()).expect("nothing to remove");
        fs::remove_file(folder.path().join("version")).expect("the marker is lost");
        remove_unfinished(folder.path()).expect("nothing to remove");
        assert!(!read(&journal(&folder)).expect("readable").is_empty());
    }

    fn journal(folder: &TempDir) -> PathBuf {
        list(folder.path()).expect("readable").pop().expect("a journal")
    }

    /// The positions of all batches.
    fn starts(bytes: &[u8]) -> Vec<usize> {
        let mut starts = vec![0];
        while let Ok(batch) = read_batch(bytes, *starts.last().expect("one")) {
            starts.push(batch.end);
        }
        starts.pop();
        starts
    }

    /// Changes the journal. The closure gets the positions of all batches.
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
        let database = Database::builder(folder).open().expect("a repaired database opens");
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
    fn a_whole_journal_is_not_changed() {
        let folder = written();
        let before = fs::read(journal(&folder)).expect("readable");
        repair(folder.path(), |_| true).expect("nothing to repair");
        assert!(before == fs::read(journal(&folder)).expect("readable"));
        assert_eq!(numbers_after_repair(&folder), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_folder_without_journals_is_not_changed() {
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
    fn batches_that_were_not_synced_are_dropped_after_a_missing_page() {
        let folder = written();
        change(&folder, |bytes, starts| zero_a_page(bytes, starts[2]));
        repair(folder.path(), |_| false).expect("repaired");
        assert_eq!(numbers_after_repair(&folder), [0, 1]);
    }

    #[test]
    fn corrupt_bytes_are_refused_even_in_the_last_batch() {
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
