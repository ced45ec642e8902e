//! Converts users and policies of access control between the wire and the layer that applies them.

use std::str::FromStr;

use rocketmq_thin_proto::thin as pb;
use tonic::Status;

use crate::layer::{
    AccessQuery, Action, Effect, Explanation, ListedUser, NewUser, PolicyEntry, Secret, UserKind, UserUpdate,
};

fn kind(is_super: bool) -> UserKind {
    if is_super { UserKind::Super } else { UserKind::Normal }
}

pub(super) fn list_to_wire(users: Vec<ListedUser>) -> pb::ListUsersResponse {
    let user = |ListedUser { name, kind, enabled, certificates, policies }| pb::User {
        name,
        super_: kind == UserKind::Super,
        enabled,
        certificates,
        policies: policies.into_iter().map(policy_to_wire).collect(),
    };
    pb::ListUsersResponse { users: users.into_iter().map(user).collect() }
}

pub(super) fn list(answer: pb::ListUsersResponse) -> Result<Vec<ListedUser>, Status> {
    let user = |user: pb::User| {
        let policies = user.policies.into_iter().map(policy).collect::<Result<_, Status>>()?;
        let (name, kind) = (user.name, kind(user.super_));
        Ok(ListedUser { name, kind, enabled: user.enabled, certificates: user.certificates, policies })
    };
    answer.users.into_iter().map(user).collect()
}

pub(super) fn new_user(request: pb::AddUserRequest) -> NewUser {
    let pb::AddUserRequest { user, secret } = request;
    let user = user.unwrap_or_default();
    NewUser {
        name: user.name,
        secret: secret.as_deref().map(Secret::new),
        kind: kind(user.super_),
        enabled: user.enabled,
        certificates: user.certificates,
    }
}

/// A [`Secret`] can't be read, so the text is a parameter.
pub(super) fn new_user_to_wire(user: NewUser, secret: Option<String>) -> pb::AddUserRequest {
    let NewUser { name, kind, enabled, certificates, .. } = user;
    let super_ = kind == UserKind::Super;
    let user = pb::User { name, super_, enabled, certificates, policies: Vec::new() };
    pb::AddUserRequest { user: Some(user), secret }
}

pub(super) fn update(request: pb::UpdateUserRequest) -> (String, UserUpdate) {
    let pb::UpdateUserRequest { name, super_, enabled, certificates } = request;
    let certificates = certificates.map(|certificates| certificates.names);
    (name, UserUpdate { secret: None, kind: super_.map(kind), enabled, certificates })
}

pub(super) fn update_to_wire(name: String, update: UserUpdate) -> pb::UpdateUserRequest {
    let UserUpdate { kind, enabled, certificates, .. } = update;
    let super_ = kind.map(|kind| kind == UserKind::Super);
    let certificates = certificates.map(|names| pb::Certificates { names });
    pb::UpdateUserRequest { name, super_, enabled, certificates }
}

pub(super) fn policy_to_wire(policy: PolicyEntry) -> pb::Policy {
    let PolicyEntry { number, user, resource, actions, from, effect } = policy;
    pb::Policy {
        number,
        user,
        resource,
        actions: actions.into_iter().map(|action| action.to_string()).collect(),
        from: from.iter().map(ToString::to_string).collect(),
        deny: effect == Effect::Deny,
    }
}

pub(super) fn policy(policy: pb::Policy) -> Result<PolicyEntry, Status> {
    let pb::Policy { number, user, resource, actions, from, deny } = policy;
    Ok(PolicyEntry {
        number,
        user,
        resource,
        actions: actions.iter().map(|word| action(word)).collect::<Result<_, Status>>()?,
        from: from.iter().map(|text| parsed(text, "network")).collect::<Result<_, Status>>()?,
        effect: if deny { Effect::Deny } else { Effect::Allow },
    })
}

pub(super) fn asked(request: pb::ExplainAccessRequest) -> Result<(String, AccessQuery), Status> {
    let pb::ExplainAccessRequest { user, resource, action: word, from } = request;
    let resource = resource.parse().map_err(Status::invalid_argument)?;
    let query = AccessQuery { resource, action: action(&word)?, from: Some(parsed(&from, "address")?) };
    Ok((user, query))
}

pub(super) fn asked_to_wire(user: String, query: &AccessQuery) -> pb::ExplainAccessRequest {
    let AccessQuery { resource, action, from } = query;
    pb::ExplainAccessRequest {
        user,
        resource: resource.to_string(),
        action: action.to_string(),
        from: from.map(|address| address.to_string()).unwrap_or_default(),
    }
}

pub(super) fn explanation_to_wire(explained: Explanation) -> pb::ExplainAccessResponse {
    let Explanation { allowed, why, policy } = explained;
    pb::ExplainAccessResponse { allowed, why, policy: policy.map(policy_to_wire) }
}

pub(super) fn explanation(answer: pb::ExplainAccessResponse) -> Result<Explanation, Status> {
    let pb::ExplainAccessResponse { allowed, why, policy: decisive } = answer;
    Ok(Explanation { allowed, why, policy: decisive.map(policy).transpose()? })
}

fn action(word: &str) -> Result<Action, Status> {
    let known = clap::ValueEnum::from_str(word, true);
    known.map_err(|_| Status::invalid_argument(format!("{word:?} is not an action")))
}

fn parsed<T: FromStr>(text: &str, what: &str) -> Result<T, Status> {
    text.parse().map_err(|_| Status::invalid_argument(format!("{text:?} is not a valid {what}")))
}
