//! `store copy`: copies all readable records of a damaged data directory to a new one.
//!
//! fjall can't merge a table with a damaged block, so writes to the old directory fail eventually. The copy has no
//! damaged blocks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fjall::{OwnedWriteBatch, PersistMode};
use serde::Serialize;

use super::super::catalog_keys::{read_id, record_key};
use super::super::chunk::Chunk;
use super::super::directory::{DataDirectory, OpenError};
use super::super::keys;
use super::super::progress_beyond_end::{Correction, ProgressKey};
use super::super::record_kind::RecordKind;
use super::super::store::{LOG, OpenDatabase, STATE, open_log_in, open_state_in};
use super::CheckReport;
use super::finding::{BACKUP_ADVICE, Finding};
use super::names::StoredNames;
use super::sink::Sink;

/// The result of a copy.
#[derive(Debug, Serialize)]
pub struct CopyReport {
    /// The new directory.
    pub copy: PathBuf,
    /// The check of the old directory. Damaged records are not in the copy.
    #[serde(flatten)]
    pub found: CheckReport,
}

/// The bytes of records that are written in one batch.
const BATCH_BYTES: usize = 1 << 20;
/// Larger files are not copied. The files beside the databases, such as the key of receipt handles, are small.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The number of storage threads that write tables during the copy.
const WORKER_THREADS: usize = 1;

/// Copies all readable records of a data directory that no proxy uses to a directory that does not exist or is empty.
/// The old directory is not changed. For `tell` see [`super::check`].
///
/// # Errors
/// [`OpenError`] if the old directory can't be read at all, or the new one can't be written.
pub fn copy(from: &Path, to: &Path, tell: &mut dyn FnMut(u64, u64)) -> Result<CopyReport, OpenError> {
    let failed = |error: io::Error| OpenError::Io(to.to_owned(), error);
    match fs::read_dir(to).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(OpenError::NotEmpty(to.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Before the target is created, as `from` may not be a data directory.
    let flush =
        DataDirectory::open_to_read(from)?.recorded_flush().map_err(|e| OpenError::Io(from.to_owned(), e))?;
    let directory = DataDirectory::open(to)?;
    let refused = |error: fjall::Error| OpenError::Damaged(to.to_owned(), error.to_string());
    let mut target = Target {
        log: BatchedDatabase::new(open_log_in(&directory.join(LOG), WORKER_THREADS).map_err(refused)?),
        state: BatchedDatabase::new(open_state_in(&directory.join(STATE), WORKER_THREADS).map_err(refused)?),
        ends: HashMap::new(),
        topics: HashSet::new(),
        groups: HashSet::new(),
        next_id: 1,
        orphaned: BTreeMap::new(),
    };
    let mut found = super::read(from, &mut target, tell)?;
    target.finish().map_err(refused)?;
    for (topic, records) in &target.orphaned {
        let place =
            format!("database log, {records} records of a topic with the id {topic}, whose name is lost");
        found.findings.push(Finding::damage(place, "these records are not copied", BACKUP_ADVICE));
    }
    drop(target);
    copy_files(from, to).map_err(failed)?;
    if let Some(flush) = flush {
        directory.record_flush(flush).map_err(failed)?;
    }
    for folder in ["log/keyspaces", "state/keyspaces", ""] {
        directory.sync_folder(folder)?;
    }
    Ok(CopyReport { copy: to.to_owned(), found })
}

/// Copies the other files of a data directory, such as the key of receipt handles.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (metadata, target) = (entry.metadata()?, to.join(entry.file_name()));
        if metadata.is_file() && metadata.len() <= MAX_FILE_BYTES && !target.exists() {
            fs::copy(entry.path(), &target)?;
            fs::File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}

/// A new data directory.
struct Target {
    log: BatchedDatabase,
    state: BatchedDatabase,
    /// The end of each queue, by topic and queue.
    ends: HashMap<(u32, u32), u64>,
    /// The ids of known topics and groups.
    topics: HashSet<u32>,
    groups: HashSet<u32>,
    next_id: u32,
    /// The numbers of records of unknown topics, by topic id.
    orphaned: BTreeMap<u32, u64>,
}

impl Sink for Target {
    fn state(&mut self, key: &[u8], value: &[u8]) -> fjall::Result<()> {
        self.state.insert(key, value)
    }

    fn names(&mut self, names: &StoredNames) {
        self.next_id = names.highest_id().saturating_add(1);
        self.topics = names.topic_ids();
        self.groups = names.group_ids();
    }

    fn log(&mut self, key: &[u8], value: &[u8]) -> fjall::Result<()> {
        let kind = RecordKind::of(key);
        if let Some(topic) = kind.topic().filter(|topic| !self.topics.contains(topic)) {
            *self.orphaned.entry(topic).or_default() += 1;
            return Ok(());
        }
        if let RecordKind::Chunk { topic, queue, first } = kind
            && let Ok(chunk) = Chunk::parse(first, value.to_vec().into())
        {
            let end = self.ends.entry((topic, queue)).or_default();
            *end = chunk.end().max(*end);
        }
        self.log.insert(key, value)
    }
}

impl Target {
    /// Makes both databases consistent with each other, and syncs them.
    fn finish(&mut self) -> fjall::Result<()> {
        self.state.commit(PersistMode::Buffer)?;
        // If the last messages of a queue are lost, new messages get their offsets. No group may count these as consumed.
        let mut changes = Vec::new();
        for entry in self.state.opened.iter() {
            let (key, value) = entry.into_inner()?;
            if key.starts_with(&keys::RESERVED_ID) {
                continue;
            }
            let Some(parts) = ProgressKey::parse(&key) else { continue };
            let end = self.ends.get(&(parts.topic, parts.queue)).copied().unwrap_or_default();
            let is_orphaned = !self.groups.contains(&parts.group) || !self.topics.contains(&parts.topic);
            match parts.correction(&value, end) {
                _ if is_orphaned => changes.push((key.to_vec(), None)),
                Correction::None => {}
                Correction::EndLease => changes.push((key.to_vec(), None)),
                Correction::SetCursor => changes.push((key.to_vec(), Some(end.to_be_bytes()))),
            }
        }
        for (key, value) in changes {
            match value {
                Some(value) => self.state.insert(&key, &value)?,
                None => self.state.remove(&key)?,
            }
        }
        let counter = record_key(b'n', &[]);
        let stored = self.state.opened.get(&counter)?.and_then(|id| read_id(&id).ok());
        let next_id = stored.unwrap_or_default().max(self.next_id);
        self.state.insert(&counter, &next_id.to_be_bytes())?;
        self.state.commit(PersistMode::SyncAll)?;
        self.log.commit(PersistMode::SyncAll)
    }
}

/// A database that is written in batches.
struct BatchedDatabase {
    opened: OpenDatabase,
    batch: OwnedWriteBatch,
    bytes: usize,
}

impl BatchedDatabase {
    fn new(opened: OpenDatabase) -> Self {
        Self { batch: opened.batch(PersistMode::Buffer), opened, bytes: 0 }
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> fjall::Result<()> {
        self.batch.insert(&self.opened, key, value);
        self.added(key.len() + value.len())
    }

    fn remove(&mut self, key: &[u8]) -> fjall::Result<()> {
        self.batch.remove(&self.opened, key);
        self.added(key.len())
    }

    fn added(&mut self, bytes: usize) -> fjall::Result<()> {
        self.bytes += bytes;
        if self.bytes >= BATCH_BYTES { self.commit(PersistMode::Buffer) } else { Ok(()) }
    }

    fn commit(&mut self, mode: PersistMode) -> fjall::Result<()> {
        self.bytes = 0;
        // fjall does not sync an empty batch, so an absent key is removed to make the commit sync.
        self.batch.remove(&self.opened, keys::DECISIONS);
        let next = self.opened.batch(PersistMode::Buffer);
        std::mem::replace(&mut self.batch, next).durability(Some(mode)).commit()
    }
}
