//! Users and policies, as far as an administrator may see them. They are changed by subcommands, in their file.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use super::call::Caller;
use super::problem::Problem;
use crate::layer::{Action, Effect, ListedUser, PolicyEntry, UserKind};

/// The users of access control.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Users {
    users: Vec<User>,
}

/// A user. The secret is never shown.
#[derive(Debug, Serialize, ToSchema)]
struct User {
    /// The access key.
    name: String,
    /// `normal`, or `super`, who may do everything.
    #[schema(value_type = String)]
    r#type: UserKind,
    enabled: bool,
    /// Names in client certificates by which the user is known.
    certificates: Vec<String>,
    policies: Vec<Policy>,
}

/// What a user may do, or may not.
#[derive(Debug, Serialize, ToSchema)]
struct Policy {
    /// Such as `Topic:orders`.
    resource: String,
    #[schema(value_type = Vec<String>)]
    actions: Vec<Action>,
    /// `allow` or `deny`.
    #[schema(value_type = String)]
    effect: Effect,
    /// The networks that requests come from; everywhere if there are none.
    from: Vec<String>,
}

/// List users and policies
///
/// It needs all rights of administration. Without access control there are none, and the answer is 404.
#[utoipa::path(
    get, path = "/v1/users", operation_id = "listUsers", tag = "administration",
    responses(
        (status = 200, description = "The users", body = Users),
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
) -> Result<JsonAnswer<Users>, Problem> {
    caller.may(&shared, "ListUsers")?;
    let Some(users) = shared.processor.users().await? else {
        let detail = "there are no users: without access control everybody may do everything";
        return Err(Problem::http(StatusCode::NOT_FOUND, detail));
    };
    Ok(JsonAnswer(Users { users: users.into_iter().map(user).collect() }))
}

fn user(ListedUser { name, kind, enabled, certificates, policies }: ListedUser) -> User {
    let policy = |PolicyEntry { resource, actions, from, effect, .. }: PolicyEntry| Policy {
        resource,
        actions,
        effect,
        from: from.iter().map(ToString::to_string).collect(),
    };
    let policies = policies.into_iter().map(policy).collect();
    User { name, r#type: kind, enabled, certificates, policies }
}
