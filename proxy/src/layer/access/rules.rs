//! Users and their policies, as they are looked up.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;

use super::policy::{Action, Actions, Decision, Effect, Entry, Pattern, Policies};
use super::rights::{Needs, Resource};
use super::seal::Secret;
use super::seen_signatures::SeenSignatures;
use super::signature::{self, Signature};
use super::tables::UserKind;
use super::unauthorized;
use crate::context::Credentials;
use crate::error::{Error, ErrorKind};

/// Users and their policies.
#[derive(Debug, Default)]
pub struct Rules {
    users: FxHashMap<String, User>,
    /// The users by names in their certificates.
    certified: FxHashMap<String, String>,
    /// Whether nobody has told yet who the users are.
    is_unknown: bool,
    seen: SeenSignatures,
}

/// What somebody might ask for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The resource: one by its name, or all of a kind.
    pub resource: Pattern,
    /// What is done with it.
    pub action: Action,
    /// Where the request comes from.
    pub from: Option<IpAddr>,
}

#[derive(Debug)]
pub(super) struct User {
    pub(super) kind: UserKind,
    pub(super) enabled: bool,
    pub(super) secret: Arc<Secret>,
    pub(super) policies: Policies,
    /// Those that count only if none of the others applies.
    pub(super) defaults: Policies,
}

impl User {
    fn decide(&self, resource: Resource<&str>, actions: Actions, from: Option<IpAddr>) -> Decision {
        match self.policies.decide(resource, actions, from) {
            Decision::None => self.defaults.decide(resource, actions, from),
            decision => decision,
        }
    }
}

impl Rules {
    /// The rules before anybody has told who the users are: nobody gets in.
    pub(super) fn unknown() -> Self {
        Self { is_unknown: true, ..Self::default() }
    }

    /// Adds a user. Returns whether the name was free.
    pub(super) fn add_user(&mut self, name: String, user: User) -> bool {
        self.users.insert(name, user).is_none()
    }

    /// Adds a name in a user's certificates. Returns whether the name was free.
    pub(super) fn add_certificate(&mut self, certificate: String, user: String) -> bool {
        self.certified.insert(certificate, user).is_none()
    }

    /// Adds a policy. Returns whether the user exists.
    pub(super) fn add_policy(&mut self, user: &str, pattern: Pattern, entry: Entry) -> bool {
        let Some(user) = self.users.get_mut(user) else { return false };
        user.policies.add(pattern, entry);
        true
    }

    /// Adds a policy that counts only if none of the others applies. Returns whether the user exists.
    pub(super) fn add_default(&mut self, user: &str, pattern: Pattern, entry: Entry) -> bool {
        let Some(user) = self.users.get_mut(user) else { return false };
        user.defaults.add(pattern, entry);
        true
    }

    /// How many users there are.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// The user who signed a request.
    pub(super) fn signer<'c>(
        &self,
        credentials: Option<&'c Credentials>,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<(&'c str, &User), Error> {
        let known = credentials.and_then(|credentials| self.seen.get(credentials));
        let (name, signed) = match known {
            Some((name, signed)) => (name, Some(signed)),
            None => self.verify(credentials)?,
        };
        let apart = |signed| now.duration_since(signed).unwrap_or_else(|early| early.duration());
        if signed.is_some_and(|signed| apart(signed) > lifetime) {
            return Err(signature::stale());
        }
        Ok((name, self.known(name)?))
    }

    /// Who has signed a request, and when, if the signature tells.
    fn verify<'c>(
        &self,
        credentials: Option<&'c Credentials>,
    ) -> Result<(&'c str, Option<SystemTime>), Error> {
        let signature = Signature::read(credentials)?;
        let name = signature.user;
        if !signature.is_made_with(&self.known(name)?.secret) {
            return Err(unauthorized("check signature failed.".to_owned()));
        }
        let signed = signature.time()?;
        if let (Some(credentials), Some(signed)) = (credentials, signed) {
            self.seen.add(credentials, name, signed);
        }
        Ok((name, signed))
    }

    /// The user whose certificate has one of these names. The first name that is known decides.
    pub(super) fn certified(&self, names: &[String]) -> Option<&str> {
        names.iter().find_map(|name| self.certified.get(name)).map(String::as_str)
    }

    /// A user who exists and is enabled.
    pub(super) fn known(&self, name: &str) -> Result<&User, Error> {
        match self.users.get(name) {
            Some(user) if user.enabled => Ok(user),
            Some(_) => Err(unauthorized(format!("User:{name} is disabled."))),
            None if self.is_unknown => {
                let text = "the brokers have not told yet who their users are";
                Err(Error::new(ErrorKind::Internal, text))
            }
            None => Err(unauthorized(format!("User:{name} is not found."))),
        }
    }

    /// Whether a user exists, is enabled, and has still this secret.
    pub(super) fn unchanged(&self, name: &str, secret: &Secret) -> Result<(), Error> {
        if *self.known(name)?.secret == *secret {
            return Ok(());
        }
        Err(unauthorized("check signature failed.".to_owned()))
    }

    /// Checks that a user has all of these rights.
    pub(super) fn check(&self, name: &str, needs: &Needs<&str>, from: Option<IpAddr>) -> Result<(), Error> {
        let user = self.known(name)?;
        if user.kind == UserKind::Super {
            return Ok(());
        }
        for (resource, actions) in &needs.0 {
            let why = match user.decide(*resource, *actions, from) {
                Decision::Policy(Effect::Allow, _) => continue,
                Decision::Policy(Effect::Deny, _) => "the decision is deny",
                Decision::None => "no matched policies",
            };
            let from = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
            let message = format!("User:{name} has no permission to access {resource} from {from}, {why}.");
            return Err(Error::new(ErrorKind::AccessDenied, message));
        }
        Ok(())
    }

    /// Checks that a user may do everything.
    pub(super) fn check_super(&self, name: &str) -> Result<(), Error> {
        if self.known(name)?.kind == UserKind::Super {
            return Ok(());
        }
        let message = format!("User:{name} is no super user, and only super users may do this.");
        Err(Error::new(ErrorKind::AccessDenied, message))
    }

    /// What the policies say about an action of a user, and whether they need one.
    ///
    /// # Errors
    /// The user does not exist, or is disabled.
    pub fn explain(&self, name: &str, asked: &Asked) -> Result<Option<Decision>, Error> {
        let Asked { resource, action, from } = asked;
        let user = self.known(name)?;
        if user.kind == UserKind::Super {
            return Ok(None);
        }
        let resource = match resource {
            Pattern::Literal(kind, name) => Resource { kind: *kind, name: name.as_str() },
            Pattern::All(kind) | Pattern::Prefix(kind, _) => Resource { kind: *kind, name: "" },
            Pattern::Everything => return Ok(Some(Decision::None)),
        };
        Ok(Some(user.decide(resource, Actions::of(&[*action]), *from)))
    }
}
