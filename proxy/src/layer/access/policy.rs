//! Policies as in Apache's ACL 2.0: the most specific policy that applies decides, a denial wins among equally specific ones,
//! and a request without an applicable policy is denied.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// The kind of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
    /// The cluster, for administration.
    Cluster,
}

impl ResourceKind {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Topic, "Topic"), (Self::Group, "Group"), (Self::Cluster, "Cluster")];
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// A resource that a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resource<T> {
    pub(super) kind: ResourceKind,
    pub(super) name: T,
}

impl fmt::Display for Resource<&str> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.kind == ResourceKind::Cluster { "*" } else { self.name };
        write!(f, "{}:{name}", self.kind)
    }
}

/// An action on a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// All actions.
    All,
    /// Sends messages to a topic.
    Pub,
    /// Consumes from a topic, or in a group.
    Sub,
    /// Creates topics and groups.
    Create,
    /// Changes topics and groups, resets offsets, resends dead letters, and sets the log level.
    Update,
    /// Deletes topics and groups.
    Delete,
    /// Reads a topic, a group, or messages.
    Get,
    /// Lists topics, groups, clients and users.
    List,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(clap::ValueEnum::to_possible_value(self).as_ref().map_or("", |word| word.get_name()))
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Actions(u8);

impl Actions {
    /// The set of these actions.
    pub(super) fn of(actions: &[Action]) -> Self {
        let bits = |action: &Action| if *action == Action::All { u8::MAX } else { 1 << (*action as u8) };
        Self(actions.iter().map(bits).fold(0, |all, one| all | one))
    }

    /// Whether the sets have an action in common.
    fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Whether a policy allows or denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Allows.
    #[default]
    Allow,
    /// Denies.
    Deny,
}

/// The resources of a policy: `Topic:orders`, `Topic:orders*`, `Group:*`, or `*` for all resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `*`.
    Everything,
    /// All resources of a kind: `KIND:*`.
    All(ResourceKind),
    /// The resources of a kind whose names begin with a prefix: `KIND:PREFIX*`.
    Prefix(ResourceKind, String),
    /// A single resource: `KIND:NAME`.
    Literal(ResourceKind, String),
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Everything);
        }
        let wrong = || {
            format!(
                "{text:?} is not a resource: expected Topic:NAME, Group:NAME or Cluster:*, where NAME may end with *, or *"
            )
        };
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        let (kind, _) = ResourceKind::ALL
            .into_iter()
            .find(|(_, word)| word.eq_ignore_ascii_case(kind))
            .ok_or_else(wrong)?;
        match name.strip_suffix('*') {
            Some("") => Ok(Self::All(kind)),
            _ if kind == ResourceKind::Cluster => Err(wrong()),
            Some(prefix) if !prefix.contains('*') => Ok(Self::Prefix(kind, prefix.to_owned())),
            None if !name.is_empty() && !name.contains('*') => Ok(Self::Literal(kind, name.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::All(kind) => write!(f, "{kind}:*"),
            Self::Prefix(kind, prefix) => write!(f, "{kind}:{prefix}*"),
            Self::Literal(kind, name) => write!(f, "{kind}:{name}"),
        }
    }
}

/// A policy without its pattern.
#[derive(Clone, Debug)]
pub(super) struct PolicyRule {
    pub(super) actions: Actions,
    /// The networks of clients to which the policy applies. Empty for all networks.
    pub(super) from: Vec<IpNet>,
    pub(super) effect: Effect,
    /// The index of the policy among all policies, from 0.
    pub(super) index: usize,
}

impl PolicyRule {
    /// Whether the policy applies to this address. A client with an unknown address must not evade denials, which apply in any
    /// case.
    fn covers(&self, address: Option<IpAddr>) -> bool {
        match address {
            Some(address) => {
                self.from.is_empty() || self.from.iter().any(|network| network.contains(&address))
            }
            None => self.from.is_empty() || self.effect == Effect::Deny,
        }
    }
}

/// The decision of a user's policies about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyDecision {
    /// Decided by the policy with this index among all policies.
    Policy(Effect, usize),
    /// No policy applies: the request is denied.
    None,
}

/// Policies by kind and name. A fast hash without a secret is safe, because operators choose the names.
type ByName = FxHashMap<ResourceKind, FxHashMap<String, Vec<PolicyRule>>>;

/// The policies of one user, by specificity. The time of a lookup does not depend on the number of policies for other names.
#[derive(Debug, Default)]
pub(super) struct Policies {
    literal: ByName,
    /// By the length of the prefix.
    prefixes: BTreeMap<usize, ByName>,
    all: FxHashMap<ResourceKind, Vec<PolicyRule>>,
    everything: Vec<PolicyRule>,
}

impl Policies {
    /// Adds a policy.
    pub(super) fn add(&mut self, pattern: Pattern, entry: PolicyRule) {
        fn named(by_name: &mut ByName, kind: ResourceKind, name: String) -> &mut Vec<PolicyRule> {
            by_name.entry(kind).or_default().entry(name).or_default()
        }
        let entries = match pattern {
            Pattern::Literal(kind, name) => named(&mut self.literal, kind, name),
            Pattern::Prefix(kind, prefix) => {
                named(self.prefixes.entry(prefix.len()).or_default(), kind, prefix)
            }
            Pattern::All(kind) => self.all.entry(kind).or_default(),
            Pattern::Everything => &mut self.everything,
        };
        entries.push(entry);
    }

    /// Decides whether one of these actions on a resource is allowed from this address.
    pub(super) fn decide(
        &self,
        resource: Resource<&str>,
        actions: Actions,
        address: Option<IpAddr>,
    ) -> PolicyDecision {
        let Resource { kind, name } = resource;
        let literal = self.literal.get(&kind).and_then(|by_name| by_name.get(name));
        let prefixes = self
            .prefixes
            .iter()
            .rev()
            .filter_map(|(length, prefixes)| prefixes.get(&kind)?.get(name.get(..*length)?));
        let levels = literal.into_iter().chain(prefixes).chain(self.all.get(&kind)).chain([&self.everything]);
        for level in levels {
            let applies =
                || level.iter().filter(|entry| entry.actions.intersects(actions) && entry.covers(address));
            let denial = applies().find(|entry| entry.effect == Effect::Deny);
            if let Some(entry) = denial.or_else(|| applies().next()) {
                return PolicyDecision::Policy(entry.effect, entry.index);
            }
        }
        PolicyDecision::None
    }
}
