//! Measures how many bytes topics and the store take on the disk.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::catalog::Catalog;
use super::keys;
use super::queue::Queue;
use super::store::{Store, corrupt, unavailable};
use crate::service::{DiskStats, ServiceError, ServiceErrorKind, StoreStats, StoredBytes, TopicUsage};

/// The maximum number of chunks of a queue that are measured. The size of the others is estimated from them.
const MAX_MEASURED: usize = 2000;
/// The maximum number of topics in the statistics of the store.
const MAX_TOPICS: usize = 1000;

/// Returns the bytes that the messages in these queues take. Reads the disk.
pub(super) fn stored_bytes(queues: &[Arc<Queue>], store: &Store) -> Result<StoredBytes, ServiceError> {
    let mut sum = StoredBytes::default();
    for queue in queues {
        let bytes = bytes_of(queue, store)?;
        sum.count += bytes.count;
        sum.estimated |= bytes.estimated;
    }
    Ok(sum)
}

fn bytes_of(queue: &Queue, store: &Store) -> Result<StoredBytes, ServiceError> {
    let (start, end) = queue.range();
    let log = store.log()?;
    let (lower, upper) =
        (keys::chunk(queue.topic(), queue.id(), start), keys::chunk(queue.topic(), queue.id(), end));
    let mut chunks = log.range(lower..upper);
    let mut measured = 0u64;
    for chunk in chunks.by_ref().take(MAX_MEASURED) {
        measured += u64::from(chunk.size().map_err(|e| unavailable(&e))?);
    }
    let Some(next) = chunks.next() else { return Ok(StoredBytes { count: measured, estimated: false }) };
    let key = next.key().map_err(|e| unavailable(&e))?;
    let covered = keys::chunk_first(&key).ok_or_else(|| corrupt("chunk key"))?.saturating_sub(start).max(1);
    let count = measured as f64 * (end - start) as f64 / covered as f64;
    Ok(StoredBytes { count: count as u64, estimated: true })
}

/// The free and the total space of a file system, in bytes.
pub(super) struct Space {
    pub(super) free: u64,
    pub(super) total: u64,
}

/// Returns the space of the file system that contains this path.
pub(super) fn space(path: &Path) -> io::Result<Space> {
    let space = rustix::fs::statvfs(path)?;
    Ok(Space { free: space.f_bavail * space.f_frsize, total: space.f_blocks * space.f_frsize })
}

/// Returns the disk usage of the store and its topics. Reads the disk.
pub(super) fn store_stats(store: &Store, catalog: &Catalog) -> Result<StoreStats, ServiceError> {
    let mut topics = Vec::new();
    for topic in catalog.topics() {
        let queues = topic.peek_queues(store)?;
        let messages: u64 = queues.iter().map(|queue| queue.range()).map(|(start, end)| end - start).sum();
        if messages > 0 {
            let bytes = stored_bytes(&queues, store)?;
            topics.push(TopicUsage { name: topic.config().name, messages: messages as i64, bytes });
        }
    }
    topics.sort_by_key(|topic| std::cmp::Reverse(topic.bytes.count));
    let truncated = topics.len() > MAX_TOPICS;
    topics.truncate(MAX_TOPICS);
    Ok(StoreStats {
        directory: store.path().display().to_string(),
        disk: disk_stats(store)?,
        topics,
        truncated,
    })
}

/// Returns the disk usage of the store without its topics. Reads the folders of the data directory.
pub(super) fn disk_stats(store: &Store) -> Result<DiskStats, ServiceError> {
    let path = store.path();
    let failed = |error: io::Error| {
        let text = format!("failed to measure {}: {error}", path.display());
        ServiceError::new(ServiceErrorKind::Unavailable, text)
    };
    let space = space(path).map_err(failed)?;
    Ok(DiskStats {
        usage: usage_by_kind(path).map_err(failed)?,
        free_bytes: space.free,
        total_bytes: space.total,
        failure: store.failure(),
        writes: store.message_writes.counts(),
    })
}

/// Returns the bytes in each folder of the data directory, with journals counted separately.
fn usage_by_kind(path: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut usage = Vec::new();
    let mut other = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            other += entry.metadata()?.len();
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut folder = FolderUsage::default();
        folder.add(&entry.path())?;
        usage.push((format!("{name} journal"), folder.journals));
        usage.push((name, folder.others));
    }
    usage.push(("other".to_owned(), other));
    usage.retain(|(_, bytes)| *bytes > 0);
    usage.sort();
    Ok(usage)
}

#[derive(Default)]
struct FolderUsage {
    journals: u64,
    others: u64,
}

impl FolderUsage {
    fn add(&mut self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // The storage engine may remove files at any time.
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.is_dir() {
                self.add(&entry.path())?;
            } else if entry.path().extension().is_some_and(|extension| extension == "jnl") {
                self.journals += allocated(&metadata);
            } else {
                self.others += allocated(&metadata);
            }
        }
        Ok(())
    }
}

/// The bytes that a file takes on the disk. The length of a journal includes preallocated space.
fn allocated(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.blocks() * 512
}
