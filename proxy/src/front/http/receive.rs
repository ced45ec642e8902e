//! Receiving messages by long polling.

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

use super::call::{Caller, PathParams, QueryParams};
use super::cloud_events::{self, ReceivedEvent};
use super::message::{self, BodyFormat, ReceivedMessage};
use super::problem::Problem;
use super::shared::Shared;
use super::times;
use crate::front::unsent_deliveries::UnsentDeliveries;
use crate::json_schema;
use crate::processor::{Expression, ReceiveCommand, Received, Undelivered};

/// The default lease of a delivery.
const DEFAULT_INVISIBLE: &str = "30s";
/// The default of the maximum number of messages of one receive.
const DEFAULT_MAX: i32 = 16;
/// The maximum number of messages that may be unsettled in a stream of events.
const MAX: i32 = 1024;

/// The parameters of a receive.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ReceiveParams {
    /// The maximum number of messages that are returned, or that are unsettled in a stream of events. 16 by default.
    #[param(minimum = 1, maximum = 1024)]
    pub(super) max: i32,
    /// How long to wait for the first message, such as `20s`. The proxy's `limits` bound it, by default from 5 s to 20 s.
    #[param(inline, value_type = Option<json_schema::Duration>, example = "5s")]
    pub(super) wait: Option<String>,
    /// The lease: how long unsettled messages stay invisible to other consumers. `30s` by default.
    #[param(inline, value_type = Option<json_schema::Duration>, example = "30s")]
    pub(super) invisible: String,
    /// Receive only messages with these tags, separated by `||`. All messages by default.
    #[param(example = "*")]
    pub(super) filter: Option<String>,
    /// Receive only messages whose properties satisfy this SQL condition. Excludes `filter`.
    #[param(example = "price > 10")]
    pub(super) sql: Option<String>,
    /// How bodies are returned.
    #[param(inline)]
    pub(super) bodies: BodyFormat,
}

impl Default for ReceiveParams {
    fn default() -> Self {
        Self {
            max: DEFAULT_MAX,
            wait: None,
            invisible: DEFAULT_INVISIBLE.to_owned(),
            filter: None,
            sql: None,
            bodies: BodyFormat::default(),
        }
    }
}

impl ReceiveParams {
    /// Creates the command that receives.
    pub(super) fn command(&self, group: &str, topic: &str) -> Result<ReceiveCommand, Problem> {
        if !(1..=MAX).contains(&self.max) {
            return Err(Problem::bad_request(format!("max must be from 1 to {MAX}")));
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
            invisible_ms: times::parse_millis("invisible", &self.invisible)?,
            auto_renew: false,
            polling_ms: self.wait.as_deref().map(|wait| times::parse_millis("wait", wait)).transpose()?,
            attempt_id: None,
        })
    }
}

/// The messages of one receive; empty if there are none.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code)] // Only for the schema: the answer is written message by message.
pub(super) struct Messages {
    messages: Vec<ReceivedMessage>,
}

/// Receive messages
///
/// Waits for the first message, and returns the available messages, each with a lease. A message that is not settled by its
/// handle before the lease ends is delivered again. No message is lost if the client disconnects while it waits. With
/// `accept: application/cloudevents-batch+json`, the messages are CloudEvents with the extensions `rocketmqhandle` and
/// `rocketmqattempt`.
#[utoipa::path(
    post, path = "/v1/groups/{group}/topics/{topic}/receive", operation_id = "receiveMessages", tag = "messages",
    params(
        ("group" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 120),
        ("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127),
        ReceiveParams,
    ),
    responses(
        (status = 200, description = "The messages", content(
            (Messages = "application/json"),
            (Vec<super::cloud_events::CloudEvent> = "application/cloudevents-batch+json"),
        )),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn receive(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams((group, topic)): PathParams<(String, String)>,
    QueryParams(params): QueryParams<ReceiveParams>,
) -> Result<Response, Problem> {
    let command = params.command(&group, &topic)?;
    let as_events = caller.accepts(cloud_events::BATCH_JSON);
    let received = shared.processor.run(&caller.context, command).await?;
    let deliveries = match received {
        Received::Messages(deliveries) => deliveries,
        Received::NoMatch | Received::Nothing => Vec::new(),
    };
    let undelivered = Undelivered { topic, group, deliveries };
    let outgoing =
        UnsentDeliveries::new(&shared.processor, undelivered, &mut caller.charge.lock(), message::size_hint);
    let format = if as_events { AnswerFormat::Events } else { AnswerFormat::Messages(params.bodies) };
    let content_type = if as_events { cloud_events::BATCH_JSON } else { "application/json" };
    let mut response =
        Body::from_stream(ReceiveBody { outgoing, format, part: NextPart::First }).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The format of the messages in the answer.
#[derive(Clone, Copy)]
enum AnswerFormat {
    Messages(BodyFormat),
    Events,
}

/// The part of the answer to write next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NextPart {
    First,
    Later,
    None,
}

/// The body of the answer. Each message is written when the connection is ready for it.
struct ReceiveBody {
    outgoing: UnsentDeliveries,
    format: AnswerFormat,
    part: NextPart,
}

impl ReceiveBody {
    fn next(&mut self) -> Option<Bytes> {
        let mut part = BytesMut::new();
        match (self.part, self.format) {
            (NextPart::None, _) => return None,
            (NextPart::First, AnswerFormat::Messages(_)) => part.put_slice(b"{\"messages\":["),
            (NextPart::First, AnswerFormat::Events) => part.put_slice(b"["),
            (NextPart::Later, _) => part.put_slice(b","),
        }
        self.part = NextPart::Later;
        if let Some(leased) = self.outgoing.next() {
            part.put(match self.format {
                AnswerFormat::Messages(format) => ReceivedMessage::new(leased, format).to_json(),
                AnswerFormat::Events => ReceivedEvent(leased).to_json(),
            });
        }
        if self.outgoing.is_empty() {
            self.part = NextPart::None;
            part.put_slice(match self.format {
                AnswerFormat::Messages(_) => b"]}",
                AnswerFormat::Events => b"]",
            });
        }
        Some(part.freeze())
    }
}

impl Stream for ReceiveBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.next().map(Ok))
    }
}
