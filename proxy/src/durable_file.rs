//! Writes small files that survive a power loss. Only their owner may read them.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes or replaces a file atomically: readers see either the old or the new content.
///
/// # Errors
/// Errors of the file system. The old content is then unchanged.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    write_temporary(path, content)?.persist(path)?;
    sync(folder(path))
}

/// Creates a file atomically.
///
/// # Errors
/// `AlreadyExists`, and other errors of the file system.
pub(crate) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    write_temporary(path, content)?.persist_noclobber(path)?;
    sync(folder(path))
}

fn write_temporary(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(folder(path))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

// Without this, a power loss may undo the renaming.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
