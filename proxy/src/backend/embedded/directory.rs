//! The data directory: it belongs to this program, has a format that this version reads, and is used by one process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::config::Flush;

/// The storage layout of `store.rs`. Raised by every change that older binaries can't read.
const FORMAT: &str = "rocketmq-thin-proxy data, format 1";
const FORMAT_FILE: &str = "FORMAT";
const FRESH_FORMAT_FILE: &str = "FORMAT.new";
const LOCK_FILE: &str = "LOCK";
const FLUSH_FILE: &str = "FLUSH";

/// Why a data directory can't be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("the data directory {0} is in use by another process; give each proxy its own (--data-dir)")]
    InUse(PathBuf),
    /// A proxy uses the directory that was to be read.
    #[error(
        "the data directory {0} is in use by a proxy: stop the proxy first, or read a copy of the directory"
    )]
    Running(PathBuf),
    /// The directory that was to be read is none of this program.
    #[error("{0} is not a data directory of rocketmq-thin-proxy")]
    NoData(PathBuf),
    /// It holds something else.
    #[error(
        "{0} is not empty and not a data directory of rocketmq-thin-proxy; give another one (--data-dir)"
    )]
    Foreign(PathBuf),
    /// A copy needs a new directory.
    #[error("{0} is not empty: the copy needs a directory of its own")]
    NotEmpty(PathBuf),
    /// It was written by another version.
    #[error("the data directory {0} has the format {1:?}, and this binary reads only {FORMAT:?}")]
    OtherFormat(PathBuf, String),
    /// Its content can't be read.
    #[error("the data directory {0} is damaged: {1}")]
    Damaged(PathBuf, String),
    /// Acknowledged data in a journal is damaged.
    #[error(
        "the journal {file} is damaged at byte {at}, and acknowledged data follows. Restore the data directory from a \
         backup, or give up everything from there on with: truncate --size={at} {file}"
    )]
    DamagedJournal {
        /// The journal.
        file: PathBuf,
        /// Where the damage begins.
        at: usize,
    },
    /// The operating system refuses.
    #[error("the data directory {0} can't be used: {1}")]
    Io(PathBuf, io::Error),
}

/// A data directory that only this process uses, until this value is dropped.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    // The operating system releases its lock when the process ends in any way.
    lock: File,
}

impl Drop for DataDirectory {
    /// Closing the file is not enough: a child process that another thread starts just now has it, too, until it runs its own
    /// program, and would keep the lock for that moment.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, path = %self.path.display(), "the data directory was not unlocked");
        }
    }
}

impl DataDirectory {
    /// Locks the directory. It is created if it is missing.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io(path.to_owned(), error);
        create(path).map_err(io)?;
        refuse_foreign(path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(io)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse(path.to_owned()),
            TryLockError::Error(error) => io(error),
        })?;
        check_format(path)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Locks a directory that exists, without writing to it. Others may do the same meanwhile, but no proxy can use it.
    pub(super) fn take_to_read(path: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io(path.to_owned(), error);
        match fs::read_to_string(path.join(FORMAT_FILE)) {
            Ok(found) if found.trim() == FORMAT => {}
            Ok(found) => return Err(OpenError::OtherFormat(path.to_owned(), found.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_dir() => {
                return Err(OpenError::NoData(path.to_owned()));
            }
            Err(error) => return Err(io(error)),
        }
        let lock = match File::open(path.join(LOCK_FILE)) {
            Ok(lock) => lock,
            // A copy without the file, which nobody uses.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::open(path.join(FORMAT_FILE)).map_err(io)?
            }
            Err(error) => return Err(io(error)),
        };
        lock.try_lock_shared().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Running(path.to_owned()),
            TryLockError::Error(error) => io(error),
        })?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Whether the proxy that used the directory last has synced messages. `None` if no one has said it.
    pub(super) fn flush(&self) -> io::Result<Option<Flush>> {
        match fs::read_to_string(self.path.join(FLUSH_FILE)) {
            Ok(text) if text.trim() == "async" => Ok(Some(Flush::Async)),
            Ok(_) => Ok(Some(Flush::Sync)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes whether messages are synced: an interrupted write looks otherwise if they are not.
    pub(super) fn note_flush(&self, flush: Flush) -> io::Result<()> {
        if self.flush()? == Some(flush) {
            return Ok(());
        }
        let text = if flush == Flush::Sync { "sync\n" } else { "async\n" };
        let mut file = File::create(self.path.join(FLUSH_FILE))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync(&self.path)
    }

    /// The path of a part of the directory.
    pub(super) fn part(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Syncs the names in a folder of the directory.
    pub(super) fn sync_names(&self, folder: &str) -> Result<(), OpenError> {
        sync(&self.path.join(folder)).map_err(|error| OpenError::Io(self.path.clone(), error))
    }

    /// The directory itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Creates the directory and those above it that are missing, and syncs their entries.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            create(parent)?;
            create_one(path)?;
            sync(parent)
        }
        _ => {
            create_one(path)?;
            sync(Path::new("."))
        }
    }
}

fn create_one(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        // Another process may have been faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created,
    }
}

/// Syncs the entries of a directory to the disk.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io(path.to_owned(), error);
    if path.join(FORMAT_FILE).try_exists().map_err(io)? {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(io)? {
        // A start that was killed before it wrote the format leaves these.
        let name = entry.map_err(io)?.file_name();
        if name != LOCK_FILE && name != FRESH_FORMAT_FILE && name != "lost+found" {
            return Err(OpenError::Foreign(path.to_owned()));
        }
    }
    Ok(())
}

fn check_format(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io(path.to_owned(), error);
    let file = path.join(FORMAT_FILE);
    match fs::read_to_string(&file) {
        Ok(found) if found.trim() == FORMAT => Ok(()),
        Ok(found) => Err(OpenError::OtherFormat(path.to_owned(), found.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fresh = path.join(FRESH_FORMAT_FILE);
            let mut out = File::create(&fresh).map_err(io)?;
            out.write_all(format!("{FORMAT}\n").as_bytes()).map_err(io)?;
            out.sync_all().map_err(io)?;
            fs::rename(&fresh, &file).map_err(io)?;
            sync(path).map_err(io)
        }
        Err(error) => Err(io(error)),
    }
}
