//! Converts the users and ACLs of Apache's brokers to an index. A part that can't be parsed is interpreted in the way that
//! allows less.

use std::net::IpAddr;

use ipnet::IpNet;

use super::acl_index::{AclIndex, User};
use super::policy::{Action, Actions, Effect, Pattern, Policies, PolicyRule, ResourceKind};
use super::secret_encryption::Secret;
use super::stored_acl::PolicyEntry;
use super::user_kind::UserKind;
use crate::service::{BrokerAcl, BrokerPolicy, BrokerUser};

/// The index of these users and policies.
pub(super) fn acl_index(acl: &BrokerAcl) -> AclIndex {
    let mut acl_index = AclIndex::default();
    for BrokerUser { name, secret, is_super, is_enabled } in &acl.users {
        let user = User {
            kind: if *is_super { UserKind::Super } else { UserKind::Normal },
            // With an empty secret, everybody could sign.
            enabled: *is_enabled && !secret.is_empty(),
            secret: Secret::new(secret).into(),
            policies: Policies::default(),
            defaults: Policies::default(),
        };
        acl_index.add_user(name.clone(), user);
    }
    for policy in &acl.policies {
        let index = acl_index.broker_policies.len();
        let Some((pattern, entry)) = applicable(policy, index) else {
            tracing::debug!(
                user = policy.user,
                resource = policy.resource,
                "ignored a policy of the brokers that can't be applied"
            );
            continue;
        };
        let (actions, from) = (Actions::of(&entry.actions), entry.from.clone());
        let rule = PolicyRule { actions, from, effect: entry.effect, index };
        acl_index.broker_policies.push(entry);
        // Policies of unknown users are ignored.
        match policy.is_default {
            true => acl_index.add_default(&policy.user, pattern, rule),
            false => acl_index.add_policy(&policy.user, pattern, rule),
        };
    }
    acl_index
}

/// The part of a policy that can be applied, numbered by its index. `None` if it has no effect.
fn applicable(policy: &BrokerPolicy, index: usize) -> Option<(Pattern, PolicyEntry)> {
    let effect = if policy.allows { Effect::Allow } else { Effect::Deny };
    let networks: Option<Vec<_>> = policy.from.iter().map(|text| network(text)).collect();
    let from = match networks {
        Some(networks) => networks,
        // A network can't be parsed: a denial applies everywhere, and a permission only in the other networks.
        None if effect == Effect::Deny => Vec::new(),
        None => {
            let others: Vec<_> = policy.from.iter().filter_map(|text| network(text)).collect();
            if others.is_empty() {
                return None;
            }
            others
        }
    };
    let known: Option<Vec<_>> = policy.actions.iter().map(|word| action(word)).collect();
    let actions = match known {
        Some(actions) => actions,
        None if effect == Effect::Deny => vec![Action::All],
        None => policy.actions.iter().filter_map(|word| action(word)).collect(),
    };
    if actions.is_empty() {
        return None;
    }
    let pattern = match pattern(&policy.resource) {
        None if effect == Effect::Deny && !names_namespace(&policy.resource) => Pattern::Everything,
        pattern => pattern?,
    };
    let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
    let (user, resource) = (policy.user.clone(), policy.resource.clone());
    Some((pattern, PolicyEntry { number, user, resource, actions, from, effect }))
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn action(word: &str) -> Option<Action> {
    clap::ValueEnum::from_str(word, true).ok()
}

/// Whether the resource is a namespace, which no request names here.
fn names_namespace(resource: &str) -> bool {
    resource.split_once(':').is_some_and(|(kind, _)| kind.eq_ignore_ascii_case("Namespace"))
}

fn pattern(resource: &str) -> Option<Pattern> {
    match resource.split_once(':') {
        // The proxy serves one cluster with these rules, so that the name does not matter.
        Some((kind, _)) if kind.eq_ignore_ascii_case("Cluster") => Some(Pattern::All(ResourceKind::Cluster)),
        _ => resource.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::acl_index::AccessQuery;
    use super::super::policy::PolicyDecision;
    use super::*;

    fn policy(resource: &str, action: &str, from: &[&str], allows: bool) -> BrokerPolicy {
        BrokerPolicy {
            user: "shop".to_owned(),
            resource: resource.to_owned(),
            actions: vec![action.to_owned()],
            from: from.iter().map(|text| (*text).to_owned()).collect(),
            allows,
            is_default: false,
        }
    }

    fn decide(policies: Vec<BrokerPolicy>, resource: &str, action: Action, from: &str) -> bool {
        let shop =
            BrokerUser { name: "shop".to_owned(), secret: "s".to_owned(), is_super: false, is_enabled: true };
        let acl_index = acl_index(&BrokerAcl { users: vec![shop], policies });
        let query = AccessQuery {
            resource: resource.parse().expect("a resource"),
            action,
            from: Some(from.parse().expect("an address")),
        };
        let decision = acl_index.explain("shop", &query).expect("a user");
        if let Some(PolicyDecision::Policy(effect, index)) = decision {
            assert_eq!(acl_index.broker_policies[index].effect, effect);
        }
        matches!(decision, Some(PolicyDecision::Policy(Effect::Allow, _)))
    }

    #[test]
    fn policies_are_interpreted_as_by_brokers() {
        let sends = |policies, resource, from| decide(policies, resource, Action::Pub, from);
        let home = "10.0.0.1";
        for (policies, allowed) in [
            (vec![policy("Topic:orders", "Pub", &[], true)], true),
            (vec![policy("topic:ord*", "all", &[], true)], true),
            (vec![policy("Topic:orders", "Sub", &[], true)], false),
            (vec![policy("Topic:orders", "Pub", &["10.0.0.0/8"], true)], true),
            (vec![policy("Topic:orders", "Pub", &["10.0.0.1"], true)], true),
            (vec![policy("Topic:orders", "Pub", &["10.0.0.2"], true)], false),
            (vec![policy("*", "All", &[], true), policy("Topic:orders", "Pub", &[], false)], false),
            // Policies that can't be parsed allow nothing.
            (vec![policy("Topic:orders", "Pub", &["home"], true)], false),
            (vec![policy("*", "All", &[], true), policy("Topic:orders", "Pub", &["home"], false)], false),
            (vec![policy("Topic:orders", "Fly", &[], true)], false),
            (vec![policy("*", "All", &[], true), policy("Topic:orders", "Fly", &[], false)], false),
            (vec![policy("*", "All", &[], true), policy("Planet:orders", "Pub", &[], false)], false),
            (vec![policy("*", "All", &[], true), policy("Namespace:n", "All", &[], false)], true),
            (vec![policy("Namespace:n", "All", &[], true)], false),
        ] {
            assert_eq!(sends(policies.clone(), "Topic:orders", home), allowed, "{policies:?}");
        }
        let cluster = vec![policy("Cluster:DefaultCluster", "List", &[], true)];
        assert!(decide(cluster, "Cluster:*", Action::List, home));
    }

    #[test]
    fn default_policies_apply_only_if_no_other_policy_does() {
        let default = |policy: BrokerPolicy| BrokerPolicy { is_default: true, ..policy };
        let sends = |policies| decide(policies, "Topic:orders", Action::Pub, "10.0.0.1");
        let allowed = default(policy("Topic:orders", "Pub", &[], true));
        assert!(sends(vec![allowed.clone()]));
        assert!(!sends(vec![allowed, policy("*", "All", &[], false)]));
        assert!(sends(vec![
            default(policy("Topic:orders", "Pub", &[], false)),
            policy("*", "All", &[], true)
        ]));
    }
}
