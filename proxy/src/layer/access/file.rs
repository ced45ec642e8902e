//! The file of users and policies, in TOML with sealed secrets. `rocketmq-thin-proxy user` and `acl` change it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::acl_index::{AccessQuery, AclIndex};
use super::secret_encryption::SecretKey;
use super::stored_acl::{Explanation, StoredAcl};
use crate::durable_file;
use crate::file_version::FileVersion;
use crate::service::ServiceError;

/// The comment at the top of a written file.
const HEADER: &str = "\
# Users and policies of rocketmq-thin-proxy. Change this file with `rocketmq-thin-proxy user` and `rocketmq-thin-proxy acl`,
# which drop comments. A running proxy applies changes within seconds.

";

/// The paths of the file of users and policies, and of the key that seals its secrets.
#[derive(Clone, Debug)]
pub struct AccessFile {
    path: PathBuf,
    key_path: PathBuf,
}

/// Why users and policies can't be read or written.
#[derive(Debug, Error)]
pub enum AccessError {
    /// A file can't be read or written.
    #[error("access control: {}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file is not TOML of the expected form.
    #[error("access control: {}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The position and the reason.
        source: Box<toml::de::Error>,
    },
    /// The content of a file is invalid.
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
    /// The content of the catalog is invalid.
    #[error("access control: the catalog: {0}")]
    CatalogContent(String),
}

/// The users and policies of a file, and the version that they were loaded from.
pub(super) struct LoadedAcl {
    pub(super) acl_index: AclIndex,
    pub(super) version: FileVersion,
}

impl AccessFile {
    /// The file at this path. By default, the path of its key is the same with `.key` appended.
    #[must_use]
    pub fn new(path: &Path, key_path: Option<&Path>) -> Self {
        let default = || {
            let mut name = path.as_os_str().to_owned();
            name.push(".key");
            PathBuf::from(name)
        };
        Self { path: path.to_owned(), key_path: key_path.map_or_else(default, Path::to_owned) }
    }

    /// Whether the file exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// The path of the key that seals the secrets.
    #[must_use]
    pub fn key_path(&self) -> &Path {
        &self.key_path
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the key that seals the secrets, or creates it.
    ///
    /// # Errors
    /// `System`.
    pub fn key(&self) -> Result<SecretKey, AccessError> {
        SecretKey::of_file(&self.key_path)
            .map_err(|source| AccessError::System { path: self.key_path.clone(), source })
    }

    /// Reads the content.
    ///
    /// # Errors
    /// `System`, `Parse`.
    pub fn read(&self) -> Result<StoredAcl, AccessError> {
        let text = fs::read_to_string(&self.path).map_err(|source| self.system(source))?;
        let parsed: StoredAcl = toml::from_str(&text)
            .map_err(|error| AccessError::Parse { path: self.path.clone(), source: Box::new(error) })?;
        Ok(parsed.with_numbers())
    }

    /// Replaces the content, atomically and durably. Only the owner can read the file.
    ///
    /// # Errors
    /// `Content` if the content is invalid; `System`.
    pub fn write(&self, acl: &StoredAcl) -> Result<(), AccessError> {
        self.acl_index(acl)?;
        let text = toml::to_string(acl).map_err(|error| self.content(error.to_string()))?;
        durable_file::replace(&self.path, format!("{HEADER}{text}").as_bytes())
            .map_err(|source| self.system(source))
    }

    /// Locks the content against changes by other processes until the result is dropped. Waits for the lock.
    ///
    /// # Errors
    /// `System`.
    pub fn lock(&self) -> Result<File, AccessError> {
        // The lock is on the key, because the file itself is replaced.
        self.key()?;
        let lock = || {
            let key = File::open(&self.key_path)?;
            key.lock()?;
            Ok(key)
        };
        lock().map_err(|source| AccessError::System { path: self.key_path.clone(), source })
    }

    /// Loads the users and policies, with the version of the file.
    ///
    /// # Errors
    /// The file can't be read, or is invalid.
    pub(super) fn load(&self) -> Result<LoadedAcl, AccessError> {
        // Taken before reading, so that a later change is noticed by the next reload.
        let version = self.version();
        Ok(LoadedAcl { acl_index: self.acl_index(&self.read()?)?, version })
    }

    /// The index of these users and policies.
    ///
    /// # Errors
    /// `Content` if they are invalid; `System` if the key can't be read.
    pub fn acl_index(&self, acl: &StoredAcl) -> Result<AclIndex, AccessError> {
        acl.acl_index(&self.key()?, &self.key_path).map_err(|reason| self.content(reason))
    }

    /// Explains which decision a request would get, and why.
    ///
    /// # Errors
    /// The file can't be read, or is invalid.
    pub fn explain(&self, user: &str, query: &AccessQuery) -> Result<Explanation, AccessError> {
        let acl = self.read()?;
        Ok(Explanation::of(self.acl_index(&acl)?.explain(user, query), user, &acl.policies))
    }

    /// The current version of the file.
    pub(super) fn version(&self) -> FileVersion {
        FileVersion::of(&self.path)
    }

    fn system(&self, source: io::Error) -> AccessError {
        AccessError::System { path: self.path.clone(), source }
    }

    fn content(&self, reason: String) -> AccessError {
        AccessError::Content { path: self.path.clone(), reason }
    }
}
