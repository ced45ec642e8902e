//! What message trace has recorded of a message.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::call::{Caller, Named, Parameters};
use super::problem::Problem;
use super::{Shared, times};
use crate::layer::{TraceEvent, TraceStep};
use crate::processor::TraceSearch;
use crate::service;

/// Which records to look at.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Recorded {
    /// Only what was recorded at this time or later.
    #[param(example = "2026-11-29T10:00:00Z")]
    from: Option<String>,
    /// Only what was recorded at this time or earlier.
    #[param(example = "2026-11-29T10:05:00Z")]
    to: Option<String>,
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trace {
    /// By time.
    events: Vec<Event>,
    /// Whether all records were searched. If not, `from` and `to` shorten the search.
    complete: bool,
}

/// A step in the life of a message.
#[derive(Debug, Serialize, ToSchema)]
struct Event {
    /// When.
    at: String,
    /// What has happened.
    step: TraceStep,
    #[serde(skip_serializing_if = "String::is_empty")]
    topic: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tag: String,
    keys: Vec<String>,
    /// The client's name for itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    client: String,
    /// The client's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    address: String,
    /// How long it took: a send until it was answered, a settled delivery since it was delivered.
    cost_ms: i64,
    /// `ok`, or why it failed.
    result: String,
    /// The number of a delivery, beginning with 1; else 0.
    attempt: i32,
    /// The same for a delivery and what settles it.
    #[serde(skip_serializing_if = "String::is_empty")]
    delivery_id: String,
}

/// Look at what has happened to a message
///
/// Only messages that are traced have records: those of topics and users in `[message_trace]` of the configuration, and those
/// that classic clients trace themselves.
#[utoipa::path(
    get, path = "/v1/messages/{id}/trace", operation_id = "traceMessage", tag = "administration",
    params(("id" = String, Path, description = "The message's id"), Recorded),
    responses(
        (status = 200, description = "The steps", body = Trace),
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn trace(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Named(message_id): Named<String>,
    Parameters(recorded): Parameters<Recorded>,
) -> Result<JsonAnswer<Trace>, Problem> {
    caller.may(&shared, "TraceMessage")?;
    let time = |name, text: Option<String>| text.map(|text| times::parse(name, &text)).transpose();
    let (from, to) = (time("from", recorded.from)?, time("to", recorded.to)?);
    let found = shared.processor.message_trace(TraceSearch { message_id, from, to }).await?;
    let events = found.events.into_iter().map(event).collect();
    Ok(JsonAnswer(Trace { events, complete: found.complete }))
}

fn event(event: TraceEvent) -> Event {
    Event {
        at: times::text(service::time(event.at_ms)),
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
