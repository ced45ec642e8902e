//! Receiving by long poll.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::call::{Caller, Named, Parameters};
use super::cloud_events::{self, ReceivedEvent};
use super::message::{self, BodyFormat, ReceivedMessage};
use super::problem::Problem;
use super::{Shared, times};
use crate::front::outgoing::Outgoing;
use crate::processor::{Expression, ReceiveCommand, Received, Undelivered};

/// The lease of a delivery, if the client asks for none.
const INVISIBLE: &str = "30s";
/// Messages of one receive, if the client does not say how many.
const MAX: i32 = 16;

/// What to receive.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// The most messages that are returned, or that a stream of events has open. 16 by default.
    #[param(minimum = 1)]
    pub(super) max: i32,
    /// How long to wait for a first message, such as `20s`; from 5 s to 20 s by default, the proxy's `limits` say.
    #[param(example = "5s", pattern = "^[0-9]{1,6}(ms|s)$")]
    pub(super) wait: Option<String>,
    /// How long the messages stay invisible to others unless they are settled, such as `30s`, the default.
    #[param(example = "30s", pattern = "^[1-9][0-9]{1,3}s$")]
    pub(super) invisible: String,
    /// Tags, separated by `||`. All messages by default.
    #[param(example = "*")]
    pub(super) filter: Option<String>,
    /// A condition in SQL over the properties, instead of tags.
    #[param(example = "price > 10")]
    pub(super) sql: Option<String>,
    /// How bodies are written.
    #[param(inline)]
    pub(super) bodies: BodyFormat,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            max: MAX,
            wait: None,
            invisible: INVISIBLE.to_owned(),
            filter: None,
            sql: None,
            bodies: BodyFormat::default(),
        }
    }
}

impl Wanted {
    /// The command that receives.
    pub(super) fn command(&self, group: &str, topic: &str) -> Result<ReceiveCommand, Problem> {
        if self.max < 1 {
            return Err(Problem::bad_request("max must be at least 1"));
        }
        let expression = match (&self.filter, &self.sql) {
            (Some(_), Some(_)) => return Err(Problem::bad_request("a receive has filter or sql, not both")),
            (tags, None) => Expression::Tags(tags.clone().unwrap_or_default()),
            (None, Some(sql)) => Expression::Sql(sql.clone()),
        };
        Ok(ReceiveCommand {
            topic: topic.to_owned(),
            group: group.to_owned(),
            broker: None,
            expression,
            batch_size: self.max,
            invisible_ms: times::millis("invisible", &self.invisible)?,
            auto_renew: false,
            polling_ms: self.wait.as_deref().map(|wait| times::millis("wait", wait)).transpose()?,
            attempt_id: None,
        })
    }
}

/// The messages of one receive; empty if none came.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code)] // Describes what is written message by message.
pub(super) struct Messages {
    messages: Vec<ReceivedMessage>,
}

/// Receive messages
///
/// Waits for a first message, and returns those that are there, each under a lease: settle it by its handle before the lease
/// ends, or it is delivered again. A client that goes away while it waits loses nothing. With
/// `accept: application/cloudevents-batch+json` the messages are CloudEvents, with the extensions `rocketmqhandle` and
/// `rocketmqattempt`.
#[utoipa::path(
    post, path = "/v1/groups/{group}/topics/{topic}/receive", operation_id = "receiveMessages", tag = "messages",
    params(
        ("group" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 120),
        ("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127),
        Wanted,
    ),
    responses(
        (status = 200, description = "The messages", content(
            (Messages = "application/json"),
            (Vec<super::cloud_events::CloudEvent> = "application/cloudevents-batch+json"),
        )),
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn receive(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Named((group, topic)): Named<(String, String)>,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Response, Problem> {
    let command = wanted.command(&group, &topic)?;
    let as_events = caller.accepts(cloud_events::BATCH_JSON);
    let received = shared.processor.run(&caller.context, command).await?;
    let deliveries = match received {
        Received::Messages(deliveries) => deliveries,
        Received::NoMatch | Received::Nothing => Vec::new(),
    };
    let undelivered = Undelivered { topic, group, deliveries };
    let outgoing =
        Outgoing::new(&shared.processor, undelivered, &mut caller.charge.lock(), message::size_hint);
    let format = if as_events { Format::Events } else { Format::Messages(wanted.bodies) };
    let content_type = if as_events { cloud_events::BATCH_JSON } else { "application/json" };
    let mut response = Body::from_stream(Answer { outgoing, format, part: Part::First }).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[derive(Clone, Copy)]
enum Format {
    Messages(BodyFormat),
    Events,
}

/// Which part of the answer is next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    First,
    Later,
    None,
}

/// The answer, made message by message as the connection takes it.
struct Answer {
    outgoing: Outgoing,
    format: Format,
    part: Part,
}

impl Answer {
    fn next(&mut self) -> Option<Bytes> {
        let mut part = BytesMut::new();
        match (self.part, self.format) {
            (Part::None, _) => return None,
            (Part::First, Format::Messages(_)) => part.put_slice(b"{\"messages\":["),
            (Part::First, Format::Events) => part.put_slice(b"["),
            (Part::Later, _) => part.put_slice(b","),
        }
        self.part = Part::Later;
        if let Some(leased) = self.outgoing.next() {
            part.put(match self.format {
                Format::Messages(format) => ReceivedMessage::new(leased, format).to_json(),
                Format::Events => ReceivedEvent(leased).to_json(),
            });
        }
        if self.outgoing.is_empty() {
            self.part = Part::None;
            part.put_slice(match self.format {
                Format::Messages(_) => b"]}",
                Format::Events => b"]",
            });
        }
        Some(part.freeze())
    }
}

impl Stream for Answer {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.next().map(Ok))
    }
}
