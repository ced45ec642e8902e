//! Reading stored messages without consuming them.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::call::{Caller, PathParams, QueryParams};
use super::message::{self, BodyFormat, StoredMessage};
use super::problem::Problem;
use super::shared::Shared;
use super::times;
use crate::json_schema;
use crate::service::{ReadMessage, ReadQueue, WantedMessage};

/// The default of the maximum number of messages of one page.
const DEFAULT_MAX: u32 = 20;
/// The maximum number of bytes of bodies in one page.
const PAGE_BYTES: usize = 16 << 20;

/// The messages of a queue to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadParams {
    /// The queue's id. 0 by default.
    #[param(minimum = 0, maximum = 2147483647)]
    queue: i32,
    /// The broker that has the queue. Optional if only one broker has a queue with this id.
    broker: Option<String>,
    /// The lite topic, in a topic of type `lite`.
    lite_topic: Option<String>,
    /// The offset at which to start. 0 by default.
    offset: i64,
    /// The maximum number of messages that are returned. 20 by default.
    #[param(minimum = 1, maximum = 100)]
    max: Option<u32>,
    /// Only the message with this id.
    id: Option<String>,
    /// Only messages with this key.
    key: Option<String>,
    /// Only messages that were stored at this time or later.
    #[param(inline, value_type = Option<json_schema::Time>, example = "2026-11-29T10:00:00Z")]
    from: Option<String>,
    /// Only messages that were stored at this time or earlier.
    #[param(inline, value_type = Option<json_schema::Time>, example = "2026-11-29T10:05:00Z")]
    to: Option<String>,
    /// How bodies are returned.
    #[param(inline)]
    bodies: BodyFormat,
    /// How many bytes of each body are returned at most; longer bodies are truncated. By default, as many as fit in the
    /// page.
    max_body: Option<usize>,
}

/// A page of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Found {
    messages: Vec<FoundMessage>,
    /// The offset at which to continue.
    next_offset: i64,
    /// The number of messages that were searched.
    looked_at: u64,
    /// Whether the end of the queue was reached.
    finished: bool,
}

/// A stored message.
#[derive(Debug, Serialize, ToSchema)]
struct FoundMessage {
    /// The broker that stores the message.
    broker: String,
    /// The length of the whole body in bytes, even if it is truncated here.
    body_bytes: usize,
    #[serde(flatten)]
    message: StoredMessage,
}

/// Read the messages of a queue
///
/// Nothing is consumed. A call searches a bounded number of messages: continue at `next_offset` until it is `finished`.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/messages", operation_id = "readMessages", tag = "administration",
    params(("topic" = String, Path), ReadParams),
    responses(
        (status = 200, description = "The messages", body = Found),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(topic): PathParams<String>,
    QueryParams(params): QueryParams<ReadParams>,
) -> Result<JsonAnswer<Found>, Problem> {
    caller.authorize(&shared, "ReadMessages")?;
    let time = |name, text: Option<String>| text.map(|text| times::parse_time(name, &text)).transpose();
    let wanted = match (params.id, params.key) {
        (None, None) => WantedMessage::Any,
        (Some(id), None) => WantedMessage::Id(id),
        (None, Some(key)) => WantedMessage::Key(key),
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("a search has an id or a key, not both"));
        }
    };
    let max = params.max.unwrap_or(DEFAULT_MAX) as usize;
    if max == 0 {
        return Err(Problem::bad_request("max must be at least 1"));
    }
    let broker = match params.broker {
        Some(broker) => broker,
        None => find_broker(&shared, &topic, params.lite_topic.as_deref(), params.queue).await?,
    };
    let read = ReadQueue {
        topic,
        lite_topic: params.lite_topic,
        broker,
        queue_id: params.queue,
        offset: params.offset,
        max,
        max_body: params.max_body.map_or(PAGE_BYTES / max, |bytes| bytes.min(PAGE_BYTES / max)),
        from: time("from", params.from)?,
        to: time("to", params.to)?,
        wanted,
    };
    let page = shared.processor.read(read).await?;
    let found = |ReadMessage { delivery, broker, body_bytes }| {
        let (message, position) = message::split_delivery(delivery);
        FoundMessage { broker, body_bytes, message: StoredMessage::new(message, position, params.bodies) }
    };
    Ok(JsonAnswer(Found {
        messages: page.messages.into_iter().map(found).collect(),
        next_offset: page.next_offset,
        looked_at: page.looked_at,
        finished: page.finished,
    }))
}

/// Finds the only broker that has a queue with this id.
async fn find_broker(
    shared: &Shared,
    topic: &str,
    lite_topic: Option<&str>,
    queue: i32,
) -> Result<String, Problem> {
    let stats = shared.processor.topic_stats(topic, lite_topic).await?;
    let mut brokers = stats.queues.into_iter().filter(|stats| stats.id == queue).map(|stats| stats.broker);
    match (brokers.next(), brokers.next()) {
        (Some(broker), None) => Ok(broker),
        (None, _) => Err(Problem::bad_request(format!("{topic} has no queue {queue}"))),
        (Some(_), Some(_)) => Err(Problem::bad_request(format!(
            "several brokers have a queue {queue}: set the parameter broker"
        ))),
    }
}
