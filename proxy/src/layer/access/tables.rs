//! Users and policies as they are kept, in a file or in the catalog, and what changes them.

use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::policy::{Action, Actions, Decision, Effect, Entry, Pattern, Policies};
use super::rules::{Rules, User};
use super::seal::{Secret, SecretKey};
use crate::error::{Error, ErrorKind};

const MAX_USERS: usize = 10_000;
const MAX_POLICIES: usize = 100_000;
/// Policies of one user: a change writes all of them.
const MAX_POLICIES_OF_USER: usize = 1_000;
/// Bytes of a user's name, a name in a certificate, and a resource.
const MAX_NAME: usize = 255;
/// Bytes of a secret.
const MAX_SECRET: usize = 255;
/// Names in certificates of one user, networks of one policy, and policies in one request.
const MAX_LIST: usize = 100;

/// Users and policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tables {
    /// The users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserEntry>,
    /// The policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyEntry>,
    /// The highest number that a policy has had.
    #[serde(skip)]
    pub(super) last_number: u32,
}

/// A user.
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

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyEntry {
    /// Its number: in a file its place, from 1 on; in the catalog one that no other policy gets while the proxy runs.
    #[serde(skip)]
    pub number: u32,
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

/// A user to add.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The name, which is also the access key.
    pub name: String,
    /// The secret. Without one, a random one is made.
    pub secret: Option<Secret>,
    /// Whether the user needs policies.
    pub kind: UserKind,
    /// Whether the user may do anything at all.
    pub enabled: bool,
    /// Names in client certificates.
    pub certificates: Vec<String>,
}

impl NewUser {
    /// The first user, who may do everything.
    #[must_use]
    pub fn admin() -> Self {
        let name = "admin".to_owned();
        Self { name, secret: None, kind: UserKind::Super, enabled: true, certificates: Vec::new() }
    }
}

/// What is to be changed of a user.
#[derive(Clone, Debug, Default)]
pub struct UserUpdate {
    /// The secret.
    pub secret: Option<Secret>,
    /// Whether the user needs policies.
    pub kind: Option<UserKind>,
    /// Whether the user may do anything at all.
    pub enabled: Option<bool>,
    /// Names in client certificates, in place of the earlier ones.
    pub certificates: Option<Vec<String>>,
}

/// A user with their policies, and without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    /// The name, which is also the access key.
    pub name: String,
    /// Whether the user needs policies.
    pub kind: UserKind,
    /// Whether the user may do anything at all.
    pub enabled: bool,
    /// Names in client certificates.
    pub certificates: Vec<String>,
    /// The user's policies, by their numbers.
    pub policies: Vec<PolicyEntry>,
}

/// What is decided about a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The reason, as a part of a sentence.
    pub why: String,
    /// The policy that decides, if one does and it is known.
    pub policy: Option<PolicyEntry>,
}

impl Explanation {
    /// What a decision of these rules means. The policies are those that the rules were made of.
    #[must_use]
    pub fn of(decision: Result<Option<Decision>, Error>, user: &str, policies: &[PolicyEntry]) -> Self {
        let (allowed, why, policy) = match decision {
            Err(error) => (false, error.message, None),
            Ok(None) => (true, format!("{user} is a super user"), None),
            Ok(Some(Decision::None)) => (false, "no policy applies".to_owned(), None),
            Ok(Some(Decision::Policy(effect, index))) => {
                (effect == Effect::Allow, "this policy decides".to_owned(), policies.get(index).cloned())
            }
        };
        Self { allowed, why, policy }
    }
}

impl Tables {
    /// The same, with policies that have their places as numbers.
    pub(super) fn numbered(mut self) -> Self {
        for (number, policy) in (1..).zip(&mut self.policies) {
            policy.number = number;
            self.last_number = number;
        }
        self
    }

    /// The users and their policies, by name.
    #[must_use]
    pub fn listed(self) -> Vec<ListedUser> {
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

    /// Whether somebody may do everything.
    pub(super) fn has_super_user(&self) -> bool {
        self.users.iter().any(|user| user.kind == UserKind::Super && user.enabled)
    }

    /// Adds a user. Returns the secret if it was made here.
    ///
    /// # Errors
    /// `AlreadyExists`; `BadRequest` for what can't be in a name, a secret or a certificate, or if there are too many.
    pub fn add_user(&mut self, new: NewUser, key: &SecretKey) -> Result<Option<String>, Error> {
        let NewUser { name, secret, kind, enabled, certificates } = new;
        check_name(&name)?;
        check_certificates(&certificates)?;
        if self.users.iter().any(|user| user.name == name) {
            let text = format!("user {name} exists; `user secret {name}` makes a new secret");
            return Err(Error::new(ErrorKind::AlreadyExists, text));
        }
        if self.users.len() >= MAX_USERS {
            return Err(bad(format!("there are {MAX_USERS} users, and no more are possible")));
        }
        let (secret, told) = given_or_random(secret)?;
        let secret = key.seal(&name, &secret);
        self.users.push(UserEntry { name, secret, kind, enabled, certificates });
        Ok(told)
    }

    /// Changes a user.
    ///
    /// # Errors
    /// `UserNotFound`; `BadRequest` for what can't be in a secret or a certificate.
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

    /// Gives a user a new secret: this one, or a random one, which is returned.
    ///
    /// # Errors
    /// `UserNotFound`; `BadRequest` if the secret can't be one.
    pub fn set_secret(
        &mut self,
        name: &str,
        secret: Option<Secret>,
        key: &SecretKey,
    ) -> Result<Option<String>, Error> {
        let user = self.user(name)?;
        let (secret, told) = given_or_random(secret)?;
        user.secret = key.seal(name, &secret);
        Ok(told)
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

    /// Adds a policy, whatever its number is. Returns it with the number that it gets.
    ///
    /// # Errors
    /// `UserNotFound`; `BadRequest` for what is no resource, without an action, or if there are too many.
    pub fn add_policy(&mut self, policy: PolicyEntry) -> Result<PolicyEntry, Error> {
        self.user(&policy.user)?;
        let pattern: Pattern = policy.resource.parse().map_err(bad)?;
        if policy.resource.len() > MAX_NAME || policy.from.len() > MAX_LIST {
            return Err(bad(format!(
                "a resource has at most {MAX_NAME} bytes, a policy {MAX_LIST} networks"
            )));
        }
        if policy.actions.is_empty() {
            return Err(bad("a policy needs an action".to_owned()));
        }
        if self.policies.len() >= MAX_POLICIES {
            return Err(bad(format!("there are {MAX_POLICIES} policies, and no more are possible")));
        }
        if self.policies.iter().filter(|other| other.user == policy.user).count() >= MAX_POLICIES_OF_USER {
            return Err(bad(format!(
                "{} has {MAX_POLICIES_OF_USER} policies, and no more are possible",
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

    /// Removes the policy with this number. Returns it.
    ///
    /// # Errors
    /// `PolicyNotFound`.
    pub fn remove_policy(&mut self, number: u32) -> Result<PolicyEntry, Error> {
        let index = self.policies.iter().position(|policy| policy.number == number);
        let missing = || Error::new(ErrorKind::PolicyNotFound, format!("there is no policy {number}"));
        Ok(self.policies.remove(index.ok_or_else(missing)?))
    }

    /// Adds policies of a user, in place of the user's policies for the same resources.
    ///
    /// # Errors
    /// As [`Self::add_policy`].
    pub(super) fn put_policies(&mut self, policies: Vec<PolicyEntry>) -> Result<(), Error> {
        if policies.len() > MAX_LIST {
            return Err(bad(format!("a request has at most {MAX_LIST} policies")));
        }
        for policy in policies {
            let resource = policy.resource.parse::<Pattern>().map_err(bad)?.to_string();
            // Before the other is added: who has all policies that are possible may still change one.
            self.policies.retain(|other| other.user != policy.user || other.resource != resource);
            self.add_policy(policy)?;
        }
        Ok(())
    }

    /// Removes a user's policies for a resource, or all of them.
    ///
    /// # Errors
    /// `PolicyNotFound` if there are none; `BadRequest` for what is no resource.
    pub(super) fn remove_policies(&mut self, user: &str, resource: Option<&str>) -> Result<(), Error> {
        let resource = resource.map(|text| text.parse::<Pattern>().map_err(bad)).transpose()?;
        let resource = resource.map(|pattern| pattern.to_string());
        let before = self.policies.len();
        self.policies.retain(|policy| {
            policy.user != user || resource.as_ref().is_some_and(|resource| policy.resource != *resource)
        });
        if self.policies.len() == before {
            let text = format!("user {user} has no such policies");
            return Err(Error::new(ErrorKind::PolicyNotFound, text));
        }
        Ok(())
    }

    fn user(&mut self, name: &str) -> Result<&mut UserEntry, Error> {
        let found = self.users.iter_mut().find(|user| user.name == name);
        found.ok_or_else(|| {
            let text = format!("user {name} does not exist; `user list` shows who does");
            Error::new(ErrorKind::UserNotFound, text)
        })
    }

    /// Users and policies for lookups.
    ///
    /// # Errors
    /// What makes no sense. The path of the key is for this text.
    pub(super) fn rules(&self, key: &SecretKey, key_path: &Path) -> Result<Rules, String> {
        let mut rules = Rules::default();
        for UserEntry { name, secret, kind, enabled, certificates } in &self.users {
            // Signatures name their user in a list with these separators.
            if name.is_empty() || name.contains(SEPARATORS) {
                return Err(format!("{name:?} can't be a user's name"));
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
            if !rules.add_user(name.clone(), user) {
                return Err(format!("there are two users {name}"));
            }
            for certificate in certificates {
                if !rules.add_certificate(certificate.clone(), name.clone()) {
                    return Err(format!("two users have the certificate {certificate:?}"));
                }
            }
        }
        for (index, PolicyEntry { user, resource, actions, from, effect, .. }) in
            self.policies.iter().enumerate()
        {
            let pattern: Pattern = resource.parse()?;
            if actions.is_empty() {
                return Err(format!("a policy of {user} for {resource} names no action"));
            }
            let entry = Entry { actions: Actions::of(actions), from: from.clone(), effect: *effect, index };
            if !rules.add_policy(user, pattern, entry) {
                return Err(format!("a policy for {resource} names the user {user}, who does not exist"));
            }
        }
        Ok(rules)
    }
}

const SEPARATORS: [char; 4] = ['/', ',', '=', ' '];

fn check_name(name: &str) -> Result<(), Error> {
    // A colon ends the name in HTTP's Basic authorization.
    let is_wrong = |c: char| SEPARATORS.contains(&c) || c == ':' || c.is_control() || c.is_whitespace();
    if name.is_empty() || name.len() > MAX_NAME || name.contains(is_wrong) || matches!(name, "." | "..") {
        let text = format!(
            "{:?} can't be a user's name: it has 1 to {MAX_NAME} bytes, without spaces and / , = :",
            name.chars().take(MAX_NAME).collect::<String>()
        );
        return Err(bad(text));
    }
    Ok(())
}

fn check_certificates(names: &[String]) -> Result<(), Error> {
    if names.len() > MAX_LIST || names.iter().any(|name| name.is_empty() || name.len() > MAX_NAME) {
        let text = format!("a user has at most {MAX_LIST} names in certificates, of 1 to {MAX_NAME} bytes");
        return Err(bad(text));
    }
    Ok(())
}

/// A secret, and its text if it was made here.
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
