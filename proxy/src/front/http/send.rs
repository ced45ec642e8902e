//! Sending messages, recalling delayed messages, and ending transactions.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::{Caller, Json, Object, PathParams, Payload, parse};
use super::cloud_events;
use super::headers::{media_type, text};
use super::message::NewMessage;
use super::problem::Problem;
use super::shared::Shared;
use crate::processor::{Draft, EndTransactionCommand, RecallCommand, SendCommand, SendReceipt};
use crate::service::{Persistence, Resolution};

const TAG: HeaderName = HeaderName::from_static("x-rocketmq-tag");
const KEYS: HeaderName = HeaderName::from_static("x-rocketmq-keys");
const MESSAGE_ID: HeaderName = HeaderName::from_static("x-rocketmq-message-id");
const MESSAGE_GROUP: HeaderName = HeaderName::from_static("x-rocketmq-message-group");
const DELIVER_AT: HeaderName = HeaderName::from_static("x-rocketmq-deliver-at");
const DELAY: HeaderName = HeaderName::from_static("x-rocketmq-delay");
const PRIORITY: HeaderName = HeaderName::from_static("x-rocketmq-priority");
const LITE_TOPIC: HeaderName = HeaderName::from_static("x-rocketmq-lite-topic");
const TRANSACTION: HeaderName = HeaderName::from_static("x-rocketmq-transaction");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// The prefix of headers with user properties.
const PROPERTY: &str = "x-rocketmq-property-";

/// A message that was stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Receipt {
    /// The message id, given by the sender or generated.
    message_id: String,
    /// The queue's id.
    queue_id: i32,
    /// The offset in the queue.
    offset: i64,
    /// The handle that recalls the message, if it has a delivery time.
    #[serde(skip_serializing_if = "Option::is_none")]
    recall_handle: Option<String>,
    /// The id that commits or rolls back the message, if it is part of a transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<String>,
    /// Why the message is stored less durably than configured, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<Durability>,
}

/// Why a message is stored less durably than the brokers' configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Durability {
    /// The disk did not confirm in time.
    FlushTimeout,
    /// The replica did not confirm in time.
    ReplicaTimeout,
    /// There is no replica.
    NoReplica,
}

/// The result of one message of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SendResult {
    /// The message was stored.
    Receipt(Receipt),
    /// The message was refused.
    Error(Problem),
}

/// The results of a batch, in the order of its messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SendResults {
    results: Vec<SendResult>,
}

/// The messages of a request.
struct SendRequest {
    messages: Vec<Draft>,
    /// Whether the request is an array, even of one message.
    is_batch: bool,
}

impl SendRequest {
    fn one(draft: Draft) -> Self {
        Self { messages: vec![draft], is_batch: false }
    }

    fn batch(messages: Vec<Draft>) -> Self {
        Self { messages, is_batch: true }
    }
}

/// One message, or several.
#[derive(ToSchema)]
#[schema(as = OneOrMany)]
#[serde(untagged)]
#[allow(dead_code)] // Only for the schema: the first byte of a request decides.
enum OneOrMany {
    One(Box<NewMessage>),
    Many(Vec<NewMessage>),
}

/// The receipt of one message, or the results of several.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum ReceiptOrResults {
    One(Receipt),
    Many(SendResults),
}

/// Send messages
///
/// Sends one message, or an array of messages of one topic. With `application/octet-stream` or `text/plain`, the body is the
/// payload of one message, and headers have its other fields: `x-rocketmq-tag`, `-keys` (separated by spaces), `-message-id`,
/// `-message-group`, `-deliver-at`, `-delay`, `-priority`, `-lite-topic`, `-transaction`, and `-property-NAME`. CloudEvents 1.0
/// are accepted in binary mode (`ce-` headers) and in structured mode. Each message of a batch has its own result.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/messages", operation_id = "sendMessages", tag = "messages",
    params(("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127)),
    request_body(content(
        (OneOrMany = "application/json"),
        (Vec<u8> = "application/octet-stream"),
        (String = "text/plain"),
        (super::cloud_events::CloudEvent = "application/cloudevents+json"),
        (Vec<super::cloud_events::CloudEvent> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 200, description = "The receipt of the message, or the results of the batch", body = ReceiptOrResults),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn send(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(topic): PathParams<String>,
    payload: Payload,
) -> Result<Response, Problem> {
    let SendRequest { messages, is_batch } = parse_request(&topic, payload, &shared)?;
    let transactional: Vec<bool> = messages.iter().map(|draft| draft.transaction).collect();
    let stored =
        shared.processor.run(&caller.context, SendCommand { messages, types_unknown: false }).await?;
    let receipts = stored.into_iter().zip(transactional).map(|(stored, transactional)| {
        stored.map(|stored| receipt(stored, transactional)).map_err(Problem::from)
    });
    if !is_batch {
        let only = receipts.into_iter().next().unwrap_or_else(|| Err(Problem::bad_request("no message")));
        return only.map(|receipt| JsonAnswer(receipt).into_response());
    }
    let results = receipts.map(|receipt| receipt.map_or_else(SendResult::Error, SendResult::Receipt));
    Ok(JsonAnswer(SendResults { results: results.collect() }).into_response())
}

fn receipt(stored: SendReceipt, transactional: bool) -> Receipt {
    Receipt {
        message_id: stored.message_id,
        queue_id: stored.queue_id,
        offset: stored.queue_offset,
        recall_handle: stored.recall_handle,
        transaction_id: transactional.then_some(stored.transaction_id),
        durability: match stored.persistence {
            Persistence::Done => None,
            Persistence::MasterTimeout => Some(Durability::FlushTimeout),
            Persistence::ReplicaTimeout => Some(Durability::ReplicaTimeout),
            Persistence::NoReplica => Some(Durability::NoReplica),
        },
    }
}

/// Parses a request by its content type.
fn parse_request(
    topic: &str,
    Payload { headers, body }: Payload,
    shared: &Shared,
) -> Result<SendRequest, Problem> {
    let content_type = text(&headers, &CONTENT_TYPE)?.unwrap_or_default();
    let media_type = media_type(content_type);
    if media_type == cloud_events::JSON {
        return Ok(SendRequest::one(cloud_events::parse_structured(topic, &body, shared)?));
    }
    if media_type == cloud_events::BATCH_JSON {
        return Ok(SendRequest::batch(cloud_events::parse_batch(topic, &body, shared)?));
    }
    if let Some(mut draft) = cloud_events::parse_binary(topic, &headers, &body)? {
        let extra = message_of_headers(&headers)?.into_draft(topic)?;
        let properties = [draft.properties, extra.properties].concat();
        draft = Draft { properties, body: draft.body, ..extra };
        return Ok(SendRequest::one(draft));
    }
    match media_type.as_str() {
        "application/json" if body.trim_ascii_start().starts_with(b"[") => {
            let messages: Vec<Object<NewMessage>> = parse(&body, shared)?;
            let drafts = messages.into_iter().map(|Object(message)| message.into_draft(topic));
            Ok(SendRequest::batch(drafts.collect::<Result<_, _>>()?))
        }
        "application/json" => {
            let Object(message): Object<NewMessage> = parse(&body, shared)?;
            Ok(SendRequest::one(message.into_draft(topic)?))
        }
        "application/octet-stream" | "text/plain" => {
            Ok(SendRequest::one(Draft { body, ..message_of_headers(&headers)?.into_draft(topic)? }))
        }
        _ => {
            let detail = format!(
                "the content type must be application/json, application/octet-stream, text/plain, or a content type of \
                CloudEvents, not {content_type:?}"
            );
            Err(Problem::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

/// Reads the fields of a message from headers. The body is empty.
fn message_of_headers(headers: &HeaderMap) -> Result<NewMessage, Problem> {
    let owned = |name: &HeaderName| Ok::<_, Problem>(text(headers, name)?.map(str::to_owned));
    let priority = text(headers, &PRIORITY)?.map(|priority| {
        priority
            .parse()
            .map_err(|_| Problem::bad_request(format!("{PRIORITY} is not a number: {priority:?}")))
    });
    let mut properties = std::collections::BTreeMap::new();
    for name in headers.keys() {
        if let Some(property) = name.as_str().strip_prefix(PROPERTY) {
            properties.insert(property.to_owned(), text(headers, name)?.unwrap_or_default().to_owned());
        }
    }
    let keys = text(headers, &KEYS)?.unwrap_or_default().split_whitespace().map(str::to_owned);
    Ok(NewMessage {
        message_id: owned(&MESSAGE_ID)?,
        tag: owned(&TAG)?,
        keys: keys.collect(),
        properties,
        message_group: owned(&MESSAGE_GROUP)?,
        deliver_at: owned(&DELIVER_AT)?,
        delay: owned(&DELAY)?,
        priority: priority.transpose()?,
        lite_topic: owned(&LITE_TOPIC)?,
        transaction: text(headers, &TRANSACTION)? == Some("true"),
        trace_parent: owned(&TRACE_PARENT)?,
        text: Some(String::new()),
        ..NewMessage::default()
    })
}

/// The delayed message to recall.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Recall {
    /// The recall handle in the receipt of the message.
    recall_handle: String,
}

/// The recalled message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recalled {
    /// The message id.
    message_id: String,
}

/// Recall a delayed message
#[utoipa::path(
    post, path = "/v1/topics/{topic}/recall", operation_id = "recallMessage", tag = "messages",
    params(("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127)),
    request_body = Recall,
    responses(
        (status = 200, description = "The message will not be delivered", body = Recalled),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn recall(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(topic): PathParams<String>,
    Json(Recall { recall_handle }): Json<Recall>,
) -> Result<JsonAnswer<Recalled>, Problem> {
    let command = RecallCommand { topic, handle: recall_handle, types_unknown: false };
    let message_id = shared.processor.run(&caller.context, command).await?;
    Ok(JsonAnswer(Recalled { message_id }))
}

/// The outcome of a transaction.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Decision {
    /// The message is delivered.
    Commit,
    /// The message is discarded.
    Rollback,
}

/// The end of a transaction.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndTransaction {
    /// The transaction id in the receipt of the message.
    transaction_id: String,
    /// The id of the message.
    message_id: String,
    decision: Decision,
}

/// Commit a transaction, or roll it back
///
/// The first decision is final. HTTP clients receive no orphan checks: the message of a transaction that is not ended is
/// discarded after the last unanswered check.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/transactions", operation_id = "endTransaction", tag = "messages",
    params(("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127)),
    request_body = EndTransaction,
    responses(
        (status = 204, description = "The transaction was ended"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn end_transaction(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(topic): PathParams<String>,
    Json(EndTransaction { transaction_id, message_id, decision }): Json<EndTransaction>,
) -> Result<StatusCode, Problem> {
    let resolution = match decision {
        Decision::Commit => Resolution::Commit,
        Decision::Rollback => Resolution::Rollback,
    };
    let command = EndTransactionCommand {
        topic,
        message_id,
        transaction_id,
        resolution: Some(resolution),
        answers_check: false,
    };
    shared.processor.run(&caller.context, command).await?;
    Ok(StatusCode::NO_CONTENT)
}
