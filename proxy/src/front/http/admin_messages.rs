//! Looking at stored messages.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::call::{Caller, Named, Parameters};
use super::message::{self, BodyFormat, StoredMessage};
use super::problem::Problem;
use super::{Shared, times};
use crate::service::{ReadMessage, ReadQueue, WantedMessage};

/// Messages of one page, if the client does not say how many.
const MAX: u32 = 20;
/// The most bytes of messages' bodies in one page.
const PAGE_BYTES: usize = 16 << 20;

/// Which messages of a queue to look at.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Search {
    /// The queue's id. 0 by default.
    #[param(minimum = 0)]
    queue: i32,
    /// The broker that holds the queue; it may be left out where one broker has such a queue.
    broker: Option<String>,
    /// The lite topic, in a topic of type lite.
    lite_topic: Option<String>,
    /// The offset to begin at. 0 by default.
    offset: i64,
    /// The most messages that are returned. 20 by default.
    #[param(minimum = 1, maximum = 100)]
    max: Option<u32>,
    /// Only the message with this id.
    id: Option<String>,
    /// Only messages with this key.
    key: Option<String>,
    /// Only messages that were stored at this time or later.
    #[param(example = "2026-11-29T10:00:00Z")]
    from: Option<String>,
    /// Only messages that were stored at this time or earlier.
    #[param(example = "2026-11-29T10:05:00Z")]
    to: Option<String>,
    /// How bodies are written.
    #[param(inline)]
    bodies: BodyFormat,
    /// The most bytes of each body that are returned; a longer body is cut. As many as the page has room for by default.
    max_body: Option<usize>,
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Found {
    messages: Vec<FoundMessage>,
    /// The offset to go on from.
    next_offset: i64,
    /// How many messages were looked at.
    looked_at: u64,
    /// Whether there is nothing more to find now.
    finished: bool,
}

/// A message that was found.
#[derive(Debug, Serialize, ToSchema)]
struct FoundMessage {
    /// The broker that holds it.
    broker: String,
    /// How long its body is, also if it was cut.
    body_bytes: usize,
    #[serde(flatten)]
    message: StoredMessage,
}

/// Look at the messages of a queue
///
/// Nothing is consumed. A call looks at a bounded number of messages: go on at `next_offset` until it is `finished`.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/messages", operation_id = "readMessages", tag = "administration",
    params(("topic" = String, Path), Search),
    responses(
        (status = 200, description = "The messages", body = Found),
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Named(topic): Named<String>,
    Parameters(search): Parameters<Search>,
) -> Result<JsonAnswer<Found>, Problem> {
    caller.may(&shared, "ReadMessages")?;
    let time = |name, text: Option<String>| text.map(|text| times::parse(name, &text)).transpose();
    let wanted = match (search.id, search.key) {
        (None, None) => WantedMessage::Any,
        (Some(id), None) => WantedMessage::Id(id),
        (None, Some(key)) => WantedMessage::Key(key),
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("a search is for an id or for a key, not for both"));
        }
    };
    let max = search.max.unwrap_or(MAX) as usize;
    if max == 0 {
        return Err(Problem::bad_request("max must be positive"));
    }
    let broker = match search.broker {
        Some(broker) => broker,
        None => broker_of(&shared, &topic, search.lite_topic.as_deref(), search.queue).await?,
    };
    let read = ReadQueue {
        topic,
        lite_topic: search.lite_topic,
        broker,
        queue_id: search.queue,
        offset: search.offset,
        max,
        max_body: search.max_body.map_or(PAGE_BYTES / max, |bytes| bytes.min(PAGE_BYTES / max)),
        from: time("from", search.from)?,
        to: time("to", search.to)?,
        wanted,
    };
    let page = shared.processor.read(read).await?;
    let found = |ReadMessage { delivery, broker, body_bytes }| {
        let (message, place) = message::place(delivery);
        FoundMessage { broker, body_bytes, message: StoredMessage::new(message, place, search.bodies) }
    };
    Ok(JsonAnswer(Found {
        messages: page.messages.into_iter().map(found).collect(),
        next_offset: page.next_offset,
        looked_at: page.looked_at,
        finished: page.finished,
    }))
}

/// The only broker that has such a queue.
async fn broker_of(
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
        (Some(_), Some(_)) => {
            Err(Problem::bad_request(format!("several brokers have a queue {queue}: name one")))
        }
    }
}
