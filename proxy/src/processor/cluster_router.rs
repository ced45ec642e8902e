//! Which cluster serves a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::pattern;
use crate::service::{Services, names};

/// Sends requests to a cluster other than the default one. Every pattern that is given must match; the first rule that
/// matches decides. In a pattern, `*` stands for any characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementRule {
    /// The topic's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The client's namespace, or that of a topic named `namespace%topic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The client's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The name of the cluster.
    pub cluster: String,
}

impl PlacementRule {
    fn matches(&self, origin: Origin<'_>, topic: &str) -> bool {
        let namespaces = [origin.namespace, names::split_namespace(topic).namespace];
        let namespace =
            |pattern: &str| namespaces.iter().any(|name| !name.is_empty() && pattern::matches(pattern, name));
        self.topic.as_deref().is_none_or(|pattern| pattern::matches(pattern, topic))
            && self.namespace.as_deref().is_none_or(namespace)
            && self.client.as_deref().is_none_or(|pattern| pattern::matches(pattern, origin.client_id))
    }
}

/// The client that a request comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Origin<'a> {
    pub(super) client_id: &'a str,
    pub(super) namespace: &'a str,
}

impl<'a> From<&'a Context> for Origin<'a> {
    fn from(context: &'a Context) -> Self {
        Self { client_id: &context.client_id, namespace: &context.namespace }
    }
}

/// A cluster, and its name in handles. The default cluster's name is empty.
pub(super) struct Cluster {
    pub(super) name: Arc<str>,
    pub(super) services: Services,
}

/// The clusters, and which requests go where.
pub struct ClusterRouter {
    default: Cluster,
    others: BTreeMap<String, Cluster>,
    rules: Vec<PlacementRule>,
}

impl ClusterRouter {
    /// One cluster for everything.
    #[must_use]
    pub fn single(services: Services) -> Self {
        Self { default: Cluster { name: "".into(), services }, others: BTreeMap::new(), rules: Vec::new() }
    }

    /// Adds another cluster. Its name is part of handles, and must not change while there are any.
    #[must_use]
    pub fn add(mut self, name: String, services: Services) -> Self {
        let cluster = Cluster { name: name.as_str().into(), services };
        self.others.insert(name, cluster);
        self
    }

    /// Adds rules. The clusters that they name have been added.
    #[must_use]
    pub fn rules(mut self, rules: Vec<PlacementRule>) -> Self {
        self.rules = rules;
        self
    }

    pub(super) fn route(&self, origin: Origin<'_>, topic: &str) -> &Cluster {
        let rule = self.rules.iter().find(|rule| rule.matches(origin, topic));
        rule.and_then(|rule| self.others.get(&rule.cluster)).unwrap_or(&self.default)
    }

    /// The services of all clusters.
    pub(crate) fn all_services(&self) -> impl Iterator<Item = &Services> {
        self.all().map(|cluster| &cluster.services)
    }

    /// The services of a topic's cluster for what the proxy itself, or an administrator, does. They have no client id and no
    /// namespace: placement rules that ask for these don't apply.
    pub(crate) fn services_of(&self, topic: &str) -> &Services {
        &self.route(Origin::default(), topic).services
    }

    /// The cluster that a handle names.
    ///
    /// # Errors
    /// `InvalidHandle` if the operator has removed it.
    pub(super) fn get(&self, name: &str) -> Result<&Cluster, Error> {
        if name.is_empty() {
            return Ok(&self.default);
        }
        self.others.get(name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidHandle, format!("there is no cluster {name} any more"))
        })
    }

    /// All clusters, the default one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Cluster> {
        std::iter::once(&self.default).chain(self.others.values())
    }

    /// The services of the cluster that requests go to unless a rule says otherwise.
    pub(super) fn default_services(&self) -> &Services {
        &self.default.services
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin<'a>(client_id: &'a str, namespace: &'a str) -> Origin<'a> {
        Origin { client_id, namespace }
    }

    #[test]
    fn every_pattern_of_a_rule_must_match() {
        let rule = PlacementRule {
            topic: Some("pay*".to_owned()),
            namespace: Some("eu".to_owned()),
            client: Some("app-*".to_owned()),
            cluster: "x".to_owned(),
        };
        assert!(rule.matches(origin("app-1", "eu"), "payments"));
        assert!(!rule.matches(origin("app-1", "us"), "payments"));
        assert!(!rule.matches(origin("web-1", "eu"), "payments"));
        assert!(!rule.matches(origin("app-1", "eu"), "orders"));
        let by_topic = PlacementRule { namespace: Some("eu".to_owned()), ..PlacementRule::default() };
        assert!(by_topic.matches(origin("c", ""), "eu%orders"));
        assert!(!by_topic.matches(origin("c", ""), "orders"));
        assert!(by_topic.matches(origin("c", ""), "%DLQ%eu%g"));
        assert!(by_topic.matches(origin("c", ""), "%RETRY%eu%g_eu%orders"));
        assert!(!by_topic.matches(origin("c", ""), "%DLQ%g"));
    }
}
