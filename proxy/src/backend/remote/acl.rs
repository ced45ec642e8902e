//! Reads the users and ACLs of brokers from 5.3 on (Apache's `AuthenticationMetadataManager`,
//! `AuthorizationMetadataManager`).

use serde::de::DeserializeOwned;

use super::answer::success;
use super::cluster::Cluster;
use super::metadata::parse;
use crate::remoting::acl_bodies::{AclInfo, EntryInfo, PolicyInfo, USER, UserInfo};
use crate::remoting::{RemotingCommand, request};
use crate::service::{BrokerAcl, BrokerPolicy, BrokerUser, ServiceError};

impl Cluster {
    /// All users and ACLs, from the first broker that lists them. All brokers of a cluster have the same.
    pub(super) async fn acl(&self) -> Result<BrokerAcl, ServiceError> {
        let masters = self.masters().await?;
        let call = async |code| {
            self.first_of(masters.iter().map(String::as_str), &RemotingCommand::request(code), success).await
        };
        // Users come first: the policies of a user who is added in between belong to no known user, and are ignored.
        let users = parse_list::<UserInfo>(call(request::AUTH_LIST_USER).await?)?;
        let acls = parse_list::<AclInfo>(call(request::AUTH_LIST_ACL).await?)?;
        Ok(BrokerAcl {
            users: users.into_iter().map(BrokerUser::from).collect(),
            policies: acls.into_iter().flat_map(policies_of).collect(),
        })
    }
}

/// Parses the list in an answer. Brokers send no body for an empty list.
fn parse_list<T: DeserializeOwned>(answer: RemotingCommand) -> Result<Vec<T>, ServiceError> {
    if answer.body.is_empty() { Ok(Vec::new()) } else { parse(&answer) }
}

fn policies_of(AclInfo { subject, policies }: AclInfo) -> Vec<BrokerPolicy> {
    let Some(user) = subject.strip_prefix(USER) else { return Vec::new() };
    let entries = policies.into_iter().flat_map(|PolicyInfo { policy_type, entries }| {
        let is_default = is_word(policy_type.as_deref(), "Default");
        entries.into_iter().map(move |entry| (is_default, entry))
    });
    let policy = |(is_default, entry): (bool, EntryInfo)| BrokerPolicy {
        user: user.to_owned(),
        resource: entry.resource,
        actions: entry.actions,
        from: entry.source_ips.unwrap_or_default(),
        allows: is_word(entry.decision.as_deref(), "Allow"),
        is_default,
    };
    entries.map(policy).collect()
}

fn is_word(text: Option<&str>, word: &str) -> bool {
    text.is_some_and(|text| text.eq_ignore_ascii_case(word))
}

impl From<UserInfo> for BrokerUser {
    fn from(UserInfo { username, password, user_type, user_status }: UserInfo) -> Self {
        Self {
            name: username,
            secret: password.unwrap_or_default(),
            is_super: is_word(user_type.as_deref(), "Super"),
            is_enabled: is_word(user_status.as_deref(), "enable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_a_real_broker_are_read() {
        let answer = |body: &'static str| RemotingCommand::response(0).body(body.as_bytes());
        let users = answer(
            r#"[{"password":"fleet-secret","userStatus":"enable","userType":"Super","username":"fleet"},
            {"password":"shop-secret","userStatus":"disable","userType":"Normal","username":"shop"}]"#,
        );
        let users: Vec<UserInfo> = parse_list(users).expect("users");
        let users: Vec<_> = users.into_iter().map(BrokerUser::from).collect();
        let listed = users.iter().map(|user| (user.name.as_str(), user.is_super, user.is_enabled));
        assert_eq!(listed.collect::<Vec<_>>(), [("fleet", true, true), ("shop", false, false)]);
        assert_eq!(users[1].secret, "shop-secret");

        let acls = answer(
            r#"[{"policies":[{"entries":[{"actions":["Pub","Sub"],"decision":"Allow","resource":"Topic:orders*",
            "sourceIps":["127.0.0.0/8"]}],"policyType":"Custom"},{"entries":[{"actions":["All"],"decision":"Deny",
            "resource":"*"}],"policyType":"Default"}],"subject":"User:shop"}]"#,
        );
        let policies: Vec<_> =
            parse_list::<AclInfo>(acls).expect("ACLs").into_iter().flat_map(policies_of).collect();
        let custom = BrokerPolicy {
            user: "shop".to_owned(),
            resource: "Topic:orders*".to_owned(),
            actions: vec!["Pub".to_owned(), "Sub".to_owned()],
            from: vec!["127.0.0.0/8".to_owned()],
            allows: true,
            is_default: false,
        };
        let default = BrokerPolicy {
            resource: "*".to_owned(),
            actions: vec!["All".to_owned()],
            from: Vec::new(),
            allows: false,
            is_default: true,
            ..custom.clone()
        };
        assert_eq!(policies, [custom, default]);
        assert!(parse_list::<AclInfo>(answer("")).expect("an empty list").is_empty());
    }
}
