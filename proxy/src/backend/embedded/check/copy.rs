//! A copy of a data directory to read from: the storage engine writes to what it opens.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::journal::Flaw;

/// The engine never changes the files in these folders, so that links to them are enough.
const UNCHANGED: [&str; 2] = ["tables", "blobs"];

/// A temporary copy of a database. It is removed when this is dropped.
pub(super) struct Copy {
    directory: TempDir,
}

impl Copy {
    /// Copies a database without what is broken in its journals.
    pub(super) fn of(database: &Path, flaws: &[Flaw]) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        // The links need a path that does not depend on the working directory.
        copy(&database.canonicalize()?, directory.path(), &|file| {
            let is_same = |flaw: &&Flaw| flaw.file.file_name() == file.file_name();
            flaws.iter().find(is_same).map(|flaw| flaw.at as u64)
        })?;
        Ok(Self { directory })
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

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
