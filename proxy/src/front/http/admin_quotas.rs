//! Administration of quotas.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::{Caller, Json, PathParams};
use super::problem::Problem;
use super::shared::Shared;
use crate::layer::{Quota, QuotaStatus};

/// The quotas of this proxy.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QuotaList {
    quotas: Vec<QuotaInForce>,
}

/// A quota, with its counts since it was set.
#[derive(Debug, Serialize, ToSchema)]
struct QuotaInForce {
    #[serde(flatten)]
    quota: Quota,
    /// The number of refused requests.
    refused: u64,
    /// The number of delayed requests.
    delayed: u64,
}

/// List the quotas of this proxy, with the numbers of refused and delayed requests
#[utoipa::path(
    get, path = "/v1/quotas", operation_id = "listQuotas", tag = "administration",
    responses(
        (status = 200, description = "The quotas", body = QuotaList),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
) -> Result<JsonAnswer<QuotaList>, Problem> {
    caller.authorize(&shared, "ListQuotas")?;
    let quotas = shared.processor.quotas().list().into_iter();
    let quotas =
        quotas.map(|QuotaStatus { quota, refused, delayed }| QuotaInForce { quota, refused, delayed });
    Ok(JsonAnswer(QuotaList { quotas: quotas.collect() }))
}

/// Set a quota of this proxy, until its next start
///
/// It replaces the quota of the same name.
#[utoipa::path(
    post, path = "/v1/quotas", operation_id = "setQuota", tag = "administration", request_body = Quota,
    responses(
        (status = 204, description = "The quota is in force"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Json(quota): Json<Quota>,
) -> Result<StatusCode, Problem> {
    caller.authorize(&shared, "SetQuota")?;
    shared.processor.quotas().set(quota).map_err(Problem::bad_request)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a quota of this proxy, until its next start
#[utoipa::path(
    delete, path = "/v1/quotas/{quota}", operation_id = "removeQuota", tag = "administration",
    params(("quota" = String, Path)),
    responses(
        (status = 204, description = "The quota was removed"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
) -> Result<StatusCode, Problem> {
    caller.authorize(&shared, "RemoveQuota")?;
    match shared.processor.quotas().remove(&name) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::http(StatusCode::NOT_FOUND, format!("there is no quota {name}"))),
    }
}
