//! Requests of tools that create, change and list the users and policies of access control (`mqadmin createUser`,
//! `createAcl` and so on).

use std::net::IpAddr;

use ipnet::IpNet;

use super::answer::{Answered, Refusal, json, success};
use super::request::Request;
use crate::error::ErrorKind;
use crate::layer::{Action, Effect, ListedUser, NewUser, PolicyEntry, Secret, UserKind, UserUpdate};
use crate::remoting::acl_bodies::{AclInfo, EntryInfo, PolicyInfo, USER, UserInfo};
use crate::remoting::response;

/// The only type of policies that the proxy supports.
const CUSTOM: &str = "Custom";

/// AUTH_CREATE_USER.
pub(super) async fn create_user(request: Request) -> Answered {
    let name = request.text("username")?.to_owned();
    let info: UserInfo = request.json()?;
    let Some(secret) = password(info.password.as_deref()) else { return invalid("The password is blank") };
    let new = NewUser {
        name,
        secret: Some(Secret::new(secret)),
        kind: kind(info.user_type.as_deref())?.unwrap_or_default(),
        enabled: enabled(info.user_status.as_deref())?.unwrap_or(true),
        certificates: Vec::new(),
    };
    request.shared.processor.add_user(new).await?;
    Ok(success())
}

/// AUTH_UPDATE_USER. Settings that the body does not name are unchanged.
pub(super) async fn update_user(request: Request) -> Answered {
    let name = request.text("username")?.to_owned();
    let info: UserInfo = request.json()?;
    let update = UserUpdate {
        secret: password(info.password.as_deref()).map(Secret::new),
        kind: kind(info.user_type.as_deref())?,
        enabled: enabled(info.user_status.as_deref())?,
        certificates: None,
    };
    request.shared.processor.update_user(name, update).await?;
    Ok(success())
}

/// AUTH_DELETE_USER. Succeeds if the user does not exist, as with Apache's brokers.
pub(super) async fn delete_user(request: Request) -> Answered {
    let processor = &request.shared.processor;
    match processor.remove_user(request.text("username")?.to_owned()).await {
        // If access control has no users at all, that is an error.
        Err(error) if error.kind != ErrorKind::UserNotFound || processor.users().await.is_err() => {
            Err(error.into())
        }
        _ => Ok(success()),
    }
}

/// AUTH_GET_USER. The answer has no body if the user does not exist, as with Apache's brokers.
pub(super) async fn user(request: Request) -> Answered {
    let name = request.text("username")?;
    let users = request.shared.processor.users().await?;
    match users.into_iter().find(|user| user.name == name) {
        Some(user) => json(&user_info(user)),
        None => Ok(success()),
    }
}

/// AUTH_LIST_USER. Unlike Apache's brokers, the proxy returns no passwords.
pub(super) async fn users(request: Request) -> Answered {
    let filter = request.command.text("filter").unwrap_or_default();
    let users = request.shared.processor.users().await?;
    let users = users.into_iter().filter(|user| user.name.contains(filter));
    json(&users.map(user_info).collect::<Vec<_>>())
}

/// AUTH_CREATE_ACL and AUTH_UPDATE_ACL: replaces the user's policies for the named resources. Policies for other
/// resources stay.
pub(super) async fn put_acl(request: Request) -> Answered {
    let user = user_of(request.text("subject")?)?.to_owned();
    let info: AclInfo = request.json()?;
    let mut policies = Vec::new();
    for PolicyInfo { policy_type, entries } in info.policies {
        check_type(policy_type.as_deref())?;
        for entry in entries {
            policies.push(policy(&user, entry)?);
        }
    }
    if policies.is_empty() {
        return invalid("The body of acl is null");
    }
    request.shared.processor.put_policies(user, policies).await?;
    Ok(success())
}

/// AUTH_DELETE_ACL: removes the user's policies for one resource, or all policies of the user.
pub(super) async fn delete_acl(request: Request) -> Answered {
    check_type(request.command.text("policyType"))?;
    let user = user_of(request.text("subject")?)?.to_owned();
    let resource = given(request.command.text("resource")).map(normalized_resource);
    request.shared.processor.remove_policies(user, resource).await?;
    Ok(success())
}

/// AUTH_GET_ACL. The answer has no body if the user has no policies.
pub(super) async fn acl(request: Request) -> Answered {
    let name = user_of(request.text("subject")?)?;
    let users = request.shared.processor.users().await?;
    let user = users.into_iter().find(|user| user.name == name);
    user.and_then(|user| acl_info(user, "")).map_or_else(|| Ok(success()), |info| json(&info))
}

/// AUTH_LIST_ACL.
pub(super) async fn acls(request: Request) -> Answered {
    let filter = |key| request.command.text(key).unwrap_or_default();
    let (subject, resource) = (filter("subjectFilter"), filter("resourceFilter"));
    let users = request.shared.processor.users().await?;
    let users = users.into_iter().filter(|user| format!("{USER}{}", user.name).contains(subject));
    json(&users.filter_map(|user| acl_info(user, resource)).collect::<Vec<_>>())
}

fn user_info(user: ListedUser) -> UserInfo {
    let kind = if user.kind == UserKind::Super { "Super" } else { "Normal" };
    let status = if user.enabled { "enable" } else { "disable" };
    UserInfo {
        username: user.name,
        password: None,
        user_type: Some(kind.to_owned()),
        user_status: Some(status.to_owned()),
    }
}

/// The policies of a user whose resources contain this text. `None` if there are none.
fn acl_info(user: ListedUser, filter: &str) -> Option<AclInfo> {
    let policies = user.policies.into_iter().filter(|policy| policy.resource.contains(filter));
    let entry = |policy: PolicyEntry| EntryInfo {
        resource: policy.resource,
        actions: policy.actions.iter().map(|action| capitalized(&action.to_string())).collect(),
        source_ips: (!policy.from.is_empty()).then(|| policy.from.iter().map(ToString::to_string).collect()),
        decision: Some(if policy.effect == Effect::Deny { "Deny" } else { "Allow" }.to_owned()),
    };
    let entries: Vec<_> = policies.map(entry).collect();
    (!entries.is_empty()).then(|| AclInfo {
        subject: format!("{USER}{}", user.name),
        policies: vec![PolicyInfo { policy_type: Some(CUSTOM.to_owned()), entries }],
    })
}

fn policy(user: &str, entry: EntryInfo) -> Result<PolicyEntry, Refusal> {
    let EntryInfo { resource: named, actions, source_ips, decision } = entry;
    let action = |word: &String| {
        let known = <Action as clap::ValueEnum>::from_str(word, true);
        known.or_else(|_| invalid(&format!("{word:?} is not an action")))
    };
    let network = |text: &String| {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.or_else(|_| invalid(&format!("{text:?} is not an IP address or a network")))
    };
    let effect = match decision.as_deref() {
        Some(word) if word.eq_ignore_ascii_case("Allow") => Effect::Allow,
        Some(word) if word.eq_ignore_ascii_case("Deny") => Effect::Deny,
        _ => return invalid("the decision must be Allow or Deny"),
    };
    Ok(PolicyEntry {
        number: 0,
        user: user.to_owned(),
        resource: normalized_resource(&named),
        actions: actions.iter().map(action).collect::<Result<_, _>>()?,
        from: source_ips.unwrap_or_default().iter().map(network).collect::<Result<_, _>>()?,
        effect,
    })
}

/// A resource of a policy. The name of a cluster is ignored, because a proxy has one set of policies for all its
/// clusters.
fn normalized_resource(text: &str) -> String {
    match text.split_once(':') {
        Some((kind, _)) if kind.eq_ignore_ascii_case("Cluster") => "Cluster:*".to_owned(),
        _ => text.to_owned(),
    }
}

fn kind(word: Option<&str>) -> Result<Option<UserKind>, Refusal> {
    match given(word) {
        None => Ok(None),
        Some(word) if word.eq_ignore_ascii_case("Super") => Ok(Some(UserKind::Super)),
        Some(word) if word.eq_ignore_ascii_case("Normal") => Ok(Some(UserKind::Normal)),
        Some(_) => invalid("the type of a user must be Super or Normal"),
    }
}

fn enabled(word: Option<&str>) -> Result<Option<bool>, Refusal> {
    match given(word) {
        None => Ok(None),
        Some(word) if word.eq_ignore_ascii_case("enable") => Ok(Some(true)),
        Some(word) if word.eq_ignore_ascii_case("disable") => Ok(Some(false)),
        Some(_) => invalid("the status of a user must be enable or disable"),
    }
}

fn user_of(subject: &str) -> Result<&str, Refusal> {
    let user = subject.strip_prefix(USER);
    user.map_or_else(|| invalid("the subject must have the form User:NAME"), Ok)
}

fn check_type(policy_type: Option<&str>) -> Result<(), Refusal> {
    match given(policy_type) {
        Some(other) if !other.eq_ignore_ascii_case(CUSTOM) => {
            invalid("only policies of the type Custom are supported")
        }
        _ => Ok(()),
    }
}

/// A password, or `None` if it is empty. It is not trimmed, as it may begin and end with blanks.
fn password(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// The trimmed text, or `None` if nothing is left of it.
fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

fn invalid<T>(text: &str) -> Result<T, Refusal> {
    Err(Refusal::new(response::INVALID_PARAMETER, text))
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
