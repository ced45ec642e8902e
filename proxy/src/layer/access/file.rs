//! The file of users and policies: TOML, with sealed secrets. `rocketmq-thin-proxy user` and `acl` change it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::policy::{Action, Actions, Effect, Entry, Pattern, Policies};
use super::rules::{Rules, User};
use super::seal::SecretKey;
use crate::durable_file;

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

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tables {
    /// The users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserEntry>,
    /// The policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyEntry>,
}

/// A user in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserEntry {
    /// The name, which is also the access key.
    pub name: String,
    /// The sealed secret.
    pub secret: String,
    /// Whether the user needs policies.
    #[serde(default, rename = "type")]
    pub kind: UserKind,
    /// Whether the user may do anything at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Names in client certificates. A connection with one of them needs no signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
}

fn yes() -> bool {
    true
}

/// Whether a user needs policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserKind {
    /// May do what policies allow.
    #[default]
    Normal,
    /// May do everything.
    Super,
}

/// A policy in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyEntry {
    /// The user whom it concerns.
    pub user: String,
    /// The resources, as [`Pattern`] reads them.
    pub resource: String,
    /// What it is about.
    pub actions: Vec<Action>,
    /// The networks that requests come from. Everywhere if it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<IpNet>,
    /// Whether it allows or denies.
    #[serde(default)]
    pub effect: Effect,
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
        toml::from_str(&text)
            .map_err(|error| AccessError::Parse { path: self.path.clone(), source: Box::new(error) })
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
        let key = self.key()?;
        let mut rules = Rules::default();
        for UserEntry { name, secret, kind, enabled, certificates } in &tables.users {
            // Signatures name their user in a list with these separators.
            if name.is_empty() || name.contains(['/', ',', '=', ' ']) {
                return Err(self.content(format!("{name:?} can't be a user's name")));
            }
            let Some(secret) = key.open(name, secret) else {
                let key = self.key_path.display();
                return Err(
                    self.content(format!("the secret of user {name} can't be opened with the key in {key}"))
                );
            };
            let user = User {
                kind: *kind,
                enabled: *enabled,
                secret: secret.into(),
                policies: Policies::default(),
                defaults: Policies::default(),
            };
            if !rules.add_user(name.clone(), user) {
                return Err(self.content(format!("there are two users {name}")));
            }
            for certificate in certificates {
                if !rules.add_certificate(certificate.clone(), name.clone()) {
                    return Err(self.content(format!("two users have the certificate {certificate:?}")));
                }
            }
        }
        for (index, PolicyEntry { user, resource, actions, from, effect }) in
            tables.policies.iter().enumerate()
        {
            let pattern: Pattern = resource.parse().map_err(|reason| self.content(reason))?;
            if actions.is_empty() {
                return Err(self.content(format!("a policy of {user} for {resource} names no action")));
            }
            let entry = Entry { actions: Actions::of(actions), from: from.clone(), effect: *effect, index };
            if !rules.add_policy(user, pattern, entry) {
                return Err(self
                    .content(format!("a policy for {resource} names the user {user}, who does not exist")));
            }
        }
        Ok(rules)
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
