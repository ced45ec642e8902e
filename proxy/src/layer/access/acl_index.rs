//! The users and policies in force, indexed for lookups.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;

use super::failed_attempts::Attempt;
use super::policy::{
    Action, Actions, Effect, Pattern, Policies, PolicyDecision, PolicyRule, Resource, ResourceKind,
};
use super::rights::{RequiredRights, right_on_topic};
use super::secret_encryption::Secret;
use super::signature::{self, Signature};
use super::stored_acl::PolicyEntry;
use super::user_kind::UserKind;
use super::verified_signatures::VerifiedSignatures;
use crate::error::{Error, ErrorKind};

/// Users and their policies, indexed for lookups.
#[derive(Debug, Default)]
pub struct AclIndex {
    users: FxHashMap<String, User>,
    /// The names of users by the names in their certificates.
    certified: FxHashMap<String, String>,
    /// Whether the users of brokers were not read yet.
    is_pending: bool,
    /// The policies of brokers, by the index in decisions. Empty if the policies are in a `StoredAcl`.
    pub(super) broker_policies: Vec<PolicyEntry>,
    seen: VerifiedSignatures,
}

/// A request whose decision is to be explained.
#[derive(Clone, Debug)]
pub struct AccessQuery {
    /// The resource: a single one, or all of a kind.
    pub resource: Pattern,
    /// The action on the resource.
    pub action: Action,
    /// The client's address. `None` if it is unknown.
    pub from: Option<IpAddr>,
}

/// A user with their policies.
#[derive(Debug)]
pub(super) struct User {
    pub(super) kind: UserKind,
    pub(super) enabled: bool,
    pub(super) secret: Arc<Secret>,
    pub(super) policies: Policies,
    /// Policies that are used only if none of `policies` applies.
    pub(super) defaults: Policies,
}

impl User {
    fn decide(&self, resource: Resource<&str>, actions: Actions, from: Option<IpAddr>) -> PolicyDecision {
        match self.policies.decide(resource, actions, from) {
            PolicyDecision::None => self.defaults.decide(resource, actions, from),
            decision => decision,
        }
    }
}

impl AclIndex {
    /// The index before the users of brokers were read: every request is refused.
    pub(super) fn pending() -> Self {
        Self { is_pending: true, ..Self::default() }
    }

    /// Adds a user. Returns `false` if a user of this name existed.
    pub(super) fn add_user(&mut self, name: String, user: User) -> bool {
        self.users.insert(name, user).is_none()
    }

    /// Adds a name in a user's certificates. Returns `false` if a user had this name already.
    pub(super) fn add_certificate(&mut self, certificate: String, user: String) -> bool {
        self.certified.insert(certificate, user).is_none()
    }

    /// Adds a policy. Returns `false` if the user does not exist.
    pub(super) fn add_policy(&mut self, user: &str, pattern: Pattern, entry: PolicyRule) -> bool {
        let Some(user) = self.users.get_mut(user) else { return false };
        user.policies.add(pattern, entry);
        true
    }

    /// Adds a policy that is used only if no other policy of the user applies. Returns `false` if the user does not exist.
    pub(super) fn add_default(&mut self, user: &str, pattern: Pattern, entry: PolicyRule) -> bool {
        let Some(user) = self.users.get_mut(user) else { return false };
        user.defaults.add(pattern, entry);
        true
    }

    /// The number of users.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Verifies the signature of a request, and returns its user. `lifetime` is the largest allowed difference between the time
    /// in the signature and `now`.
    pub(super) fn verify_signature<'c>(
        &self,
        attempt: &Attempt<'_, 'c>,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<(&'c str, &User), Error> {
        let known = attempt.context.credentials.as_deref().and_then(|credentials| self.seen.get(credentials));
        let (name, signed) = match known {
            Some((name, signed)) => (name, Some(signed)),
            None => self.verify_uncached(attempt)?,
        };
        let apart = |signed| now.duration_since(signed).unwrap_or_else(|early| early.duration());
        if signed.is_some_and(|signed| apart(signed) > lifetime) {
            return Err(signature::stale());
        }
        Ok((name, self.active_user(name)?))
    }

    /// Verifies a signature that is not in the cache. Returns its user and its time, if the protocol signs a time.
    fn verify_uncached<'c>(&self, attempt: &Attempt<'_, 'c>) -> Result<(&'c str, Option<SystemTime>), Error> {
        let credentials = attempt.context.credentials.as_deref();
        let signature = Signature::read(credentials)?;
        let name = signature.user;
        let known = self.users.contains_key(name).then_some(name);
        attempt.check(known)?;
        let verified = self.active_user(name).and_then(|user| match signature.is_made_with(&user.secret) {
            true => Ok(()),
            false => Err(Error::unauthorized("check signature failed.")),
        });
        verified.inspect_err(|error| {
            if error.kind == ErrorKind::Unauthorized {
                attempt.failed(known);
            }
        })?;
        let signed = signature.time()?;
        if let (Some(credentials), Some(signed)) = (credentials, signed) {
            self.seen.add(credentials, name, signed);
        }
        Ok((name, signed))
    }

    /// The user whose certificate has one of these names. The first known name decides.
    pub(super) fn user_of_certificate(&self, names: &[String]) -> Option<&str> {
        names.iter().find_map(|name| self.certified.get(name)).map(String::as_str)
    }

    /// The user with this name.
    ///
    /// # Errors
    /// `Unauthorized` if the user does not exist or is disabled; `Internal` if users were not read yet.
    pub(super) fn active_user(&self, name: &str) -> Result<&User, Error> {
        match self.users.get(name) {
            Some(user) if user.enabled => Ok(user),
            Some(_) => Err(Error::unauthorized(format!("User:{name} is disabled."))),
            None if self.is_pending => {
                let text = "the users of the brokers were not read yet";
                Err(Error::new(ErrorKind::Internal, text))
            }
            None => Err(Error::unauthorized(format!("User:{name} is not found."))),
        }
    }

    /// Checks that a user exists, is enabled, and still has this secret.
    pub(super) fn check_secret(&self, name: &str, secret: &Secret) -> Result<(), Error> {
        if *self.active_user(name)?.secret == *secret {
            return Ok(());
        }
        Err(Error::unauthorized("check signature failed."))
    }

    /// Checks that a user has all of these rights.
    pub(super) fn check(
        &self,
        name: &str,
        needs: &RequiredRights<&str>,
        from: Option<IpAddr>,
    ) -> Result<(), Error> {
        let user = self.active_user(name)?;
        if user.kind == UserKind::Super {
            return Ok(());
        }
        for (resource, actions) in &needs.0 {
            let why = match user.decide(*resource, *actions, from) {
                PolicyDecision::Policy(Effect::Allow, _) => continue,
                PolicyDecision::Policy(Effect::Deny, _) => "the decision is deny",
                PolicyDecision::None => "no matched policies",
            };
            let from = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
            let message = format!("User:{name} has no permission to access {resource} from {from}, {why}.");
            return Err(Error::new(ErrorKind::AccessDenied, message));
        }
        Ok(())
    }

    /// Checks that a user is a super user.
    pub(super) fn check_super(&self, name: &str) -> Result<(), Error> {
        if self.active_user(name)?.kind == UserKind::Super {
            return Ok(());
        }
        let message = format!("User:{name} is not a super user, and only super users may do this.");
        Err(Error::new(ErrorKind::AccessDenied, message))
    }

    /// The decision about an action of a user. `None` for a super user, who needs no policy.
    ///
    /// # Errors
    /// The user does not exist, or is disabled.
    pub fn explain(&self, name: &str, query: &AccessQuery) -> Result<Option<PolicyDecision>, Error> {
        let AccessQuery { resource, action, from } = query;
        let user = self.active_user(name)?;
        if user.kind == UserKind::Super {
            return Ok(None);
        }
        let actions = Actions::of(&[*action]);
        let (resource, actions) = match resource {
            Pattern::Literal(ResourceKind::Topic, name) => right_on_topic(name, actions),
            Pattern::Literal(kind, name) => (Resource { kind: *kind, name: name.as_str() }, actions),
            Pattern::All(kind) | Pattern::Prefix(kind, _) => (Resource { kind: *kind, name: "" }, actions),
            Pattern::Everything => return Ok(Some(PolicyDecision::None)),
        };
        Ok(Some(user.decide(resource, actions, *from)))
    }
}
