//! Searching the recorded steps of a message.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::call::{Caller, PathParams, QueryParams};
use super::problem::Problem;
use super::shared::Shared;
use super::times;
use crate::json_schema;
use crate::layer::{TraceEvent, TraceStep};
use crate::processor::TraceSearch;
use crate::service;

/// The records to search.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct TraceParams {
    /// Only steps that were recorded at this time or later.
    #[param(inline, value_type = Option<json_schema::Time>, example = "2026-11-29T10:00:00Z")]
    from: Option<String>,
    /// Only steps that were recorded at this time or earlier.
    #[param(inline, value_type = Option<json_schema::Time>, example = "2026-11-29T10:05:00Z")]
    to: Option<String>,
}

/// The recorded steps of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trace {
    /// The steps, sorted by time.
    events: Vec<Event>,
    /// Whether all records were searched. If not, narrow the search with `from` and `to`.
    complete: bool,
}

/// A step in the life of a message.
#[derive(Debug, Serialize, ToSchema)]
struct Event {
    /// The time of the step.
    at: String,
    /// The kind of the step.
    step: TraceStep,
    #[serde(skip_serializing_if = "String::is_empty")]
    topic: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tag: String,
    keys: Vec<String>,
    /// The client id.
    #[serde(skip_serializing_if = "String::is_empty")]
    client: String,
    /// The client's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    address: String,
    /// The duration in milliseconds: of a send, until it was answered; of a settlement, since the delivery.
    cost_ms: i64,
    /// `ok`, or the reason of the failure.
    result: String,
    /// The number of the delivery attempt, from 1; 0 for other steps.
    attempt: i32,
    /// Identifies a delivery: a delivery and its settlement have the same id.
    #[serde(skip_serializing_if = "String::is_empty")]
    delivery_id: String,
}

/// Show the recorded steps of a message
///
/// Only traced messages have records: messages of the topics and users in `[message_trace]` of the configuration, and
/// messages that classic clients trace themselves.
#[utoipa::path(
    get, path = "/v1/messages/{id}/trace", operation_id = "traceMessage", tag = "administration",
    params(("id" = String, Path, description = "The message's id"), TraceParams),
    responses(
        (status = 200, description = "The steps", body = Trace),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn trace(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(message_id): PathParams<String>,
    QueryParams(params): QueryParams<TraceParams>,
) -> Result<JsonAnswer<Trace>, Problem> {
    caller.authorize(&shared, "TraceMessage")?;
    let time = |name, text: Option<String>| text.map(|text| times::parse_time(name, &text)).transpose();
    let (from, to) = (time("from", params.from)?, time("to", params.to)?);
    let found = shared.processor.message_trace(TraceSearch { message_id, from, to }).await?;
    let events = found.events.into_iter().map(event).collect();
    Ok(JsonAnswer(Trace { events, complete: found.complete }))
}

fn event(event: TraceEvent) -> Event {
    Event {
        at: times::format_time(service::time(event.at_ms)),
        step: event.step,
        keys: event.keys().map(str::to_owned).collect(),
        topic: event.topic,
        group: event.group,
        tag: event.tag,
        client: event.client.id,
        address: event.client.address,
        cost_ms: event.cost_ms,
        result: event.result,
        attempt: event.attempt,
        delivery_id: event.delivery_id,
    }
}
