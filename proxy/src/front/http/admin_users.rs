//! Administration of the users and policies of access control. A generated secret is returned once, and secrets are never
//! listed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use axum::http::StatusCode;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::call::{Caller, Json, PathParams, QueryParams};
use super::problem::Problem;
use super::shared::Shared;
use crate::json_schema;
use crate::layer::{
    AccessQuery, Action, Effect, Explanation, ListedUser, NewUser, PolicyEntry, Secret, UserKind, UserUpdate,
};

/// The users of access control.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Users {
    /// Where users are stored: `catalog`, whose users can be changed with this API, or `file`.
    source: &'static str,
    users: Vec<User>,
}

/// A user, without the secret.
#[derive(Debug, Serialize, ToSchema)]
struct User {
    /// The access key.
    name: String,
    /// `normal`, or `super` for a user who may do everything.
    #[schema(value_type = String)]
    r#type: UserKind,
    enabled: bool,
    /// Names in client certificates that identify the user.
    certificates: Vec<String>,
    policies: Vec<Policy>,
}

/// A policy, which allows or denies actions of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Policy {
    /// The number that identifies the policy. In the catalog, it is not reused while the proxy runs.
    number: u32,
    user: String,
    /// The resource, such as `Topic:orders`.
    resource: String,
    #[schema(value_type = Vec<String>)]
    actions: Vec<Action>,
    /// `allow` or `deny`.
    #[schema(value_type = String)]
    effect: Effect,
    /// The networks of clients to which the policy applies. Empty for all networks.
    #[schema(value_type = Vec<String>)]
    from: Vec<IpNet>,
}

impl From<PolicyEntry> for Policy {
    fn from(PolicyEntry { number, user, resource, actions, from, effect }: PolicyEntry) -> Self {
        Self { number, user, resource, actions, effect, from }
    }
}

/// A user to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserToAdd {
    /// The access key, without spaces and `/ , = :`.
    #[schema(value_type = json_schema::UserName)]
    name: String,
    /// The secret key. Without it, a random one is generated.
    #[schema(min_length = 1, max_length = 255)]
    secret: Option<String>,
    /// `normal`, or `super` for a user who may do everything.
    #[serde(default)]
    #[schema(value_type = String, pattern = "^(normal|super)$")]
    r#type: UserKind,
    #[serde(default = "yes")]
    enabled: bool,
    /// Names in client certificates that identify the user.
    #[serde(default)]
    #[schema(value_type = Vec<json_schema::CertificateName>, max_items = 100)]
    certificates: Vec<String>,
}

fn yes() -> bool {
    true
}

/// A change of a user. Fields that are left out stay unchanged.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserChanges {
    /// `normal` or `super`.
    #[schema(value_type = Option<String>, pattern = "^(normal|super)$")]
    r#type: Option<UserKind>,
    enabled: Option<bool>,
    /// Names in client certificates, which replace the earlier ones.
    #[schema(value_type = Option<Vec<json_schema::CertificateName>>, max_items = 100)]
    certificates: Option<Vec<String>>,
}

/// A new secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretToSet {
    /// The secret key. Without it, a random one is generated.
    #[schema(min_length = 1, max_length = 255)]
    secret: Option<String>,
}

/// A user, and the secret if the proxy has generated it. It is not returned again.
#[derive(Serialize, ToSchema)]
pub(super) struct UserSecret {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A policy to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyToAdd {
    user: String,
    /// `Topic:NAME`, `Group:NAME` or `Cluster:*`, where `NAME` may end with `*`; or `*` for everything.
    #[schema(value_type = json_schema::Resource)]
    resource: String,
    /// `all`, `pub`, `sub`, `create`, `update`, `delete`, `get`, `list`.
    #[schema(value_type = Vec<Action>, min_items = 1)]
    actions: Vec<Action>,
    /// `allow` or `deny`.
    #[serde(default)]
    #[schema(value_type = String, pattern = "^(allow|deny)$")]
    effect: Effect,
    /// The networks of clients to which the policy applies, such as `10.0.0.0/8`. Empty for all networks.
    #[serde(default)]
    #[schema(value_type = Vec<json_schema::Network>, max_items = 100)]
    from: Vec<IpNet>,
}

impl From<UserToAdd> for NewUser {
    fn from(UserToAdd { name, secret, r#type: kind, enabled, certificates }: UserToAdd) -> Self {
        Self { name, secret: secret.as_deref().map(Secret::new), kind, enabled, certificates }
    }
}

impl From<UserChanges> for UserUpdate {
    fn from(UserChanges { r#type: kind, enabled, certificates }: UserChanges) -> Self {
        Self { secret: None, kind, enabled, certificates }
    }
}

impl From<SecretToSet> for Option<Secret> {
    fn from(SecretToSet { secret }: SecretToSet) -> Self {
        secret.as_deref().map(Secret::new)
    }
}

impl From<PolicyToAdd> for PolicyEntry {
    fn from(PolicyToAdd { user, resource, actions, effect, from }: PolicyToAdd) -> Self {
        Self { number: 0, user, resource, actions, from, effect }
    }
}

/// The request to explain.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AccessParams {
    /// `Topic:NAME`, `Group:NAME` or `Cluster:*`.
    #[param(inline, value_type = json_schema::Resource)]
    resource: String,
    /// The action of the request, such as `pub`.
    #[param(inline)]
    action: Action,
    /// The client's address.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    from: Option<IpAddr>,
}

/// A decision about a request, with the reason.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Verdict {
    allowed: bool,
    why: String,
    /// The policy that decides, if a known policy does.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
}

/// List users and policies
///
/// The call needs all rights of administration. Without access control, there are no users, and the answer is 404.
#[utoipa::path(
    get, path = "/v1/users", operation_id = "listUsers", tag = "administration",
    responses(
        (status = 200, description = "The users", body = Users),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
) -> Result<JsonAnswer<Users>, Problem> {
    caller.authorize(&shared, "ListUsers")?;
    let users = shared.processor.users().await?.into_iter();
    let user = |ListedUser { name, kind, enabled, certificates, policies }| {
        let policies = policies.into_iter().map(Policy::from).collect();
        User { name, r#type: kind, enabled, certificates, policies }
    };
    let source = if shared.processor.has_users_in_catalog() { "catalog" } else { "file" };
    Ok(JsonAnswer(Users { source, users: users.map(user).collect() }))
}

/// Add a user
///
/// Only super users may add users. The user is stored durably and in force when the call is answered. If users are in a file
/// or are those of Apache's brokers, the answer is 501.
#[utoipa::path(
    post, path = "/v1/users", operation_id = "addUser", tag = "administration", request_body = UserToAdd,
    responses(
        (status = 201, description = "The user, and the secret if it was generated", body = UserSecret),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn add(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Json(user): Json<UserToAdd>,
) -> Result<(StatusCode, JsonAnswer<UserSecret>), Problem> {
    caller.authorize(&shared, "AddUser")?;
    let new = NewUser::from(user);
    let name = new.name.clone();
    let secret = shared.processor.add_user(new).await?;
    Ok((StatusCode::CREATED, JsonAnswer(UserSecret { name, secret })))
}

/// Change a user
///
/// Only super users may change users. Waiting receives and streams that the user is no longer authorized for end immediately.
#[utoipa::path(
    patch, path = "/v1/users/{user}", operation_id = "updateUser", tag = "administration",
    params(("user" = String, Path)), request_body = UserChanges,
    responses(
        (status = 204, description = "The change is in force"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn update(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    Json(changes): Json<UserChanges>,
) -> Result<StatusCode, Problem> {
    caller.authorize(&shared, "UpdateUser")?;
    shared.processor.update_user(name, changes.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace the secret of a user
///
/// Only super users may replace secrets. The old secret is refused immediately.
#[utoipa::path(
    post, path = "/v1/users/{user}/secret", operation_id = "setUserSecret", tag = "administration",
    params(("user" = String, Path)), request_body = SecretToSet,
    responses(
        (status = 200, description = "The user, and the secret if it was generated", body = UserSecret),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn set_secret(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    Json(secret): Json<SecretToSet>,
) -> Result<JsonAnswer<UserSecret>, Problem> {
    caller.authorize(&shared, "SetUserSecret")?;
    let secret = shared.processor.set_user_secret(name.clone(), secret.into()).await?;
    Ok(JsonAnswer(UserSecret { name, secret }))
}

/// Remove a user and their policies
///
/// Only super users may remove users.
#[utoipa::path(
    delete, path = "/v1/users/{user}", operation_id = "removeUser", tag = "administration",
    params(("user" = String, Path)),
    responses(
        (status = 204, description = "The user was removed"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
) -> Result<StatusCode, Problem> {
    caller.authorize(&shared, "RemoveUser")?;
    shared.processor.remove_user(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Explain what a user may do
///
/// Shows which policy decides about a request. The call needs all rights of administration.
#[utoipa::path(
    get, path = "/v1/users/{user}/access", operation_id = "explainAccess", tag = "administration",
    params(("user" = String, Path), AccessParams),
    responses(
        (status = 200, description = "The decision", body = Verdict),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn explain(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(AccessParams { resource, action, from }): QueryParams<AccessParams>,
) -> Result<JsonAnswer<Verdict>, Problem> {
    caller.authorize(&shared, "ExplainAccess")?;
    let resource = resource.parse().map_err(|problem: String| Problem::bad_request(problem))?;
    let query = AccessQuery { resource, action, from };
    let Explanation { allowed, why, policy } = shared.processor.explain_access(&name, query).await?;
    Ok(JsonAnswer(Verdict { allowed, why, policy: policy.map(Policy::from) }))
}

/// Add a policy
///
/// Only super users may add policies. The policy is stored durably and in force when the call is answered.
#[utoipa::path(
    post, path = "/v1/policies", operation_id = "addPolicy", tag = "administration", request_body = PolicyToAdd,
    responses(
        (status = 201, description = "The policy", body = Policy),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn add_policy(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Json(policy): Json<PolicyToAdd>,
) -> Result<(StatusCode, JsonAnswer<Policy>), Problem> {
    caller.authorize(&shared, "AddPolicy")?;
    let added = shared.processor.add_policy(policy.into()).await?;
    Ok((StatusCode::CREATED, JsonAnswer(Policy::from(added))))
}

/// Remove a policy
///
/// Only super users may remove policies. Waiting receives and streams that the user is no longer authorized for end
/// immediately.
#[utoipa::path(
    delete, path = "/v1/policies/{number}", operation_id = "removePolicy", tag = "administration",
    params(("number" = u32, Path)),
    responses(
        (status = 204, description = "The policy was removed"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn remove_policy(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(number): PathParams<u32>,
) -> Result<StatusCode, Problem> {
    caller.authorize(&shared, "RemovePolicy")?;
    shared.processor.remove_policy(number).await?;
    Ok(StatusCode::NO_CONTENT)
}
