//! Locks the data directory for one process, and checks that it belongs to this program and has a known format.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::config::Flush;

/// The version of the storage layout in `store.rs`. It is raised with every change that older binaries can't read.
const FORMAT: &str = "rocketmq-thin-proxy data, format 1";
const FORMAT_FILE: &str = "FORMAT";
const NEW_FORMAT_FILE: &str = "FORMAT.new";
const LOCK_FILE: &str = "LOCK";
const FLUSH_FILE: &str = "FLUSH";
/// Exists after a proxy has synced everything and stopped.
const CLEAN_FILE: &str = "CLEAN";

/// Why a data directory can't be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process uses the directory.
    #[error("the data directory {0} is in use by another process; give each proxy its own (--data-dir)")]
    InUse(PathBuf),
    /// A proxy uses the directory that should be read.
    #[error(
        "the data directory {0} is in use by a proxy: stop the proxy first, or read a copy of the directory"
    )]
    Running(PathBuf),
    /// The directory that should be read is not a data directory of this program.
    #[error("{0} is not a data directory of rocketmq-thin-proxy")]
    NoData(PathBuf),
    /// The directory contains files of another program.
    #[error(
        "{0} is not empty and not a data directory of rocketmq-thin-proxy; give another one (--data-dir)"
    )]
    Foreign(PathBuf),
    /// The target of a copy is not empty.
    #[error("{0} is not empty: the copy needs a directory of its own")]
    NotEmpty(PathBuf),
    /// The directory was written by another version.
    #[error("the data directory {0} has the format {1:?}, and this binary reads only {FORMAT:?}")]
    OtherFormat(PathBuf, String),
    /// The content of the directory can't be read.
    #[error(
        "the data directory {0} is damaged: {1}. `rocketmq-thin-proxy store check` says what is lost. Restore the directory \
         from a backup, or copy what can be read to a new one with `rocketmq-thin-proxy store copy`"
    )]
    Damaged(PathBuf, String),
    /// Topics, groups or users can't be read.
    #[error(
        "topics, groups or users in the data directory {0} can't be read: {1}. The proxy does not start without them, \
         because requests would create the missing ones anew, without their messages and settings. \
         `rocketmq-thin-proxy store check` says what is lost. Restore the directory from a backup, or copy what can be \
         read to a new one with `rocketmq-thin-proxy store copy`"
    )]
    DamagedCatalog(PathBuf, String),
    /// Acknowledged data in a journal is damaged.
    #[error(
        "the journal {file} is damaged at byte {at}, and acknowledged data follows. Restore the data directory from a \
         backup, or drop everything after that with: truncate --size={at} {file}"
    )]
    DamagedJournal {
        /// The journal.
        file: PathBuf,
        /// Where the damage begins.
        at: usize,
    },
    /// The operating system refuses access.
    #[error("the data directory {0} can't be used: {1}")]
    Io(PathBuf, io::Error),
}

/// A data directory that only this process uses, until this value is dropped.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    /// Whether the messages that the last proxy stored may not have reached the disk, although later writes have: with
    /// [`Flush::Async`], after a power failure. It is not known whether there was one, only that the proxy did not stop
    /// cleanly.
    pub(super) may_lack_messages: bool,
    // The operating system releases the lock when the process ends in any way.
    lock: File,
}

impl Drop for DataDirectory {
    /// Unlocks the directory. Closing the file is not enough: a child process that another thread forks at this moment
    /// inherits the file, and keeps the lock until it executes its own program.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, path = %self.path.display(), "failed to unlock the data directory");
        }
    }
}

impl DataDirectory {
    /// Locks the directory. It is created if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
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
        let mut directory = Self { path: path.to_owned(), may_lack_messages: false, lock };
        directory.may_lack_messages = directory.was_interrupted().map_err(io)?;
        Ok(directory)
    }

    /// Locks an existing directory for reading, without writing to it. Other readers may lock it, too, but no proxy.
    pub(super) fn open_to_read(path: &Path) -> Result<Self, OpenError> {
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
            // A copy of a directory that lacks the lock file. Nobody uses it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::open(path.join(FORMAT_FILE)).map_err(io)?
            }
            Err(error) => return Err(io(error)),
        };
        lock.try_lock_shared().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Running(path.to_owned()),
            TryLockError::Error(error) => io(error),
        })?;
        Ok(Self { path: path.to_owned(), may_lack_messages: false, lock })
    }

    /// Whether a proxy that does not sync messages used the directory last and did not stop cleanly. Removes the trace of a
    /// clean stop, because this process may not stop cleanly.
    fn was_interrupted(&self) -> io::Result<bool> {
        match fs::remove_file(self.path.join(CLEAN_FILE)) {
            Ok(()) => sync(&self.path).map(|()| false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(self.recorded_flush()? == Some(Flush::Async))
            }
            Err(error) => Err(error),
        }
    }

    /// Records that everything is synced and that nothing is written any more.
    pub(super) fn record_clean_stop(&self) -> io::Result<()> {
        File::create(self.path.join(CLEAN_FILE))?.sync_all()?;
        sync(&self.path)
    }

    /// The flush mode of the proxy that used the directory last. `None` if it is not recorded.
    pub(super) fn recorded_flush(&self) -> io::Result<Option<Flush>> {
        match fs::read_to_string(self.path.join(FLUSH_FILE)) {
            Ok(text) if text.trim() == "async" => Ok(Some(Flush::Async)),
            Ok(_) => Ok(Some(Flush::Sync)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Records the flush mode. A check of the journal needs it to tell an interrupted write from damage.
    pub(super) fn record_flush(&self, flush: Flush) -> io::Result<()> {
        if self.recorded_flush()? == Some(flush) {
            return Ok(());
        }
        let text = if flush == Flush::Sync { "sync\n" } else { "async\n" };
        let mut file = File::create(self.path.join(FLUSH_FILE))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync(&self.path)
    }

    /// The path of a file or folder in the directory.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Syncs the entries of a folder in the directory.
    pub(super) fn sync_folder(&self, folder: &str) -> Result<(), OpenError> {
        sync(&self.path.join(folder)).map_err(|error| OpenError::Io(self.path.clone(), error))
    }

    /// The directory itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Creates the directory and its missing parents, and syncs their entries.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            create(parent)?;
            create_folder(path)?;
            sync(parent)
        }
        _ => {
            create_folder(path)?;
            sync(Path::new("."))
        }
    }
}

fn create_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        // Another process may have created it in the meantime.
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
        // A process that was killed before it wrote the format file leaves these.
        let name = entry.map_err(io)?.file_name();
        if name != LOCK_FILE && name != NEW_FORMAT_FILE && name != "lost+found" {
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
            let new_file = path.join(NEW_FORMAT_FILE);
            let mut out = File::create(&new_file).map_err(io)?;
            out.write_all(format!("{FORMAT}\n").as_bytes()).map_err(io)?;
            out.sync_all().map_err(io)?;
            fs::rename(&new_file, &file).map_err(io)?;
            sync(path).map_err(io)
        }
        Err(error) => Err(io(error)),
    }
}
