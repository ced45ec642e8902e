//! Access control: who sends a request, and what that user may do.
//!
//! It is off unless the configuration names a file of users and policies ([`mod@file`]), which is read again when it changes.
//! A user proves who they are by the signatures that RocketMQ's clients make ([`signature`]), or by a certificate. What they may do follows the
//! rules of Apache's ACL 2.0 ([`policy`]). What each request needs is in [`rights`].

mod file;
mod policy;
mod rights;
mod rules;
mod seal;
mod signature;

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Operation, OperationKind};
use crate::context::{Context, Host};
use crate::error::{Error, ErrorKind};
pub use file::{AccessError, AccessFile, PolicyEntry, Tables, UserEntry, UserKind};
use file::{Loaded, Stamp};
#[cfg(test)]
use policy::Actions;
pub use policy::{Action, Decision, Effect, Pattern, ResourceKind};
use rights::Needs;
pub use rules::{Asked, Rules};
pub use seal::{Secret, SecretKey};
use signature::Signature;

/// How often the file is looked at. A change takes effect within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Access control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// The file of users and policies. Access control is off without it. If it does not exist it is created, with a user
    /// `admin` who may do everything and whose secret is printed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The file with the key that secrets are sealed with. By default it is beside `file`, with `.key` at the end of its
    /// name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// How far the time in a signature may be from the time here. Apache's Java client signs local time as if it were
    /// UTC, so that up to 14 hours can be honest.
    #[serde(with = "humantime_serde")]
    pub signature_lifetime: Duration,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self { file: None, key_file: None, signature_lifetime: Duration::from_secs(15 * 60 * 60) }
    }
}

/// Users and policies in force.
pub struct AccessControl {
    rules: watch::Sender<Arc<Rules>>,
    source: AccessFile,
    seen: parking_lot::Mutex<Stamp>,
    signature_lifetime: Duration,
}

/// What a user was granted for a while: for a request that waits, or a stream. It is checked again whenever the rules
/// change.
pub(super) struct Grant {
    changes: watch::Receiver<Arc<Rules>>,
    user: String,
    secret: Arc<Secret>,
    /// The names by which the user is known, if nothing was signed.
    certificate: Option<Arc<[String]>>,
    from: Option<IpAddr>,
    needs: Needs<String>,
}

impl AccessControl {
    /// Reads the users and policies. `None` if access control is off.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn open(config: &AccessConfig) -> Result<Option<Self>, AccessError> {
        let Some(path) = &config.file else { return Ok(None) };
        let source = AccessFile::new(path, config.key_file.as_deref());
        let Loaded { rules, stamp } = source.load()?;
        let rules = watch::Sender::new(Arc::new(rules));
        let seen = parking_lot::Mutex::new(stamp);
        Ok(Some(Self { rules, source, seen, signature_lifetime: config.signature_lifetime }))
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
        let changes = lasts.then(|| self.rules.subscribe());
        let rules = self.rules.borrow().clone();
        let (name, user) = rules.authenticate(context, SystemTime::now(), self.signature_lifetime)?;
        let from = address(context);
        let needs = Needs::of(operation);
        rules.check(&name, &needs, from)?;
        let grant = |changes| {
            let (user, secret) = (name.clone().into_owned(), user.secret.clone());
            let certificate = context.credentials.is_none().then(|| context.certificate.clone()).flatten();
            Box::new(Grant { changes, user, secret, certificate, from, needs: needs.to_owned() })
        };
        let grant = changes.map(grant);
        Ok((name, grant))
    }

    /// Lets a request of an administrator in: a super user, or somebody with these actions on `Cluster:*`.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`.
    pub(super) fn administer(&self, context: &Context, actions: &[Action]) -> Result<(), Error> {
        let rules = self.rules.borrow().clone();
        let (name, _) = rules.authenticate(context, SystemTime::now(), self.signature_lifetime)?;
        rules.check(&name, &Needs::of_administration(actions), address(context))
    }

    /// Reads the file again whenever it has changed. A file with mistakes is reported, and the rules stay as they were.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let this = self.clone();
            // A disk may be slow.
            let _ = tokio::task::spawn_blocking(move || this.reload()).await;
        }
    }

    fn reload(&self) {
        let mut seen = self.seen.lock();
        let stamp = self.source.stamp();
        if stamp == *seen {
            return;
        }
        *seen = stamp;
        match self.source.load() {
            Ok(Loaded { rules, stamp }) => {
                *seen = stamp;
                tracing::info!(users = rules.users(), "users and policies have changed");
                self.rules.send_replace(Arc::new(rules));
            }
            Err(error) => {
                tracing::error!(%error, "users and policies stay as they were");
            }
        }
    }
}

impl Grant {
    /// Completes when the user may no longer do what was granted.
    pub(super) async fn revoked(&mut self) -> Error {
        while self.changes.changed().await.is_ok() {
            let rules = self.changes.borrow_and_update().clone();
            let by_certificate = self.certificate.as_deref().map(|names| rules.certified(names));
            if by_certificate.is_some_and(|user| user != Some(&self.user)) {
                return unauthorized(format!(
                    "User:{} is not known by this certificate any more.",
                    self.user
                ));
            }
            let still = rules
                .unchanged(&self.user, &self.secret)
                .and_then(|()| rules.check(&self.user, &self.needs.as_refs(), self.from));
            if let Err(error) = still {
                return error;
            }
        }
        // Only while the proxy ends.
        std::future::pending().await
    }
}

/// Who is said to have signed a request, which nobody has checked, or the first name of the certificate.
pub(super) fn claimed_user(context: &Context) -> Option<String> {
    if context.credentials.is_none() {
        return context.certificate.as_ref()?.first().cloned();
    }
    let signature = Signature::read(context.credentials.as_deref()).ok()?;
    Some(signature.user.to_owned())
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
