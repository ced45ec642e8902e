//! The file of users and policies: TOML, with sealed secrets. `rocketmq-thin-proxy user` and `acl` change it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

use super::rules::{Asked, Rules};
use super::seal::SecretKey;
use super::tables::{Explanation, Tables};
use crate::durable_file;
use crate::service::ServiceError;

/// What stands above the tables of a file that is written here.
const HEADER: &str = "\
# Users and policies of rocketmq-thin-proxy. `rocketmq-thin-proxy user` and `rocketmq-thin-proxy acl` change this file, and
# do not keep comments. A running proxy takes changes over within seconds.

";

/// Where users and policies are, and the key of their secrets.
#[derive(Clone, Debug)]
pub struct AccessFile {
    path: PathBuf,
    key_path: PathBuf,
}

/// What is wrong with the files of access control.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The system refuses.
    #[error("access control: {}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It is no TOML of this form.
    #[error("access control: {}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The position and the reason.
        source: Box<toml::de::Error>,
    },
    /// What it says makes no sense.
    #[error("access control: {}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The catalog can't be read or written.
    #[error("access control: {0}")]
    Catalog(#[from] ServiceError),
    /// What the catalog contains makes no sense.
    #[error("access control: the catalog: {0}")]
    CatalogContent(String),
}

/// Tells one version of the file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(SystemTime, u64, u64)>);

/// A file that was read.
pub(super) struct Loaded {
    pub(super) rules: Rules,
    pub(super) stamp: Stamp,
}

impl Stamp {
    /// That of the file now.
    pub(super) fn of(path: &Path) -> Self {
        let found = fs::metadata(path).ok();
        Self(found.and_then(|found| Some((found.modified().ok()?, found.len(), found.ino()))))
    }
}

impl AccessFile {
    /// The file at this path. Its key is by default beside it.
    #[must_use]
    pub fn new(path: &Path, key_path: Option<&Path>) -> Self {
        let beside = || {
            let mut name = path.as_os_str().to_owned();
            name.push(".key");
            PathBuf::from(name)
        };
        Self { path: path.to_owned(), key_path: key_path.map_or_else(beside, Path::to_owned) }
    }

    /// Whether it exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// The file with the key of its secrets.
    #[must_use]
    pub fn key_path(&self) -> &Path {
        &self.key_path
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key of its secrets.
    ///
    /// # Errors
    /// `System`.
    pub fn key(&self) -> Result<SecretKey, AccessError> {
        SecretKey::of_file(&self.key_path)
            .map_err(|source| AccessError::System { path: self.key_path.clone(), source })
    }

    /// Its content.
    ///
    /// # Errors
    /// `System`, `Parse`.
    pub fn read(&self) -> Result<Tables, AccessError> {
        let text = fs::read_to_string(&self.path).map_err(|source| self.system(source))?;
        let parsed: Tables = toml::from_str(&text)
            .map_err(|error| AccessError::Parse { path: self.path.clone(), source: Box::new(error) })?;
        Ok(parsed.numbered())
    }

    /// Replaces its content, in one step and durably. It is readable only by its owner.
    ///
    /// # Errors
    /// `Content` if it makes no sense; `System`.
    pub fn write(&self, tables: &Tables) -> Result<(), AccessError> {
        self.rules(tables)?;
        let text = toml::to_string(tables).map_err(|error| self.content(error.to_string()))?;
        durable_file::replace(&self.path, format!("{HEADER}{text}").as_bytes())
            .map_err(|source| self.system(source))
    }

    /// Keeps other processes from changing the content until the result is dropped. Waits for one that does.
    ///
    /// # Errors
    /// `System`.
    pub fn lock(&self) -> Result<File, AccessError> {
        // The file itself is replaced. The key stays, and is made if it is missing.
        self.key()?;
        let lock = || {
            let key = File::open(&self.key_path)?;
            key.lock()?;
            Ok(key)
        };
        lock().map_err(|source| AccessError::System { path: self.key_path.clone(), source })
    }

    /// Reads it, and checks it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn load(&self) -> Result<Loaded, AccessError> {
        // A change after this is seen at the next look.
        let stamp = self.stamp();
        Ok(Loaded { rules: self.rules(&self.read()?)?, stamp })
    }

    /// Users and policies for lookups.
    ///
    /// # Errors
    /// `Content` if they make no sense; `System` if there is no key.
    pub fn rules(&self, tables: &Tables) -> Result<Rules, AccessError> {
        tables.rules(&self.key()?, &self.key_path).map_err(|reason| self.content(reason))
    }

    /// What it decides about a request, and why.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn explain(&self, user: &str, asked: &Asked) -> Result<Explanation, AccessError> {
        let tables = self.read()?;
        Ok(Explanation::of(self.rules(&tables)?.explain(user, asked), user, &tables.policies))
    }

    /// Changes when the file does.
    pub(super) fn stamp(&self) -> Stamp {
        Stamp::of(&self.path)
    }

    fn system(&self, source: io::Error) -> AccessError {
        AccessError::System { path: self.path.clone(), source }
    }

    fn content(&self, reason: String) -> AccessError {
        AccessError::Content { path: self.path.clone(), reason }
    }
}
