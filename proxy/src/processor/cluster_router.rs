//! Chooses the cluster that serves a request, by the rules of placement.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

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
    /// The share of message groups, and of clients that send messages without a group, whose matching messages go to the
    /// cluster, from 0 to 100. The others continue with the next rule. Receives get the messages of all these clusters. By
    /// default, the rule applies to all matching requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

impl PlacementRule {
    /// Checks the constraints that the types do not express.
    ///
    /// # Errors
    /// The problem.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.percent {
            Some(percent @ 101..) => Err(format!("{percent} is not a percentage from 0 to 100")),
            _ => Ok(()),
        }
    }

    fn matches(&self, origin: ClientOrigin<'_>, topic: &str) -> bool {
        let namespaces = [origin.namespace, names::split_namespace(topic).namespace];
        let namespace =
            |pattern: &str| namespaces.iter().any(|name| !name.is_empty() && pattern::matches(pattern, name));
        self.topic.as_deref().is_none_or(|pattern| pattern::matches(pattern, topic))
            && self.namespace.as_deref().is_none_or(namespace)
            && self.client.as_deref().is_none_or(|pattern| pattern::matches(pattern, origin.client_id))
    }

    /// Whether the key, a message group or a client id, belongs to the rule's share. All proxies decide alike. A key that
    /// belongs to a share belongs to every larger one, so that raising `percent` moves no key back.
    fn takes(&self, key: &str) -> bool {
        // Seeded, so that the shares of different clusters are independent.
        let hash = || xxh3_64_with_seed(key.as_bytes(), xxh3_64(self.cluster.as_bytes()));
        self.percent.is_none_or(|percent| !key.is_empty() && hash() % 100 < u64::from(percent))
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
    rules: RwLock<Arc<[PlacementRule]>>,
}

impl ClusterRouter {
    /// A router with one cluster for all requests.
    #[must_use]
    pub fn single(services: Services) -> Self {
        Self {
            default: Cluster { name: "".into(), services },
            others: BTreeMap::new(),
            rules: RwLock::default(),
        }
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
    pub fn rules(self, rules: Vec<PlacementRule>) -> Self {
        *self.rules.write() = rules.into();
        self
    }

    /// Replaces the rules. Requests in progress stay at their clusters.
    ///
    /// # Errors
    /// A rule is invalid, or names a cluster that was not added; the text says which. The previous rules stay in force.
    pub(super) fn replace_rules(&self, rules: Vec<PlacementRule>) -> Result<(), String> {
        for rule in &rules {
            rule.check()?;
            if !self.others.contains_key(&rule.cluster) {
                return Err(format!("cluster {} was not configured when the proxy started", rule.cluster));
            }
        }
        *self.rules.write() = rules.into();
        Ok(())
    }

    /// The cluster that serves a client's request about a topic.
    pub(super) fn route(&self, origin: ClientOrigin<'_>, topic: &str) -> &Cluster {
        self.route_message(origin, topic, None)
    }

    /// The cluster that stores a client's message of this message group.
    pub(super) fn route_message(
        &self,
        origin: ClientOrigin<'_>,
        topic: &str,
        message_group: Option<&str>,
    ) -> &Cluster {
        let key = message_group.unwrap_or(origin.client_id);
        let rules = self.rules.read();
        let rule = rules.iter().find(|rule| rule.matches(origin, topic) && rule.takes(key));
        self.of_rule(rule)
    }

    /// The other clusters that store messages of the topic, if rules divide them by percentage.
    pub(super) fn others_with_messages(&self, origin: ClientOrigin<'_>, topic: &str) -> Vec<&Cluster> {
        let rules = self.rules.read();
        if rules.iter().all(|rule| rule.percent.is_none()) {
            return Vec::new();
        }
        let mut matching = rules.iter().filter(|rule| rule.matches(origin, topic));
        let mut found: Vec<&Cluster> = Vec::new();
        loop {
            let rule = matching.next();
            let cluster = self.of_rule(rule);
            if found.iter().all(|other| other.name != cluster.name) {
                found.push(cluster);
            }
            if rule.is_none_or(|rule| rule.percent.is_none()) {
                break;
            }
        }
        drop(rules);
        let own = &self.route(origin, topic).name;
        found.retain(|cluster| cluster.name != *own);
        found
    }

    fn of_rule(&self, rule: Option<&PlacementRule>) -> &Cluster {
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
    use super::super::scripted;
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
            percent: None,
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

    fn share(percent: u8) -> PlacementRule {
        let topic = Some("orders".to_owned());
        PlacementRule { topic, cluster: "x".to_owned(), percent: Some(percent), ..PlacementRule::default() }
    }

    #[test]
    fn a_share_of_the_keys_moves_and_stays_moved_while_the_share_grows() {
        let keys: Vec<_> = (0..10_000).map(|index| format!("group-{index}")).collect();
        let taken = |rule: &PlacementRule| keys.iter().filter(|key| rule.takes(key)).count();
        assert_eq!((taken(&share(0)), taken(&share(100))), (0, keys.len()));
        assert!((1800..2200).contains(&taken(&share(20))), "{}", taken(&share(20)));
        assert!(keys.iter().all(|key| !share(20).takes(key) || share(21).takes(key)));
        // Known values: all versions of the proxy in a fleet must decide alike.
        let first: Vec<_> = keys.iter().filter(|key| share(1).takes(key)).take(3).collect();
        assert_eq!(first, ["group-354", "group-441", "group-520"]);
        let elsewhere = PlacementRule { cluster: "y".to_owned(), ..share(20) };
        let both = keys.iter().filter(|key| share(20).takes(key) && elsewhere.takes(key)).count();
        assert!((300..500).contains(&both), "{both}");
    }

    #[test]
    fn messages_are_divided_by_group_and_received_from_all_their_clusters() {
        let ([default, other], _calls): ([Services; 2], _) = scripted::backends();
        let router = ClusterRouter::single(default).add("x".to_owned(), other);
        let names = |topic| {
            let found = router.others_with_messages(origin("c", ""), topic);
            found.iter().map(|cluster| &*cluster.name).collect::<Vec<_>>()
        };
        assert!(names("orders").is_empty());
        router.replace_rules(vec![share(0)]).expect("a known cluster");
        assert_eq!(names("orders"), ["x"]);
        assert!(names("bills").is_empty());
        router.replace_rules(vec![share(100)]).expect("a known cluster");
        assert_eq!(names("orders"), [""]);
        // Requests without a client belong to no share.
        assert_eq!(&*router.route(ClientOrigin::default(), "orders").name, "");

        router.replace_rules(vec![share(50)]).expect("a known cluster");
        let of = |client, group: &String| {
            router.route_message(origin(client, ""), "orders", Some(group)).name.clone()
        };
        let groups: Vec<_> = (0..100).map(|index| index.to_string()).collect();
        assert!(groups.iter().all(|group| of("a", group) == of("b", group)));
        assert!(groups.iter().any(|group| of("a", group) != of("a", &groups[0])));
    }

    #[test]
    fn invalid_rules_leave_the_previous_ones_in_force() {
        let ([default, other], _calls): ([Services; 2], _) = scripted::backends();
        let router = ClusterRouter::single(default).add("x".to_owned(), other);
        let whole = PlacementRule { percent: None, ..share(0) };
        router.replace_rules(vec![whole]).expect("a known cluster");
        let unknown = PlacementRule { cluster: "y".to_owned(), ..share(1) };
        for wrong in [unknown, share(101)] {
            router.replace_rules(vec![share(0), wrong]).expect_err("an invalid rule");
            assert_eq!(&*router.route(origin("c", ""), "orders").name, "x");
        }
    }
}
