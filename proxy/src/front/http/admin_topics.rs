//! Administration of topics.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::byte_count::ByteCount;
use super::call::{Caller, Json, PathParams, QueryParams};
use super::problem::Problem;
use super::shared::Shared;
use super::times;
use crate::catalog::{Perm, TopicSpec, TopicType};
use crate::duration;
use crate::error::Error;
use crate::json_schema;
use crate::processor::{Page, TopicSummary};
use crate::service::{
    LiteTopicStats, Permission, QueueStats, TopicConfig, TopicField, TopicStats, TopicUpdate,
};

/// The maximum number of lite topics of one page.
const MAX_LITE_TOPICS: usize = 500;

/// All topics that clients can use, sorted by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Topics {
    topics: Vec<TopicSpec>,
}

/// List the topics
#[utoipa::path(
    get, path = "/v1/topics", operation_id = "listTopics", tag = "administration",
    responses(
        (status = 200, description = "The topics", body = Topics),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
) -> Result<JsonAnswer<Topics>, Problem> {
    caller.authorize(&shared, "ListTopics")?;
    let topics = shared.processor.topics().await?;
    Ok(JsonAnswer(Topics { topics: topics.into_iter().map(TopicSpec::from).collect() }))
}

/// Create a topic
#[utoipa::path(
    post, path = "/v1/topics", operation_id = "createTopic", tag = "administration", request_body = TopicSpec,
    responses(
        (status = 201, description = "The topic was created", body = TopicSpec),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Json(topic): Json<TopicSpec>,
) -> Result<(StatusCode, JsonAnswer<TopicSpec>), Problem> {
    caller.authorize(&shared, "Apply")?;
    let config = TopicConfig::from(topic);
    shared.processor.apply(vec![config.clone()], Vec::new(), false).await?;
    Ok((StatusCode::CREATED, JsonAnswer(config.into())))
}

/// Describe a topic
#[utoipa::path(
    get, path = "/v1/topics/{topic}", operation_id = "describeTopic", tag = "administration",
    params(("topic" = String, Path)),
    responses(
        (status = 200, description = "The settings of the topic", body = TopicSpec),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn describe(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
) -> Result<JsonAnswer<TopicSpec>, Problem> {
    caller.authorize(&shared, "ListTopics")?;
    let topic = shared.processor.topics().await?.into_iter().find(|topic| topic.name == name);
    Ok(JsonAnswer(topic.ok_or_else(|| Error::topic_not_found(&name))?.into()))
}

/// The settings of a topic to change. Settings that are left out stay unchanged.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TopicChange {
    /// The message type.
    r#type: Option<TopicType>,
    /// The number of queues.
    queues: Option<i32>,
    /// The number of queues for reading, if it differs from `queues`.
    read_queues: Option<i32>,
    /// The number of queues for writing, if it differs from `queues`.
    write_queues: Option<i32>,
    /// Whether clients may read and write.
    perm: Option<Perm>,
    /// How long a lite topic is kept after its last use, such as `7d`; null: forever.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<json_schema::Duration>)]
    lite_expiration: Option<Option<duration::Text>>,
    /// How long messages are retained, such as `7d`; null: as the proxy's configuration says.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<json_schema::Duration>)]
    retention: Option<Option<duration::Text>>,
    /// How many bytes of messages are retained, 0 without a limit; null: as the proxy's configuration says.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<u64>)]
    retention_bytes: Option<Option<u64>>,
}

/// Deserializes null as `Some(None)`, which differs from a missing field.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl TopicChange {
    fn update(self, name: String) -> TopicUpdate {
        let mut fields = Vec::new();
        let mut values = TopicConfig::from(TopicSpec { name, ..TopicSpec::default() });
        let mut set = |field, is_given: bool| fields.extend(is_given.then_some(field));
        let (read, write) = (self.read_queues.or(self.queues), self.write_queues.or(self.queues));
        set(TopicField::Kind, self.r#type.is_some());
        set(TopicField::ReadQueues, read.is_some());
        set(TopicField::WriteQueues, write.is_some());
        set(TopicField::Readable, self.perm.is_some());
        set(TopicField::Writable, self.perm.is_some());
        set(TopicField::LiteExpiration, self.lite_expiration.is_some());
        set(TopicField::Retention, self.retention.is_some());
        set(TopicField::RetentionBytes, self.retention_bytes.is_some());
        values.kind = self.r#type.map_or(values.kind, Into::into);
        values.read_queues = read.unwrap_or(values.read_queues);
        values.write_queues = write.unwrap_or(values.write_queues);
        values.permission = self.perm.map_or(values.permission, Permission::from);
        values.lite_expiration = self.lite_expiration.flatten().map(|duration::Text(time)| time);
        values.retention = self.retention.flatten().map(|duration::Text(time)| time);
        values.retention_bytes = self.retention_bytes.flatten();
        TopicUpdate { values, fields }
    }
}

/// Change settings of a topic
#[utoipa::path(
    patch, path = "/v1/topics/{topic}", operation_id = "updateTopic", tag = "administration",
    params(("topic" = String, Path)), request_body = TopicChange,
    responses(
        (status = 204, description = "The settings were changed"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn update(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    Json(change): Json<TopicChange>,
) -> Result<StatusCode, Problem> {
    caller.authorize(&shared, "UpdateTopic")?;
    shared.processor.update_topic(change.update(name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a topic and its messages
#[utoipa::path(
    delete, path = "/v1/topics/{topic}", operation_id = "deleteTopic", tag = "administration",
    params(("topic" = String, Path)),
    responses(
        (status = 204, description = "The topic was deleted"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
) -> Result<StatusCode, Problem> {
    caller.authorize(&shared, "DeleteTopic")?;
    shared.processor.delete_topic(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The page of a list to return.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// The name after which the page begins: `next` of the previous page. Without it, the first page is returned.
    pub(super) after: Option<String>,
}

/// A page of the statistics of all topics, sorted by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TopicSummaries {
    topics: Vec<TopicLine>,
    /// The name after which the next part begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The statistics of a topic.
#[derive(Debug, Serialize, ToSchema)]
struct TopicLine {
    name: String,
    queues: usize,
    messages: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<ByteCount>,
    /// The messages that were stored per second in the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_in: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_topics: Option<u64>,
}

/// Show the statistics of all topics
#[utoipa::path(
    get, path = "/v1/topic-stats", operation_id = "listTopicStats", tag = "administration", params(PageParams),
    responses(
        (status = 200, description = "A page of topics", body = TopicSummaries),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn summaries(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    QueryParams(PageParams { after }): QueryParams<PageParams>,
) -> Result<JsonAnswer<TopicSummaries>, Problem> {
    caller.authorize(&shared, "ListTopicStats")?;
    let Page { lines, next } = shared.processor.topic_summaries(after.as_deref()).await?;
    let line = |topic: TopicSummary| TopicLine {
        name: topic.name,
        queues: topic.queues,
        messages: topic.messages,
        bytes: topic.bytes.map(ByteCount::from),
        rate_in: topic.rate_in,
        oldest: topic.oldest.map(times::format_time),
        newest: topic.newest.map(times::format_time),
        lite_topics: topic.lite_topics,
    };
    Ok(JsonAnswer(TopicSummaries { topics: lines.into_iter().map(line).collect(), next }))
}

/// The part of a topic to show.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TopicStatsParams {
    /// Only this lite topic, in a topic of type `lite`.
    lite_topic: Option<String>,
}

/// The statistics of a topic by queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TopicDetails {
    queues: Vec<Queue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<ByteCount>,
    /// The messages that were stored per second in the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_in: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_topics: Option<u64>,
}

/// A queue.
#[derive(Debug, Serialize, ToSchema)]
struct Queue {
    broker: String,
    queue_id: i32,
    /// The offset of the first message.
    first_offset: i64,
    /// The offset after the last message.
    next_offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
}

/// Show the statistics of a topic
#[utoipa::path(
    get, path = "/v1/topics/{topic}/stats", operation_id = "topicStats", tag = "administration",
    params(("topic" = String, Path), TopicStatsParams),
    responses(
        (status = 200, description = "The queues of the topic", body = TopicDetails),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn stats(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(TopicStatsParams { lite_topic }): QueryParams<TopicStatsParams>,
) -> Result<JsonAnswer<TopicDetails>, Problem> {
    caller.authorize(&shared, "TopicStats")?;
    let TopicStats { queues, bytes, rate_in, lite_topics, .. } =
        shared.processor.topic_stats(&name, lite_topic.as_deref()).await?;
    let queue = |queue: QueueStats| Queue {
        broker: queue.broker,
        queue_id: queue.id,
        first_offset: queue.first,
        next_offset: queue.next,
        oldest: queue.oldest.map(times::format_time),
        newest: queue.newest.map(times::format_time),
    };
    let queues = queues.into_iter().map(queue).collect();
    Ok(JsonAnswer(TopicDetails { queues, bytes: bytes.map(ByteCount::from), rate_in, lite_topics }))
}

/// A page of the lite topics of a topic, sorted by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LiteTopics {
    lite_topics: Vec<LiteTopic>,
    /// The name after which the next part begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A lite topic.
#[derive(Debug, Serialize, ToSchema)]
struct LiteTopic {
    name: String,
    messages: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
    /// Whether a client has subscribed to it.
    subscribed: bool,
}

/// List the lite topics of a topic
#[utoipa::path(
    get, path = "/v1/topics/{topic}/lite-topics", operation_id = "listLiteTopics", tag = "administration",
    params(("topic" = String, Path), PageParams),
    responses(
        (status = 200, description = "A page of lite topics", body = LiteTopics),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn lite_topics(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(PageParams { after }): QueryParams<PageParams>,
) -> Result<JsonAnswer<LiteTopics>, Problem> {
    caller.authorize(&shared, "ListLiteTopics")?;
    let page = shared.processor.lite_topics(&name, after.as_deref(), MAX_LITE_TOPICS).await?;
    let last = page.lite_topics.last().map(|lite_topic| lite_topic.name.clone());
    let lite_topic = |lite_topic: LiteTopicStats| LiteTopic {
        name: lite_topic.name,
        messages: lite_topic.next - lite_topic.first,
        oldest: lite_topic.oldest.map(times::format_time),
        newest: lite_topic.newest.map(times::format_time),
        subscribed: lite_topic.subscribed,
    };
    let lite_topics = page.lite_topics.into_iter().map(lite_topic).collect();
    Ok(JsonAnswer(LiteTopics { lite_topics, next: last.filter(|_| !page.finished) }))
}
