//! Chooses the cluster that serves a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::pattern;
use crate::service::{Services, names};

/// A rule that sends requests to a cluster other than the default one. All patterns that are set must match. The first
/// matching rule decides. In a pattern, `*` stands for any characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementRule {
    /// A pattern for the topic's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// A pattern for the client's namespace, or for the namespace in a topic's name `namespace%topic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A pattern for the client's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The name of the cluster that serves matching requests.
    pub cluster: String,
}

impl PlacementRule {
    fn matches(&self, origin: ClientOrigin<'_>, topic: &str) -> bool {
        let namespaces = [origin.namespace, names::split_namespace(topic).namespace];
        let namespace =
            |pattern: &str| namespaces.iter().any(|name| !name.is_empty() && pattern::matches(pattern, name));
        self.topic.as_deref().is_none_or(|pattern| pattern::matches(pattern, topic))
            && self.namespace.as_deref().is_none_or(namespace)
            && self.client.as_deref().is_none_or(|pattern| pattern::matches(pattern, origin.client_id))
    }
}

/// The client of a request, for rules.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClientOrigin<'a> {
    pub(super) client_id: &'a str,
    pub(super) namespace: &'a str,
}

impl<'a> From<&'a Context> for ClientOrigin<'a> {
    fn from(context: &'a Context) -> Self {
        Self { client_id: &context.client_id, namespace: &context.namespace }
    }
}

/// A cluster with its name in handles. The default cluster's name is empty.
pub(super) struct Cluster {
    pub(super) name: Arc<str>,
    pub(super) services: Services,
}

/// The clusters, and the rules that choose one for each request.
pub struct ClusterRouter {
    default: Cluster,
    others: BTreeMap<String, Cluster>,
    rules: Vec<PlacementRule>,
}

impl ClusterRouter {
    /// A router with one cluster for all requests.
    #[must_use]
    pub fn single(services: Services) -> Self {
        Self { default: Cluster { name: "".into(), services }, others: BTreeMap::new(), rules: Vec::new() }
    }

    /// Adds another cluster. Handles contain the cluster's name, so it must not change while there are deliveries.
    #[must_use]
    pub fn add(mut self, name: String, services: Services) -> Self {
        let cluster = Cluster { name: name.as_str().into(), services };
        self.others.insert(name, cluster);
        self
    }

    /// Sets the rules. The clusters that they name must have been added.
    #[must_use]
    pub fn rules(mut self, rules: Vec<PlacementRule>) -> Self {
        self.rules = rules;
        self
    }

    /// The cluster that serves a client's request about a topic.
    pub(super) fn route(&self, origin: ClientOrigin<'_>, topic: &str) -> &Cluster {
        let rule = self.rules.iter().find(|rule| rule.matches(origin, topic));
        rule.and_then(|rule| self.others.get(&rule.cluster)).unwrap_or(&self.default)
    }

    /// The services of all clusters.
    pub(crate) fn all_services(&self) -> impl Iterator<Item = &Services> {
        self.all().map(|cluster| &cluster.services)
    }

    /// The services of a topic's cluster, for requests of administrators and of the proxy itself. These have no client id and
    /// no namespace, so placement rules with patterns for them don't match.
    pub(crate) fn services_of(&self, topic: &str) -> &Services {
        &self.route(ClientOrigin::default(), topic).services
    }

    /// The cluster that a handle names.
    ///
    /// # Errors
    /// `InvalidHandle` if the operator has removed the cluster.
    pub(super) fn get(&self, name: &str) -> Result<&Cluster, Error> {
        if name.is_empty() {
            return Ok(&self.default);
        }
        self.others.get(name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidHandle, format!("cluster {name} is no longer configured"))
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

    fn origin<'a>(client_id: &'a str, namespace: &'a str) -> ClientOrigin<'a> {
        ClientOrigin { client_id, namespace }
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
