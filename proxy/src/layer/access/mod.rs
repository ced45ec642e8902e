//! Access control: who sends a request, and what that user may do.
//!
//! It is off unless the configuration says where users and policies are ([`tables`]): in a file ([`mod@file`]), which is read again
//! when it changes; in the catalog of the embedded broker ([`catalog`]), where administrators change them; or with Apache's
//! brokers ([`brokers`]), which are asked for them again and again.
//! A user proves who they are by the signatures that RocketMQ's clients make ([`signature`]), by a certificate, or by a session
//! token ([`token`]). What they may do follows the rules of Apache's ACL 2.0 ([`policy`]). What each request needs is in
//! [`rights`].

mod administer;
mod brokers;
mod catalog;
mod file;
mod grant;
mod policy;
mod rights;
mod rules;
mod seal;
mod seen_signatures;
mod signature;
mod tables;
mod token;

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Operation, OperationKind};
use crate::context::{Context, Host};
use crate::error::{Error, ErrorKind};
use crate::service::Administration;
pub use catalog::FirstUser;
use catalog::{Catalog, OpenCatalog};
pub use file::{AccessError, AccessFile};
use file::{Loaded, Stamp};
pub(super) use grant::Grant;
use grant::Proof;
#[cfg(test)]
use policy::Actions;
pub use policy::{Action, Decision, Effect, Pattern, ResourceKind};
use rights::Needs;
pub use rights::Right;
pub use rules::{Asked, Rules};
pub use seal::{Secret, SecretKey};
use signature::Signature;
pub use tables::{Explanation, ListedUser, NewUser, PolicyEntry, Tables, UserEntry, UserKind, UserUpdate};
use token::{ChangedIssuer, Issuers};
pub use token::{IssuerConfig, IssuerMistake};

/// How often the files are looked at. A change takes effect within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often brokers are asked for their users and policies.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Access control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// The file of users and policies. Without it, `catalog` and `brokers`, access control is off. If it does not exist it is created, with a user
    /// `admin` who may do everything and whose secret is printed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Whether users and policies are in the catalog of the embedded broker, where administrators change them while the proxy
    /// runs. A catalog without users gets a user `admin` who may do everything and whose secret is printed once.
    pub catalog: bool,
    /// The file with the key that secrets are sealed with. By default it is beside `file`, with `.key` at the end of its
    /// name; that of the catalog is `access.key` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Whether the users and ACLs of Apache's brokers hold, instead of a file. `backend.remote.credentials` must be those of a
    /// super user there.
    pub brokers: bool,
    /// How far the time in a signature may be from the time here. Apache's Java client signs local time as if it were
    /// UTC, so that up to 14 hours can be honest.
    #[serde(with = "humantime_serde")]
    pub signature_lifetime: Duration,
    /// The issuers of session tokens that are trusted. Their tokens name users of `file`, of the catalog, or of the brokers.
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
            issuers: Vec::new(),
        }
    }
}

impl AccessConfig {
    /// Whether there is access control.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.file.is_some() || self.catalog || self.brokers
    }
}

/// Users and policies, and who may enter.
pub struct AccessControl {
    in_force: watch::Sender<Arc<InForce>>,
    source: Source,
    signature_lifetime: Duration,
}

/// Where users and policies come from.
enum Source {
    /// A file, and what it looked like.
    File(AccessFile, parking_lot::Mutex<Stamp>),
    /// The catalog of the embedded broker.
    Catalog(Box<Catalog>),
    /// Apache's brokers.
    Brokers(Arc<dyn Administration>),
}

/// What decides now.
struct InForce {
    rules: Arc<Rules>,
    issuers: Arc<Issuers>,
}

impl AccessControl {
    /// Reads the users and policies of a file. `None` if access control is off. Those of brokers are not known before
    /// [`Self::run`], and those of the catalog are read by [`Self::open_catalog`].
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn open(
        config: &AccessConfig,
        brokers: &Arc<dyn Administration>,
    ) -> Result<Option<Self>, AccessError> {
        let (rules, source) = match &config.file {
            Some(path) => {
                let file = AccessFile::new(path, config.key_file.as_deref());
                let Loaded { rules, stamp } = file.load()?;
                (rules, Source::File(file, parking_lot::Mutex::new(stamp)))
            }
            None if config.brokers => (Rules::unknown(), Source::Brokers(brokers.clone())),
            None => return Ok(None),
        };
        Self::new(config, rules, source).map(Some)
    }

    /// Reads the users and policies of the embedded broker's catalog. Returns the first user, too, if the catalog is new; `tell`
    /// gets it before it is stored.
    ///
    /// # Errors
    /// What is wrong with the catalog, or with the files.
    pub async fn open_catalog(
        config: &AccessConfig,
        store: &Arc<dyn Administration>,
        key_file: &Path,
        tell: impl FnOnce(&FirstUser),
    ) -> Result<(Self, Option<FirstUser>), AccessError> {
        let OpenCatalog { catalog, rules, first_user } = Catalog::open(store.clone(), key_file, tell).await?;
        Ok((Self::new(config, rules, Source::Catalog(Box::new(catalog)))?, first_user))
    }

    fn new(config: &AccessConfig, rules: Rules, source: Source) -> Result<Self, AccessError> {
        let issuers = Arc::new(Issuers::open(&config.issuers)?);
        let in_force = watch::Sender::new(Arc::new(InForce { rules: Arc::new(rules), issuers }));
        Ok(Self { in_force, source, signature_lifetime: config.signature_lifetime })
    }

    /// Lets a request in if its sender is known and may do what it asks. Returns who that is, and a grant if the request
    /// waits, or opens a stream.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`.
    pub(super) fn enter<'a>(
        &self,
        operation: &Operation<'a>,
    ) -> Result<(Cow<'a, str>, Option<Box<Grant>>), Error> {
        let context = operation.context;
        let lasts =
            matches!(operation.kind, OperationKind::Receive | OperationKind::Pull | OperationKind::Register);
        // Before the rules are read, so that no change after that is missed.
        let changes = lasts.then(|| self.in_force.subscribe());
        let in_force = self.in_force.borrow().clone();
        let (name, proof) = self.authenticate(&in_force, context)?;
        let from = address(context);
        let needs = Needs::of(operation);
        in_force.rules.check(&name, &needs, from)?;
        let grant = changes.map(|changes| {
            let user = name.clone().into_owned();
            Box::new(Grant { changes, user, proof, from, needs: needs.to_owned() })
        });
        Ok((name, grant))
    }

    /// Lets a request of an administrator in: a super user, or somebody with the right.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`.
    pub(super) fn administer(&self, context: &Context, right: Right) -> Result<(), Error> {
        let in_force = self.in_force.borrow().clone();
        let (name, _) = self.authenticate(&in_force, context)?;
        match right {
            Right::Cluster(actions) => {
                in_force.rules.check(&name, &Needs::of_administration(actions), address(context))
            }
            Right::SuperUser => in_force.rules.check_super(&name),
        }
    }

    /// The user who sends a request, by a session token if there is one, then by a signature, then by a certificate.
    fn authenticate<'c>(
        &self,
        InForce { rules, issuers }: &InForce,
        context: &'c Context,
    ) -> Result<(Cow<'c, str>, Proof), Error> {
        let now = SystemTime::now();
        if let Some(token) = context.credentials.as_deref().and_then(|sent| issuers.token(sent)) {
            let token = issuers.verify(token, now)?;
            rules.known(&token.user)?;
            return Ok((Cow::Owned(token.user.clone()), Proof::Token(token)));
        }
        let signed = context.credentials.as_deref().filter(|sent| !sent.is_token_only());
        if let (None, Some(names)) = (signed, &context.certificate) {
            // The names may be long: they are not repeated.
            let Some(user) = rules.certified(names) else {
                return Err(unauthorized("no user is known by this certificate.".to_owned()));
            };
            rules.known(user)?;
            return Ok((Cow::Owned(user.to_owned()), Proof::Certificate(names.clone())));
        }
        let (name, user) = rules.signer(context.credentials.as_deref(), now, self.signature_lifetime)?;
        Ok((Cow::Borrowed(name), Proof::Secret(user.secret.clone())))
    }

    /// Who is said to have signed a request, which nobody has checked, or whom a valid token names, or the first name of the
    /// certificate.
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

    /// Takes changes of users, policies and keys over. What has a mistake, or can't be read, is reported, and stays as it was.
    pub async fn run(self: Arc<Self>) {
        let this = Arc::downgrade(&self);
        let files = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(this) = this.upgrade() else { return };
                // A disk may be slow.
                let _ = tokio::task::spawn_blocking(move || this.reload()).await;
            }
        };
        let keys = Self::fetch_keys(this.clone());
        if let Source::Brokers(brokers) = &self.source {
            tokio::join!(files, keys, self.follow(&**brokers));
        } else {
            // Between looks it is not kept: the embedded broker is closed when nobody holds it any more.
            drop(self);
            tokio::join!(files, keys);
        }
    }

    /// Fetches keys of issuers that publish them.
    async fn fetch_keys(this: Weak<Self>) {
        let Some(issuers) = this.upgrade().map(|this| this.in_force.borrow().issuers.clone()) else { return };
        let put = |changed| {
            if let Some(this) = this.upgrade() {
                this.put(None, vec![changed]);
            }
        };
        issuers.fetch(put).await;
    }

    /// Asks brokers for their users and policies, again and again.
    async fn follow(&self, brokers: &dyn Administration) {
        let (mut known, mut failing) = (None, false);
        loop {
            match brokers.rights().await {
                Ok(rights) => {
                    failing = false;
                    if known.as_ref() != Some(&rights) {
                        let rules = brokers::rules(&rights);
                        tracing::info!(users = rules.users(), "the brokers' users and policies have changed");
                        self.put(Some(rules), Vec::new());
                        known = Some(rights);
                    }
                }
                // Once: brokers may be away for long.
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "the brokers don't tell their users and policies, which stay as they were");
                }
                Err(_) => {}
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    fn reload(&self) {
        let rules = match &self.source {
            Source::File(file, seen) => reloaded(file, &mut seen.lock()),
            Source::Catalog(_) | Source::Brokers(_) => None,
        };
        // The keys are read while nothing is borrowed.
        let issuers = self.in_force.borrow().issuers.clone();
        self.put(rules, issuers.reloaded());
    }

    /// Puts what has changed in force.
    fn put(&self, rules: Option<Rules>, issuers: Vec<ChangedIssuer>) {
        if rules.is_none() && issuers.is_empty() {
            return;
        }
        self.in_force.send_modify(|in_force| {
            let rules = rules.map_or_else(|| in_force.rules.clone(), Arc::new);
            let issuers = match issuers.is_empty() {
                true => in_force.issuers.clone(),
                false => Arc::new(in_force.issuers.with(issuers)),
            };
            *in_force = Arc::new(InForce { rules, issuers });
        });
    }
}

/// The users and policies, if the file has changed and makes sense.
fn reloaded(file: &AccessFile, seen: &mut Stamp) -> Option<Rules> {
    let stamp = file.stamp();
    if stamp == *seen {
        return None;
    }
    *seen = stamp;
    match file.load() {
        Ok(Loaded { rules, stamp }) => {
            *seen = stamp;
            tracing::info!(users = rules.users(), "users and policies have changed");
            Some(rules)
        }
        Err(error) => {
            tracing::error!(%error, "users and policies stay as they were");
            None
        }
    }
}

fn address(context: &Context) -> Option<IpAddr> {
    match context.host() {
        Host::Ip(address) => Some(address),
        Host::Other(_) => None,
    }
}

fn unauthorized(message: String) -> Error {
    Error::new(ErrorKind::Unauthorized, message)
}

#[cfg(test)]
mod tests;
