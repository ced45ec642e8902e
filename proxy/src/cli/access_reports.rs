//! The output of `user` and `acl`.

use ipnet::IpNet;
use serde::Serialize;

use super::output::{Report, Table};
use crate::layer::{Effect, Explanation, ListedUser, PolicyEntry, UserKind};

#[derive(Serialize)]
pub(super) struct NewSecret {
    pub(super) user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
}

impl Report for NewSecret {
    fn text(&self) -> String {
        match &self.secret {
            Some(secret) => {
                format!("access key: {}\nsecret key: {secret}\nThe secret is not shown again.", self.user)
            }
            None => format!("access key: {}", self.user),
        }
    }
}

#[derive(Serialize)]
struct UserLine {
    name: String,
    #[serde(rename = "type")]
    kind: UserKind,
    enabled: bool,
    policies: usize,
    certificates: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct UserList(Vec<UserLine>);

impl UserList {
    pub(super) fn of(users: Vec<ListedUser>) -> Self {
        let line = |ListedUser { name, kind, enabled, certificates, policies }| UserLine {
            name,
            kind,
            enabled,
            policies: policies.len(),
            certificates,
        };
        Self(users.into_iter().map(line).collect())
    }
}

impl Report for UserList {
    fn text(&self) -> String {
        let mut table = Table::new(["NAME", "TYPE", "STATE", "POLICIES", "CERTIFICATES"]);
        for UserLine { name, kind, enabled, policies, certificates } in &self.0 {
            let kind = if *kind == UserKind::Super { "super" } else { "normal" };
            let state = if *enabled { "enabled" } else { "disabled" };
            let certificates = certificates.join(",");
            table.row([name.clone(), kind.to_owned(), state.to_owned(), policies.to_string(), certificates]);
        }
        table.text()
    }
}

#[derive(Serialize)]
pub(super) struct PolicyLine {
    number: u32,
    #[serde(flatten)]
    policy: PolicyEntry,
}

impl From<PolicyEntry> for PolicyLine {
    fn from(policy: PolicyEntry) -> Self {
        Self { number: policy.number, policy }
    }
}

impl PolicyLine {
    fn cells(&self) -> [String; 6] {
        let PolicyEntry { user, resource, actions, from, effect, .. } = &self.policy;
        let actions: Vec<_> = actions.iter().map(ToString::to_string).collect();
        let from: Vec<_> = from.iter().map(IpNet::to_string).collect();
        let from = if from.is_empty() { "everywhere".to_owned() } else { from.join(",") };
        let effect = if *effect == Effect::Deny { "deny" } else { "allow" };
        [self.number.to_string(), user.clone(), resource.clone(), actions.join(","), from, effect.to_owned()]
    }
}

#[derive(Serialize)]
pub(super) struct PolicyList(pub(super) Vec<PolicyLine>);

impl Report for PolicyList {
    fn text(&self) -> String {
        let mut table = Table::new(["NUMBER", "USER", "RESOURCE", "ACTIONS", "FROM", "EFFECT"]);
        self.0.iter().for_each(|line| table.row(line.cells()));
        table.text()
    }
}

#[derive(Serialize)]
pub(super) struct ExplanationReport {
    allowed: bool,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PolicyLine>,
}

impl From<Explanation> for ExplanationReport {
    fn from(Explanation { allowed, why, policy }: Explanation) -> Self {
        Self { allowed, why, policy: policy.map(PolicyLine::from) }
    }
}

impl Report for ExplanationReport {
    fn text(&self) -> String {
        let verdict = if self.allowed { "allowed" } else { "denied" };
        match &self.policy {
            Some(policy) => format!("{verdict}: {}\n  {}", self.why, policy.cells().join("  ")),
            None => format!("{verdict}: {}", self.why),
        }
    }
}
