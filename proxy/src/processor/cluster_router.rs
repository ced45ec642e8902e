//! Which cluster serves a request. Where there is one cluster, that one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::service::Services;

/// Sends requests to a cluster that is not the default one. Everything it names must match; the first rule that
/// matches decides. In each pattern `*` stands for any characters.
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
    /// Where to: a name among the clusters.
    pub cluster: String,
}

impl PlacementRule {
    fn matches(&self, origin: Origin<'_>, topic: &str) -> bool {
        let namespaces = [Some(origin.namespace), namespace_of(topic)];
        let namespace = |pattern: &str| {
            namespaces.iter().flatten().any(|name| !name.is_empty() && is_like(pattern, name))
        };
        self.topic.as_deref().is_none_or(|pattern| is_like(pattern, topic))
            && self.namespace.as_deref().is_none_or(namespace)
            && self.client.as_deref().is_none_or(|pattern| is_like(pattern, origin.client_id))
    }
}

/// The namespace in `namespace%topic`, also of a group's dead letters and retries, `%DLQ%namespace%group`.
fn namespace_of(topic: &str) -> Option<&str> {
    let name = ["%DLQ%", "%RETRY%"].iter().find_map(|prefix| topic.strip_prefix(prefix)).unwrap_or(topic);
    name.split_once('%').map(|(namespace, _)| namespace)
}

/// Who asks.
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

/// Whether a text is like a pattern in which `*` stands for any characters.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A cluster, and how handles name it: the default one is the empty name.
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

    /// Adds another cluster. Its name stands in handles, and must not change while handles live.
    #[must_use]
    pub fn add(mut self, name: String, services: Services) -> Self {
        let cluster = Cluster { name: name.as_str().into(), services };
        self.others.insert(name, cluster);
        self
    }

    /// Adds rules.
    ///
    /// # Errors
    /// The name of a cluster that a rule wants and nobody added.
    pub fn rules(mut self, rules: Vec<PlacementRule>) -> Result<Self, String> {
        match rules.iter().find(|rule| !self.others.contains_key(&rule.cluster)) {
            Some(rule) => Err(rule.cluster.clone()),
            None => {
                self.rules = rules;
                Ok(self)
            }
        }
    }

    pub(super) fn route(&self, origin: Origin<'_>, topic: &str) -> &Cluster {
        let rule = self.rules.iter().find(|rule| rule.matches(origin, topic));
        rule.and_then(|rule| self.others.get(&rule.cluster)).unwrap_or(&self.default)
    }

    /// The cluster that a handle names.
    ///
    /// # Errors
    /// `InvalidHandle`: the operator has taken it away.
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
    fn patterns() {
        for (pattern, text, like) in [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("*", "", true),
            ("pay-*", "pay-eu", true),
            ("pay-*", "repay-eu", false),
            ("*-eu", "pay-eu", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(is_like(pattern, text), like, "{pattern} {text}");
        }
    }

    #[test]
    fn everything_a_rule_names_must_match() {
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
