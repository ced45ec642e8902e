//! A temporary copy of a database, which is opened for reading because the storage engine writes to every database that
//! it opens.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::journal::BrokenJournal;

/// Files in these folders are linked and not copied, because the engine never changes them.
const UNCHANGED: [&str; 2] = ["tables", "blobs"];

/// A temporary copy of a database. It is removed when this is dropped.
pub(super) struct TemporaryCopy {
    directory: TempDir,
}

impl TemporaryCopy {
    /// Copies a database without the broken ends of its journals.
    pub(super) fn of(database: &Path, broken_journals: &[BrokenJournal]) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        // The links need a path that does not depend on the working directory.
        copy(&database.canonicalize()?, directory.path(), &|file| {
            let is_same = |journal: &&BrokenJournal| journal.file.file_name() == file.file_name();
            broken_journals.iter().find(is_same).map(|journal| journal.at as u64)
        })?;
        Ok(Self { directory })
    }

    /// The folder of the copy.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

/// Copies a folder. `length` returns the number of bytes to copy of a file, or `None` for the whole file.
fn copy(from: &Path, to: &Path, length: &dyn Fn(&Path) -> Option<u64>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let source = entry?.path();
        let Some(name) = source.file_name() else { continue };
        let target = to.join(name);
        let is_unchanged = |parent: &Path| UNCHANGED.iter().any(|folder| parent.ends_with(folder));
        if source.is_dir() {
            fs::create_dir(&target)?;
            copy(&source, &target, length)?;
        } else if is_unchanged(from) {
            symlink(&source, &target)?;
        } else if let Some(length) = length(&source) {
            io::copy(&mut File::open(&source)?.take(length), &mut File::create(&target)?)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
