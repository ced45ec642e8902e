//! Settling deliveries by their handles.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json as JsonAnswer;
use axum::extract::State;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::{Caller, Json, PathParams};
use super::problem::Problem;
use super::shared::Shared;
use super::times;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::json_schema;
use crate::processor::{AckCommand, AckEntry, ChangeInvisibleCommand, ForwardCommand};

/// The maximum number of handles of one request.
const MAX_HANDLES: usize = 1000;
/// The maximum number of handles of one request that are settled concurrently, where a command settles one.
const MAX_CONCURRENT: usize = 16;

/// Deliveries to settle.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Handles {
    /// The receipt handles of the deliveries.
    #[schema(min_items = 1, max_items = 1000)]
    handles: Vec<String>,
    /// The lite topic of their messages, if they have one.
    #[serde(default)]
    lite_topic: Option<String>,
}

/// Deliveries to give back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nack {
    /// The receipt handles of the deliveries.
    #[schema(min_items = 1, max_items = 1000)]
    handles: Vec<String>,
    /// The lite topic of their messages, if they have one.
    #[serde(default)]
    lite_topic: Option<String>,
    /// The delay before the messages are delivered again, such as `10s`; immediately by default.
    #[serde(default)]
    #[schema(value_type = Option<json_schema::Duration>)]
    after: Option<String>,
}

/// Leases to extend.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Extend {
    /// The receipt handles of the deliveries.
    #[schema(min_items = 1, max_items = 1000)]
    handles: Vec<String>,
    /// The lite topic of their messages, if they have one.
    #[serde(default)]
    lite_topic: Option<String>,
    /// The new lease: how long the messages stay invisible from now on, such as `60s`.
    #[schema(value_type = json_schema::Duration)]
    invisible: String,
}

/// The results, in the order of the handles.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Settled {
    results: Vec<SettleResult>,
}

/// The result for one delivery.
#[derive(Debug, Serialize, ToSchema)]
struct SettleResult {
    /// The receipt handle in the request.
    handle: String,
    /// Whether the operation succeeded.
    done: bool,
    /// The new receipt handle, after a lease was extended.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_handle: Option<String>,
    /// Why the operation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

impl SettleResult {
    fn new(handle: String, result: Result<Option<String>, Error>) -> Self {
        let (done, new_handle, error) = match result {
            Ok(new_handle) => (true, new_handle, None),
            Err(error) => (false, None, Some(Problem::from(error))),
        };
        Self { handle, done, new_handle, error }
    }
}

impl Nack {
    /// The deliveries, and what happens to them.
    pub(super) fn action(self) -> Result<(Vec<AckEntry>, SettleAction), Problem> {
        let invisible_ms = self.after.map_or(Ok(0), |after| times::parse_millis("after", &after))?;
        Ok((entries(self.handles, &self.lite_topic)?, SettleAction::Nack { invisible_ms }))
    }
}

impl Extend {
    /// The deliveries, and what happens to them.
    pub(super) fn action(self) -> Result<(Vec<AckEntry>, SettleAction), Problem> {
        let invisible_ms = times::parse_millis("invisible", &self.invisible)?;
        Ok((entries(self.handles, &self.lite_topic)?, SettleAction::Extend { invisible_ms }))
    }
}

impl Handles {
    /// The deliveries.
    pub(super) fn entries(self) -> Result<Vec<AckEntry>, Problem> {
        entries(self.handles, &self.lite_topic)
    }
}

fn entries(handles: Vec<String>, lite_topic: &Option<String>) -> Result<Vec<AckEntry>, Problem> {
    if handles.is_empty() || handles.len() > MAX_HANDLES {
        return Err(Problem::bad_request(format!("a request has from 1 to {MAX_HANDLES} handles")));
    }
    let entry = |handle| AckEntry { handle, message_id: String::new(), lite_topic: lite_topic.clone() };
    Ok(handles.into_iter().map(entry).collect())
}

/// Acknowledge messages
#[utoipa::path(
    post, path = "/v1/groups/{group}/topics/{topic}/ack", operation_id = "ackMessages", tag = "messages",
    params(
        ("group" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 120),
        ("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127),
    ),
    request_body = Handles,
    responses(
        (status = 200, description = "A result for each handle", body = Settled),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn ack(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams((group, topic)): PathParams<(String, String)>,
    Json(handles): Json<Handles>,
) -> Result<JsonAnswer<Settled>, Problem> {
    let entries = handles.entries()?;
    let handles: Vec<_> = entries.iter().map(|entry| entry.handle.clone()).collect();
    let results = shared.processor.run(&caller.context, AckCommand { topic, group, entries }).await?;
    let results = handles.into_iter().zip(results).map(|(handle, result)| {
        if result.is_ok() {
            shared.streams.remove(&handle);
        }
        SettleResult::new(handle, result.map(|()| None))
    });
    Ok(JsonAnswer(Settled { results: results.collect() }))
}

/// Give messages back
///
/// The messages are delivered again, to this or another consumer. The delivery counts as an attempt.
#[utoipa::path(
    post, path = "/v1/groups/{group}/topics/{topic}/nack", operation_id = "nackMessages", tag = "messages",
    params(
        ("group" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 120),
        ("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127),
    ),
    request_body = Nack,
    responses(
        (status = 200, description = "A result for each handle", body = Settled),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn nack(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams((group, topic)): PathParams<(String, String)>,
    Json(nack): Json<Nack>,
) -> Result<JsonAnswer<Settled>, Problem> {
    let (entries, action) = nack.action()?;
    let settler = DeliverySettler { shared: &shared, context: &caller.context, topic, group };
    settler.settle_all(entries, action).await
}

/// Extend leases
///
/// Each delivery gets a new receipt handle.
#[utoipa::path(
    post, path = "/v1/groups/{group}/topics/{topic}/extend", operation_id = "extendLeases", tag = "messages",
    params(
        ("group" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 120),
        ("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127),
    ),
    request_body = Extend,
    responses(
        (status = 200, description = "A result for each handle", body = Settled),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn extend(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams((group, topic)): PathParams<(String, String)>,
    Json(extend): Json<Extend>,
) -> Result<JsonAnswer<Settled>, Problem> {
    let (entries, action) = extend.action()?;
    let settler = DeliverySettler { shared: &shared, context: &caller.context, topic, group };
    settler.settle_all(entries, action).await
}

/// Move messages to the dead letters of the group
#[utoipa::path(
    post, path = "/v1/groups/{group}/topics/{topic}/dead-letter", operation_id = "deadLetterMessages", tag = "messages",
    params(
        ("group" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 120),
        ("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127),
    ),
    request_body = Handles,
    responses(
        (status = 200, description = "A result for each handle", body = Settled),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn dead_letter(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams((group, topic)): PathParams<(String, String)>,
    Json(handles): Json<Handles>,
) -> Result<JsonAnswer<Settled>, Problem> {
    let settler = DeliverySettler { shared: &shared, context: &caller.context, topic, group };
    settler.settle_all(handles.entries()?, SettleAction::DeadLetter).await
}

/// Whether an error of one handle refuses the whole request, because it would occur for every handle.
fn refuses_request(kind: ErrorKind) -> bool {
    kind.is_access_refusal()
        || matches!(kind, ErrorKind::IllegalTopic | ErrorKind::IllegalGroup | ErrorKind::IllegalInvisibleTime)
}

/// What to do with a delivery.
#[derive(Clone, Copy)]
pub(super) enum SettleAction {
    Nack { invisible_ms: i64 },
    Extend { invisible_ms: i64 },
    DeadLetter,
}

/// Settles deliveries of one topic and group with one command each.
struct DeliverySettler<'a> {
    shared: &'a Shared,
    context: &'a Context,
    topic: String,
    group: String,
}

impl DeliverySettler<'_> {
    /// Settles deliveries concurrently. The results are in the order of the handles. An error that applies to all of them
    /// refuses the request.
    async fn settle_all(
        &self,
        entries: Vec<AckEntry>,
        action: SettleAction,
    ) -> Result<JsonAnswer<Settled>, Problem> {
        let settling = entries.into_iter().map(|entry| async move {
            let handle = entry.handle.clone();
            match self.settle_one(entry, action).await {
                Err(error) if refuses_request(error.kind) => Err(Problem::from(error)),
                result => Ok(SettleResult::new(handle, result)),
            }
        });
        let settling: Vec<_> = settling.collect();
        let results = futures::stream::iter(settling).buffered(MAX_CONCURRENT).try_collect().await?;
        Ok(JsonAnswer(Settled { results }))
    }

    /// Settles one delivery. Returns its new receipt handle if the lease was extended.
    async fn settle_one(&self, entry: AckEntry, action: SettleAction) -> Result<Option<String>, Error> {
        let Self { shared, context, .. } = self;
        let (topic, group, handle) = (self.topic.clone(), self.group.clone(), entry.handle.clone());
        match action {
            SettleAction::Nack { invisible_ms } => {
                let command = ChangeInvisibleCommand { topic, group, entry, invisible_ms, suspend: false };
                shared.processor.run(context, command).await?;
            }
            SettleAction::Extend { invisible_ms } => {
                let command = ChangeInvisibleCommand { topic, group, entry, invisible_ms, suspend: false };
                let new_handle = shared.processor.run(context, command).await?;
                // Does not overflow: the command has checked the limit.
                let until = Instant::now() + Duration::from_millis(invisible_ms.cast_unsigned());
                shared.streams.replace_handle(&handle, &new_handle, until);
                return Ok(Some(new_handle));
            }
            SettleAction::DeadLetter => {
                shared.processor.run(context, ForwardCommand { topic, group, entry }).await?;
            }
        }
        shared.streams.remove(&handle);
        Ok(None)
    }
}
