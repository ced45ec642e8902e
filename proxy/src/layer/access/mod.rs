//! Access control: authenticates the user of a request, and checks that the user is authorized.
//!
//! It is off unless the configuration has a source of users and policies ([`stored_acl`]): a file ([`mod@file`]), which is reloaded
//! when it changes; the catalog of the embedded broker ([`catalog`]), which administrators change; or Apache's brokers
//! ([`brokers`]), which are polled.
//! Users authenticate by the signatures of RocketMQ's clients ([`signature`]), by a certificate, or by a session token
//! ([`token`]). Policies follow the rules of Apache's ACL 2.0 ([`policy`]). [`rights`] lists the rights that each request
//! needs.

mod access_state;
mod acl_index;
mod administer;
mod brokers;
mod catalog;
mod failed_attempts;
mod file;
mod grant;
mod policy;
mod rights;
mod secret_encryption;
mod signature;
mod stored_acl;
mod token;
mod user_kind;
mod verified_signatures;

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::RequestFacts;
use crate::context::{Context, Host};
use crate::error::Error;
use crate::file_version::FileVersion;
use crate::service::Administration;
use access_state::AccessState;
pub use acl_index::{AccessQuery, AclIndex};
pub use catalog::FirstUser;
use catalog::{AclCatalog, OpenCatalog};
use failed_attempts::FailedAttempts;
use file::LoadedAcl;
pub use file::{AccessError, AccessFile};
pub(super) use grant::Grant;
use grant::Proof;
pub use grant::Revoked;
#[cfg(test)]
use policy::Actions;
pub use policy::{Action, Effect, Pattern, PolicyDecision, ResourceKind};
use rights::RequiredRights;
pub use rights::Right;
pub use secret_encryption::{Secret, SecretKey};
use signature::Signature;
pub use stored_acl::{Explanation, ListedUser, NewUser, PolicyEntry, StoredAcl, UserEntry, UserUpdate};
use token::{ChangedIssuer, Issuers};
pub use token::{IssuerConfig, IssuerMistake};
pub use user_kind::UserKind;

/// How often the files are checked for changes, which take effect within this time.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How often brokers are polled for their users and policies.
const BROKER_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The configuration of access control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// The file of users and policies. A file that does not exist is created with a super user `admin`, whose secret is printed
    /// once. Access control is off without `file`, `catalog` and `brokers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Whether users and policies are in the catalog of the embedded broker, where administrators change them while the proxy
    /// runs. In a catalog without users, a super user `admin` is created, whose secret is printed once.
    pub catalog: bool,
    /// The file with the key that seals secrets. By default, its name is that of `file` with `.key` appended, or for a catalog
    /// `access.key` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Whether users and policies are those of Apache's brokers. `backend.remote.credentials` must belong to a super user
    /// there.
    pub brokers: bool,
    /// The largest difference between the time in a signature and the proxy's clock. Apache's Java client signs local time as
    /// if it were UTC, which differs by up to 14 hours.
    #[serde(with = "crate::duration")]
    pub signature_lifetime: Duration,
    /// How many wrong signatures and secrets a host may send per minute for one user, and ten times as many for all users
    /// together. A host is an IPv4 address or a /64 network of IPv6; a /48 network may send ten times as many as a host. Further
    /// ones are refused without being verified, except on connections that have sent the right secret. 0 means no limit.
    pub failures_per_minute: u32,
    /// The trusted issuers of session tokens. Their tokens name users of the configured source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<IssuerConfig>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        let signature_lifetime = Duration::from_secs(15 * 60 * 60);
        Self {
            file: None,
            catalog: false,
            key_file: None,
            brokers: false,
            signature_lifetime,
            failures_per_minute: 100,
            issuers: Vec::new(),
        }
    }
}

impl AccessConfig {
    /// Whether access control is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.file.is_some() || self.catalog || self.brokers
    }
}

/// Authenticates and authorizes requests.
pub struct AccessControl {
    in_force: watch::Sender<Arc<AccessState>>,
    source: UserSource,
    signature_lifetime: Duration,
    failed_attempts: FailedAttempts,
}

/// The source of users and policies.
enum UserSource {
    /// A file, and the version of it that was loaded last.
    File(AccessFile, parking_lot::Mutex<FileVersion>),
    /// The catalog of the embedded broker.
    Catalog(Box<AclCatalog>),
    /// Apache's brokers.
    Brokers(Arc<dyn Administration>),
}

impl AccessControl {
    /// Opens access control with users of a file or of brokers; those of brokers are unknown until [`Self::run`] has read them.
    /// Returns `None` if neither is configured. For users of the catalog, see [`Self::open_catalog`].
    ///
    /// # Errors
    /// A file can't be read, or is invalid.
    pub fn open(
        config: &AccessConfig,
        brokers: &Arc<dyn Administration>,
    ) -> Result<Option<Self>, AccessError> {
        let (acl_index, source) = match &config.file {
            Some(path) => {
                let file = AccessFile::new(path, config.key_file.as_deref());
                let LoadedAcl { acl_index, version } = file.load()?;
                (acl_index, UserSource::File(file, parking_lot::Mutex::new(version)))
            }
            None if config.brokers => (AclIndex::pending(), UserSource::Brokers(brokers.clone())),
            None => return Ok(None),
        };
        Self::new(config, acl_index, source).map(Some)
    }

    /// Opens access control with the users and policies in the embedded broker's catalog. If the catalog has no users, creates
    /// the first one and returns it; `announce` is called with it before it is stored.
    ///
    /// # Errors
    /// The catalog or a file can't be read, or is invalid.
    pub async fn open_catalog(
        config: &AccessConfig,
        store: &Arc<dyn Administration>,
        key_file: &Path,
        announce: impl FnOnce(&FirstUser),
    ) -> Result<(Self, Option<FirstUser>), AccessError> {
        let OpenCatalog { catalog, acl_index, first_user } =
            AclCatalog::open(store.clone(), key_file, announce).await?;
        Ok((Self::new(config, acl_index, UserSource::Catalog(Box::new(catalog)))?, first_user))
    }

    fn new(config: &AccessConfig, acl_index: AclIndex, source: UserSource) -> Result<Self, AccessError> {
        let issuers = Arc::new(Issuers::open(&config.issuers)?);
        let in_force = watch::Sender::new(Arc::new(AccessState { acl_index: Arc::new(acl_index), issuers }));
        Ok(Self {
            in_force,
            source,
            signature_lifetime: config.signature_lifetime,
            failed_attempts: FailedAttempts::new(config.failures_per_minute),
        })
    }

    /// Authenticates and authorizes a request. Returns the user, and a grant if the request waits, opens a stream or
    /// registers a client.
    ///
    /// # Errors
    /// `Unauthorized`, `TooManyFailures`, `AccessDenied`.
    pub(super) fn authorize<'a>(
        &self,
        facts: &RequestFacts<'a>,
    ) -> Result<(Cow<'a, str>, Option<Box<Grant>>), Error> {
        let context = facts.context;
        let lasts = facts.kind.lasts();
        // Subscribed before the rules are read, so that no later change is missed.
        let changes = lasts.then(|| self.in_force.subscribe());
        let in_force = self.in_force.borrow().clone();
        let (name, proof) = self.authenticate(&in_force, context)?;
        let from = client_address(context);
        let needs = RequiredRights::of(facts)?;
        in_force.acl_index.check(&name, &needs, from)?;
        let grant = changes.map(|changes| {
            let user = name.clone().into_owned();
            Box::new(Grant { changes, user, proof, from, needs: needs.to_owned() })
        });
        Ok((name, grant))
    }

    /// Authenticates and authorizes an administrative request. Super users have all rights.
    ///
    /// # Errors
    /// `Unauthorized`, `TooManyFailures`, `AccessDenied`.
    pub(super) fn administer(&self, context: &Context, right: Right) -> Result<(), Error> {
        let in_force = self.in_force.borrow().clone();
        let (name, _) = self.authenticate(&in_force, context)?;
        match right {
            Right::Cluster(actions) => in_force.acl_index.check(
                &name,
                &RequiredRights::of_administration(actions),
                client_address(context),
            ),
            Right::SuperUser => in_force.acl_index.check_super(&name),
        }
    }

    /// Authenticates the user of a request: by its session token, else by its signature, else by its certificate.
    fn authenticate<'c>(
        &self,
        AccessState { acl_index, issuers }: &AccessState,
        context: &'c Context,
    ) -> Result<(Cow<'c, str>, Proof), Error> {
        let now = SystemTime::now();
        if let Some(token) = context.credentials.as_deref().and_then(|sent| issuers.token(sent)) {
            let token = issuers.verify(token, now)?;
            acl_index.active_user(&token.user)?;
            return Ok((Cow::Owned(token.user.clone()), Proof::Token(token)));
        }
        let signed = context.credentials.as_deref().filter(|sent| !sent.is_token_only());
        if let (None, Some(names)) = (signed, &context.certificate) {
            // The names may be long, so the error does not contain them.
            let Some(user) = acl_index.user_of_certificate(names) else {
                return Err(Error::unauthorized("no user is known by this certificate."));
            };
            acl_index.active_user(user)?;
            return Ok((Cow::Owned(user.to_owned()), Proof::Certificate(names.clone())));
        }
        let attempt = self.failed_attempts.attempt(context);
        let (name, user) = acl_index.verify_signature(&attempt, now, self.signature_lifetime)?;
        attempt.succeeded(name);
        Ok((Cow::Borrowed(name), Proof::Secret(user.secret.clone())))
    }

    /// The user of a request for logs: the name in the signature, which is not verified here, the user of a valid session
    /// token, or the first name in the certificate.
    pub(super) fn claimed_user(&self, context: &Context) -> Option<String> {
        let Some(credentials) = &context.credentials else {
            return context.certificate.as_ref()?.first().cloned();
        };
        let issuers = self.in_force.borrow().issuers.clone();
        if let Some(token) = issuers.token(credentials) {
            return Some(issuers.verify(token, SystemTime::now()).ok()?.user.clone());
        }
        let signature = Signature::read(Some(credentials)).ok()?;
        Some(signature.user.to_owned())
    }

    /// Applies changes of users, policies and keys until access control is dropped. If a source can't be read or is invalid,
    /// that is logged, and the previous state stays in force.
    pub async fn run(self: Arc<Self>) {
        let this = Arc::downgrade(&self);
        let files = async {
            loop {
                tokio::time::sleep(RELOAD_INTERVAL).await;
                let Some(this) = this.upgrade() else { return };
                // Blocking, because a disk may be slow.
                let _ = tokio::task::spawn_blocking(move || this.reload()).await;
            }
        };
        let keys = Self::fetch_keys(this.clone());
        if let UserSource::Brokers(brokers) = &self.source {
            tokio::join!(files, keys, self.poll_brokers(&**brokers));
        } else {
            // Held only while it reloads: the embedded broker closes when its last reference is dropped.
            drop(self);
            tokio::join!(files, keys);
        }
    }

    /// Fetches the keys of issuers that publish them, and puts changes in force.
    async fn fetch_keys(this: Weak<Self>) {
        let Some(issuers) = this.upgrade().map(|this| this.in_force.borrow().issuers.clone()) else { return };
        let put = |changed| {
            if let Some(this) = this.upgrade() {
                this.put_in_force(None, vec![changed]);
            }
        };
        issuers.fetch(put).await;
    }

    /// Polls brokers for their users and policies, and puts changes in force.
    async fn poll_brokers(&self, brokers: &dyn Administration) {
        let (mut known, mut failing) = (None, false);
        loop {
            match brokers.acl().await {
                Ok(acl) => {
                    failing = false;
                    if known.as_ref() != Some(&acl) {
                        let acl_index = brokers::acl_index(&acl);
                        tracing::info!(
                            users = acl_index.users(),
                            "the brokers' users and policies have changed"
                        );
                        self.put_in_force(Some(acl_index), Vec::new());
                        known = Some(acl);
                    }
                }
                // Logged once: brokers may be unreachable for a long time.
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "failed to read the users and policies of the brokers, keeping the previous ones");
                }
                Err(_) => {}
            }
            tokio::time::sleep(BROKER_POLL_INTERVAL).await;
        }
    }

    /// Reloads the files that have changed.
    fn reload(&self) {
        let acl_index = match &self.source {
            UserSource::File(file, seen) => reload_file(file, &mut seen.lock()),
            UserSource::Catalog(_) | UserSource::Brokers(_) => None,
        };
        // Not borrowed while files are read, which would block changes.
        let issuers = self.in_force.borrow().issuers.clone();
        self.put_in_force(acl_index, issuers.reload());
    }

    /// Puts new rules and changed issuers in force.
    fn put_in_force(&self, acl_index: Option<AclIndex>, issuers: Vec<ChangedIssuer>) {
        if acl_index.is_none() && issuers.is_empty() {
            return;
        }
        self.in_force.send_modify(|in_force| {
            let acl_index = acl_index.map_or_else(|| in_force.acl_index.clone(), Arc::new);
            let issuers = match issuers.is_empty() {
                true => in_force.issuers.clone(),
                false => Arc::new(in_force.issuers.with(issuers)),
            };
            *in_force = Arc::new(AccessState { acl_index, issuers });
        });
    }
}

/// Loads the file if it has changed since version `seen`. `None` if it has not, or is invalid, which is logged.
fn reload_file(file: &AccessFile, seen: &mut FileVersion) -> Option<AclIndex> {
    let version = file.version();
    if version == *seen {
        return None;
    }
    *seen = version;
    match file.load() {
        Ok(LoadedAcl { acl_index, version }) => {
            *seen = version;
            tracing::info!(users = acl_index.users(), "users and policies have changed");
            Some(acl_index)
        }
        Err(error) => {
            tracing::error!(%error, "failed to reload users and policies, keeping the previous ones");
            None
        }
    }
}

/// The client's IP address. `None` if its host is not an IP address.
fn client_address(context: &Context) -> Option<IpAddr> {
    match context.host() {
        Host::Ip(address) => Some(address),
        Host::Other(_) => None,
    }
}

#[cfg(test)]
mod tests;
