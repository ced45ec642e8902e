//! Users and policies as they are stored in a file or in the catalog, and the changes that can be made to them.

use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::acl_index::{AclIndex, User};
use super::policy::{Action, Actions, Effect, Pattern, Policies, PolicyDecision, PolicyRule};
use super::secret_encryption::{Secret, SecretKey};
use super::user_kind::UserKind;
use crate::error::{Error, ErrorKind};

const MAX_USERS: usize = 10_000;
const MAX_POLICIES: usize = 100_000;
/// The maximum number of policies of one user. A change writes all of them.
const MAX_POLICIES_OF_USER: usize = 1_000;
/// The maximum length of a user's name, a name in a certificate, and a resource, in bytes.
const MAX_NAME: usize = 255;
/// The maximum length of a secret, in bytes.
const MAX_SECRET: usize = 255;
/// The maximum number of names in certificates of one user, networks of one policy, and policies in one request.
const MAX_LIST: usize = 100;

/// Users and policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoredAcl {
    /// The users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserEntry>,
    /// The policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyEntry>,
    /// The highest number that was assigned to a policy.
    #[serde(skip)]
    pub(super) last_number: u32,
}

/// A user as it is stored, with a sealed secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserEntry {
    /// The name, which is also the access key.
    pub name: String,
    /// The sealed secret.
    pub secret: String,
    /// Whether the user is authorized by policies.
    #[serde(default, rename = "type")]
    pub kind: UserKind,
    /// Whether requests of the user are accepted.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Names in client certificates. A connection with one of them needs no signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
}

fn yes() -> bool {
    true
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyEntry {
    /// The number of the policy. In a file, its position, from 1. In the catalog, a number that is not reused while the proxy
    /// runs.
    #[serde(skip)]
    pub number: u32,
    /// The user to whom the policy applies.
    pub user: String,
    /// The resources, in the form that [`Pattern`] parses.
    pub resource: String,
    /// The actions that the policy allows or denies.
    pub actions: Vec<Action>,
    /// The networks of clients to which the policy applies. Empty for all networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<IpNet>,
    /// Whether the policy allows or denies the actions.
    #[serde(default)]
    pub effect: Effect,
}

/// A user to add.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The name, which is also the access key.
    pub name: String,
    /// The secret. Without one, a random secret is generated.
    pub secret: Option<Secret>,
    /// Whether the user is authorized by policies.
    pub kind: UserKind,
    /// Whether requests of the user are accepted.
    pub enabled: bool,
    /// Names in client certificates.
    pub certificates: Vec<String>,
}

impl NewUser {
    /// The first user, a super user named `admin`.
    #[must_use]
    pub fn admin() -> Self {
        let name = "admin".to_owned();
        Self { name, secret: None, kind: UserKind::Super, enabled: true, certificates: Vec::new() }
    }
}

/// A change of a user. Fields that are `None` stay unchanged.
#[derive(Clone, Debug, Default)]
pub struct UserUpdate {
    /// The secret.
    pub secret: Option<Secret>,
    /// Whether the user is authorized by policies.
    pub kind: Option<UserKind>,
    /// Whether requests of the user are accepted.
    pub enabled: Option<bool>,
    /// Names in client certificates, which replace the earlier ones.
    pub certificates: Option<Vec<String>>,
}

/// A user with their policies, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    /// The name, which is also the access key.
    pub name: String,
    /// Whether the user is authorized by policies.
    pub kind: UserKind,
    /// Whether requests of the user are accepted.
    pub enabled: bool,
    /// Names in client certificates.
    pub certificates: Vec<String>,
    /// The user's policies, sorted by number.
    pub policies: Vec<PolicyEntry>,
}

/// A decision about a request, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the request is allowed.
    pub allowed: bool,
    /// The reason, without a capital and a full stop.
    pub why: String,
    /// The policy that decides, if one does. The number of a policy of brokers is its position among those that the proxy applies.
    pub policy: Option<PolicyEntry>,
}

impl Explanation {
    /// Explains a decision about a request of `user`. `policies` are those from which the index was created.
    #[must_use]
    pub fn of(decision: Result<Option<PolicyDecision>, Error>, user: &str, policies: &[PolicyEntry]) -> Self {
        let (allowed, why, policy) = match decision {
            Err(error) => (false, error.message, None),
            Ok(None) => (true, format!("{user} is a super user"), None),
            Ok(Some(PolicyDecision::None)) => (false, "no policy applies".to_owned(), None),
            Ok(Some(PolicyDecision::Policy(effect, index))) => {
                (effect == Effect::Allow, "this policy decides".to_owned(), policies.get(index).cloned())
            }
        };
        Self { allowed, why, policy }
    }
}

impl StoredAcl {
    /// Numbers the policies by their positions.
    pub(super) fn with_numbers(mut self) -> Self {
        for (number, policy) in (1..).zip(&mut self.policies) {
            policy.number = number;
            self.last_number = number;
        }
        self
    }

    /// The users with their policies, sorted by name.
    #[must_use]
    pub fn into_list(self) -> Vec<ListedUser> {
        let mut users: Vec<_> = self
            .users
            .into_iter()
            .map(|UserEntry { name, kind, enabled, certificates, .. }| ListedUser {
                name,
                kind,
                enabled,
                certificates,
                policies: Vec::new(),
            })
            .collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        for policy in self.policies {
            let found = users.binary_search_by(|user| user.name.cmp(&policy.user));
            if let Ok(index) = found {
                users[index].policies.push(policy);
            }
        }
        users
    }

    /// Whether there is an enabled super user.
    pub(super) fn has_super_user(&self) -> bool {
        self.users.iter().any(|user| user.kind == UserKind::Super && user.enabled)
    }

    /// Adds a user. Returns the secret if it was generated here.
    ///
    /// # Errors
    /// `AlreadyExists`; `BadRequest` if the name, the secret or a certificate is invalid, or if there are too many users.
    pub fn add_user(&mut self, new: NewUser, key: &SecretKey) -> Result<Option<String>, Error> {
        let NewUser { name, secret, kind, enabled, certificates } = new;
        check_name(&name)?;
        check_certificates(&certificates)?;
        if self.users.iter().any(|user| user.name == name) {
            let text = format!("user {name} exists; `user secret {name}` replaces the secret");
            return Err(Error::new(ErrorKind::AlreadyExists, text));
        }
        if self.users.len() >= MAX_USERS {
            return Err(bad(format!("there are {MAX_USERS} users, which is the maximum")));
        }
        let (secret, generated) = given_or_random(secret)?;
        let secret = key.seal(&name, &secret);
        self.users.push(UserEntry { name, secret, kind, enabled, certificates });
        Ok(generated)
    }

    /// Changes a user.
    ///
    /// # Errors
    /// `UserNotFound`; `BadRequest` if the secret or a certificate is invalid.
    pub fn update_user(&mut self, name: &str, update: UserUpdate, key: &SecretKey) -> Result<(), Error> {
        let UserUpdate { secret, kind, enabled, certificates } = update;
        if let Some(certificates) = &certificates {
            check_certificates(certificates)?;
        }
        if secret.is_some() {
            self.set_secret(name, secret, key)?;
        }
        let user = self.user(name)?;
        user.kind = kind.unwrap_or(user.kind);
        user.enabled = enabled.unwrap_or(user.enabled);
        if let Some(certificates) = certificates {
            user.certificates = certificates;
        }
        Ok(())
    }

    /// Replaces a user's secret. Without a new one, generates a random secret and returns it.
    ///
    /// # Errors
    /// `UserNotFound`; `BadRequest` if the secret is invalid.
    pub fn set_secret(
        &mut self,
        name: &str,
        secret: Option<Secret>,
        key: &SecretKey,
    ) -> Result<Option<String>, Error> {
        let user = self.user(name)?;
        let (secret, generated) = given_or_random(secret)?;
        user.secret = key.seal(name, &secret);
        Ok(generated)
    }

    /// Removes a user and their policies.
    ///
    /// # Errors
    /// `UserNotFound`.
    pub fn remove_user(&mut self, name: &str) -> Result<(), Error> {
        self.user(name)?;
        self.users.retain(|user| user.name != name);
        self.policies.retain(|policy| policy.user != name);
        Ok(())
    }

    /// Adds a policy, and returns it with the number that it was assigned. The number in `policy` is ignored.
    ///
    /// # Errors
    /// `UserNotFound`; `BadRequest` if the resource is invalid, there is no action, or there are too many policies.
    pub fn add_policy(&mut self, policy: PolicyEntry) -> Result<PolicyEntry, Error> {
        self.user(&policy.user)?;
        let pattern: Pattern = policy.resource.parse().map_err(bad)?;
        if policy.resource.len() > MAX_NAME || policy.from.len() > MAX_LIST {
            return Err(bad(format!(
                "a resource has at most {MAX_NAME} bytes, and a policy at most {MAX_LIST} networks"
            )));
        }
        if policy.actions.is_empty() {
            return Err(bad("a policy needs at least one action".to_owned()));
        }
        if self.policies.len() >= MAX_POLICIES {
            return Err(bad(format!("there are {MAX_POLICIES} policies, which is the maximum")));
        }
        if self.policies.iter().filter(|other| other.user == policy.user).count() >= MAX_POLICIES_OF_USER {
            return Err(bad(format!(
                "{} has {MAX_POLICIES_OF_USER} policies, which is the maximum",
                policy.user
            )));
        }
        let PolicyEntry { user, mut actions, from, effect, .. } = policy;
        let mut seen = Vec::new();
        actions.retain(|action| {
            !seen.contains(action) && {
                seen.push(*action);
                true
            }
        });
        self.last_number += 1;
        let resource = pattern.to_string();
        let added = PolicyEntry { number: self.last_number, user, resource, actions, from, effect };
        self.policies.push(added.clone());
        Ok(added)
    }

    /// Removes the policy with this number, and returns it.
    ///
    /// # Errors
    /// `PolicyNotFound`.
    pub fn remove_policy(&mut self, number: u32) -> Result<PolicyEntry, Error> {
        let index = self.policies.iter().position(|policy| policy.number == number);
        let missing = || Error::new(ErrorKind::PolicyNotFound, format!("there is no policy {number}"));
        Ok(self.policies.remove(index.ok_or_else(missing)?))
    }

    /// Adds policies of a user, which replace the user's policies for the same resources.
    ///
    /// # Errors
    /// As [`Self::add_policy`].
    pub(super) fn put_policies(&mut self, policies: Vec<PolicyEntry>) -> Result<(), Error> {
        if policies.len() > MAX_LIST {
            return Err(bad(format!("a request has at most {MAX_LIST} policies")));
        }
        for policy in policies {
            let resource = policy.resource.parse::<Pattern>().map_err(bad)?.to_string();
            // Removed first, so that a user with the maximum number of policies can still change one.
            self.policies.retain(|other| other.user != policy.user || other.resource != resource);
            self.add_policy(policy)?;
        }
        Ok(())
    }

    /// Removes a user's policies for a resource, or all of them.
    ///
    /// # Errors
    /// `PolicyNotFound` if there are none; `BadRequest` if the resource is invalid.
    pub(super) fn remove_policies(&mut self, user: &str, resource: Option<&str>) -> Result<(), Error> {
        let resource = resource.map(|text| text.parse::<Pattern>().map_err(bad)).transpose()?;
        let resource = resource.map(|pattern| pattern.to_string());
        let before = self.policies.len();
        self.policies.retain(|policy| {
            policy.user != user || resource.as_ref().is_some_and(|resource| policy.resource != *resource)
        });
        if self.policies.len() == before {
            let text = format!("user {user} has no such policy");
            return Err(Error::new(ErrorKind::PolicyNotFound, text));
        }
        Ok(())
    }

    fn user(&mut self, name: &str) -> Result<&mut UserEntry, Error> {
        let found = self.users.iter_mut().find(|user| user.name == name);
        found.ok_or_else(|| {
            let text = format!("user {name} does not exist; `user list` lists the users");
            Error::new(ErrorKind::UserNotFound, text)
        })
    }

    /// The index of these users and policies. `key_path` is for the text of errors.
    ///
    /// # Errors
    /// A user or a policy is invalid.
    pub(super) fn acl_index(&self, key: &SecretKey, key_path: &Path) -> Result<AclIndex, String> {
        let mut acl_index = AclIndex::default();
        for UserEntry { name, secret, kind, enabled, certificates } in &self.users {
            // Signatures contain the name of their user between these separators.
            if name.is_empty() || name.contains(SEPARATORS) {
                return Err(format!("{name:?} is not a valid user name"));
            }
            let Some(secret) = key.open(name, secret) else {
                let key = key_path.display();
                return Err(format!("the secret of user {name} can't be opened with the key in {key}"));
            };
            let user = User {
                kind: *kind,
                enabled: *enabled,
                secret: secret.into(),
                policies: Policies::default(),
                defaults: Policies::default(),
            };
            if !acl_index.add_user(name.clone(), user) {
                return Err(format!("there are two users {name}"));
            }
            for certificate in certificates {
                if !acl_index.add_certificate(certificate.clone(), name.clone()) {
                    return Err(format!("two users have the certificate {certificate:?}"));
                }
            }
        }
        for (index, PolicyEntry { user, resource, actions, from, effect, .. }) in
            self.policies.iter().enumerate()
        {
            let pattern: Pattern = resource.parse()?;
            if actions.is_empty() {
                return Err(format!("a policy of {user} for {resource} has no action"));
            }
            let entry =
                PolicyRule { actions: Actions::of(actions), from: from.clone(), effect: *effect, index };
            if !acl_index.add_policy(user, pattern, entry) {
                return Err(format!("a policy for {resource} is for the user {user}, who does not exist"));
            }
        }
        Ok(acl_index)
    }
}

const SEPARATORS: [char; 4] = ['/', ',', '=', ' '];

fn check_name(name: &str) -> Result<(), Error> {
    // A colon terminates the name in HTTP's Basic authorization.
    let is_wrong = |c: char| SEPARATORS.contains(&c) || c == ':' || c.is_control() || c.is_whitespace();
    if name.is_empty() || name.len() > MAX_NAME || name.contains(is_wrong) || matches!(name, "." | "..") {
        let text = format!(
            "{:?} is not a valid user name: expected 1 to {MAX_NAME} bytes, without spaces and / , = :",
            name.chars().take(MAX_NAME).collect::<String>()
        );
        return Err(bad(text));
    }
    Ok(())
}

fn check_certificates(names: &[String]) -> Result<(), Error> {
    if names.len() > MAX_LIST || names.iter().any(|name| name.is_empty() || name.len() > MAX_NAME) {
        let text =
            format!("a user has at most {MAX_LIST} names in certificates, of 1 to {MAX_NAME} bytes each");
        return Err(bad(text));
    }
    Ok(())
}

/// The given secret, or a random one with its text.
fn given_or_random(secret: Option<Secret>) -> Result<(Secret, Option<String>), Error> {
    match secret {
        Some(secret) if (1..=MAX_SECRET).contains(&secret.bytes().len()) => Ok((secret, None)),
        Some(_) => Err(bad(format!("a secret has 1 to {MAX_SECRET} bytes"))),
        None => {
            let (secret, text) = Secret::random();
            Ok((secret, Some(text)))
        }
    }
}

fn bad(text: String) -> Error {
    Error::new(ErrorKind::BadRequest, text)
}
