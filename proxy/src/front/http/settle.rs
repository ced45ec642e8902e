//! Settling deliveries by their handles.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json as JsonAnswer;
use axum::extract::State;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::{Caller, Json, Named};
use super::problem::Problem;
use super::{Shared, times};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::processor::{AckCommand, AckEntry, ChangeCommand, ForwardCommand};

/// Handles of one request.
const MAX_HANDLES: usize = 1000;
/// Handles of one request that are settled at a time, where the domain's calls take one.
const CONCURRENT: usize = 16;

/// Deliveries to settle.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Handles {
    /// Their handles.
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
    /// Their handles.
    #[schema(min_items = 1, max_items = 1000)]
    handles: Vec<String>,
    /// The lite topic of their messages, if they have one.
    #[serde(default)]
    lite_topic: Option<String>,
    /// After how long they are delivered again, such as `10s`; at once by default.
    #[serde(default)]
    #[schema(example = "10s", pattern = "^[0-9]{1,4}(ms|s)$")]
    after: Option<String>,
}

/// Leases to extend.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Extend {
    /// The handles of the deliveries.
    #[schema(min_items = 1, max_items = 1000)]
    handles: Vec<String>,
    /// The lite topic of their messages, if they have one.
    #[serde(default)]
    lite_topic: Option<String>,
    /// How long the messages stay invisible from now on, such as `60s`.
    #[schema(example = "60s", pattern = "^[0-9]{1,4}(ms|s)$")]
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
    /// The handle in the request.
    handle: String,
    /// Whether it was done.
    done: bool,
    /// The handle from now on, after a lease was extended.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_handle: Option<String>,
    /// Why it was not done.
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
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn ack(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Named((group, topic)): Named<(String, String)>,
    Json(Handles { handles, lite_topic }): Json<Handles>,
) -> Result<JsonAnswer<Settled>, Problem> {
    let entries = entries(handles.clone(), &lite_topic)?;
    let results = shared.processor.run(&caller.context, AckCommand { topic, group, entries }).await?;
    let results = handles.into_iter().zip(results).map(|(handle, result)| {
        if result.is_ok() {
            shared.streams.settled(&handle);
        }
        SettleResult::new(handle, result.map(|()| None))
    });
    Ok(JsonAnswer(Settled { results: results.collect() }))
}

/// Give messages back
///
/// They are delivered again, to this consumer or another one. It counts as an attempt.
#[utoipa::path(
    post, path = "/v1/groups/{group}/topics/{topic}/nack", operation_id = "nackMessages", tag = "messages",
    params(
        ("group" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 120),
        ("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127),
    ),
    request_body = Nack,
    responses(
        (status = 200, description = "A result for each handle", body = Settled),
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn nack(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Named((group, topic)): Named<(String, String)>,
    Json(Nack { handles, lite_topic, after }): Json<Nack>,
) -> Result<JsonAnswer<Settled>, Problem> {
    let invisible_ms = after.map_or(Ok(0), |after| times::millis("after", &after))?;
    let settling = Settling { shared: &shared, context: &caller.context, topic, group };
    settling.each(handles, &lite_topic, How::Nack { invisible_ms }).await
}

/// Extend leases
///
/// Each delivery has a new handle afterwards.
#[utoipa::path(
    post, path = "/v1/groups/{group}/topics/{topic}/extend", operation_id = "extendLeases", tag = "messages",
    params(
        ("group" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 120),
        ("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127),
    ),
    request_body = Extend,
    responses(
        (status = 200, description = "A result for each handle", body = Settled),
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn extend(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Named((group, topic)): Named<(String, String)>,
    Json(Extend { handles, lite_topic, invisible }): Json<Extend>,
) -> Result<JsonAnswer<Settled>, Problem> {
    let invisible_ms = times::millis("invisible", &invisible)?;
    let settling = Settling { shared: &shared, context: &caller.context, topic, group };
    settling.each(handles, &lite_topic, How::Extend { invisible_ms }).await
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
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn dead_letter(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Named((group, topic)): Named<(String, String)>,
    Json(Handles { handles, lite_topic }): Json<Handles>,
) -> Result<JsonAnswer<Settled>, Problem> {
    let settling = Settling { shared: &shared, context: &caller.context, topic, group };
    settling.each(handles, &lite_topic, How::DeadLetter).await
}

/// Whether this is wrong for any handle.
fn is_of_request(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::IllegalTopic
            | ErrorKind::IllegalGroup
            | ErrorKind::IllegalInvisibleTime
            | ErrorKind::Unauthorized
            | ErrorKind::AccessDenied
    )
}

/// What happens to a delivery.
#[derive(Clone, Copy)]
enum How {
    Nack { invisible_ms: i64 },
    Extend { invisible_ms: i64 },
    DeadLetter,
}

/// Deliveries of one topic and group that are settled one by one.
struct Settling<'a> {
    shared: &'a Shared,
    context: &'a Context,
    topic: String,
    group: String,
}

impl Settling<'_> {
    /// Settles some at a time. The results are in order. What is wrong with all of them refuses the request.
    async fn each(
        &self,
        handles: Vec<String>,
        lite_topic: &Option<String>,
        how: How,
    ) -> Result<JsonAnswer<Settled>, Problem> {
        let settling = entries(handles, lite_topic)?.into_iter().map(|entry| async move {
            let handle = entry.handle.clone();
            match self.one(entry, how).await {
                Err(error) if is_of_request(error.kind) => Err(Problem::from(error)),
                result => Ok(SettleResult::new(handle, result)),
            }
        });
        let settling: Vec<_> = settling.collect();
        let results = futures::stream::iter(settling).buffered(CONCURRENT).try_collect().await?;
        Ok(JsonAnswer(Settled { results }))
    }

    async fn one(&self, entry: AckEntry, how: How) -> Result<Option<String>, Error> {
        let Self { shared, context, .. } = self;
        let (topic, group, handle) = (self.topic.clone(), self.group.clone(), entry.handle.clone());
        match how {
            How::Nack { invisible_ms } => {
                let command = ChangeCommand { topic, group, entry, invisible_ms, suspend: false };
                shared.processor.run(context, command).await?;
            }
            How::Extend { invisible_ms } => {
                let command = ChangeCommand { topic, group, entry, invisible_ms, suspend: false };
                let new_handle = shared.processor.run(context, command).await?;
                // The command has checked that it is not too long.
                let until = Instant::now() + Duration::from_millis(invisible_ms.cast_unsigned());
                shared.streams.extended(&handle, &new_handle, until);
                return Ok(Some(new_handle));
            }
            How::DeadLetter => {
                shared.processor.run(context, ForwardCommand { topic, group, entry }).await?;
            }
        }
        shared.streams.settled(&handle);
        Ok(None)
    }
}
