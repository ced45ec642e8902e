//! Administration of consumer groups.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::admin_topics::PageParams;
use super::call::{Caller, Json, Object, PathParams, QueryParams};
use super::problem::Problem;
use super::shared::Shared;
use super::times;
use crate::catalog::{GroupSpec, RetrySpec, StartSpec};
use crate::error::{Error, ErrorKind};
use crate::json_schema;
use crate::processor::{GroupSummary, Page};
use crate::service::{
    GroupConfig, GroupField, GroupQueueStats, GroupStats, GroupTopicStats, GroupUpdate, QueueReset,
    ResetGroup, ResetTarget,
};

/// All consumer groups, sorted by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Groups {
    groups: Vec<GroupSpec>,
}

/// List the consumer groups
#[utoipa::path(
    get, path = "/v1/groups", operation_id = "listGroups", tag = "administration",
    responses(
        (status = 200, description = "The groups", body = Groups),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
) -> Result<JsonAnswer<Groups>, Problem> {
    caller.authorize(&shared, "ListGroups")?;
    let groups = shared.processor.groups().await?;
    Ok(JsonAnswer(Groups { groups: groups.into_iter().map(GroupSpec::from).collect() }))
}

/// Create a consumer group
#[utoipa::path(
    post, path = "/v1/groups", operation_id = "createGroup", tag = "administration", request_body = GroupSpec,
    responses(
        (status = 201, description = "The group was created", body = GroupSpec),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Json(group): Json<GroupSpec>,
) -> Result<(StatusCode, JsonAnswer<GroupSpec>), Problem> {
    caller.authorize(&shared, "Apply")?;
    let config = GroupConfig::from(group);
    shared.processor.apply(Vec::new(), vec![config.clone()], false).await?;
    Ok((StatusCode::CREATED, JsonAnswer(config.into())))
}

/// Describe a consumer group
#[utoipa::path(
    get, path = "/v1/groups/{group}", operation_id = "describeGroup", tag = "administration",
    params(("group" = String, Path)),
    responses(
        (status = 200, description = "The settings of the group", body = GroupSpec),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn describe(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
) -> Result<JsonAnswer<GroupSpec>, Problem> {
    caller.authorize(&shared, "ListGroups")?;
    let group = shared.processor.groups().await?.into_iter().find(|group| group.name == name);
    let unknown = || Error::new(ErrorKind::GroupNotFound, format!("no consumer group {name}"));
    Ok(JsonAnswer(group.ok_or_else(unknown)?.into()))
}

/// The settings of a group to change. Settings that are left out stay unchanged.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GroupChange {
    /// Whether messages of a message group are consumed in order.
    fifo: Option<bool>,
    /// Whether the group may consume.
    consume: Option<bool>,
    /// The number of redeliveries before a message becomes a dead letter.
    max_retries: Option<i32>,
    /// The delays between deliveries.
    retry: Option<RetrySpec>,
    /// The topic of type `lite` that the group is bound to.
    lite_bind_topic: Option<String>,
    /// The maximum number of lite topics that a client may subscribe to.
    lite_quota: Option<i32>,
    /// Whether a lite topic has at most one subscriber at a time.
    lite_exclusive: Option<bool>,
    /// Where the group starts in a topic from which it has not received yet.
    start: Option<StartSpec>,
}

impl GroupChange {
    fn update(self, name: String) -> GroupUpdate {
        let mut fields = Vec::new();
        let mut set = |field, is_given: bool| fields.extend(is_given.then_some(field));
        set(GroupField::Fifo, self.fifo.is_some());
        set(GroupField::Consume, self.consume.is_some());
        set(GroupField::MaxRetries, self.max_retries.is_some());
        set(GroupField::Retry, self.retry.is_some());
        set(GroupField::LiteBindTopic, self.lite_bind_topic.is_some());
        set(GroupField::LiteQuota, self.lite_quota.is_some());
        set(GroupField::LiteExclusive, self.lite_exclusive.is_some());
        set(GroupField::Start, self.start.is_some());
        let default = GroupSpec::named(name);
        let values = GroupSpec {
            fifo: self.fifo.unwrap_or(default.fifo),
            consume: self.consume.unwrap_or(default.consume),
            max_retries: self.max_retries.unwrap_or(default.max_retries),
            retry: self.retry,
            lite_bind_topic: self.lite_bind_topic,
            lite_quota: self.lite_quota.unwrap_or(default.lite_quota),
            lite_exclusive: self.lite_exclusive.unwrap_or(default.lite_exclusive),
            start: self.start,
            name: default.name,
        };
        GroupUpdate { values: values.into(), fields }
    }
}

/// Change settings of a consumer group
#[utoipa::path(
    patch, path = "/v1/groups/{group}", operation_id = "updateGroup", tag = "administration",
    params(("group" = String, Path)), request_body = GroupChange,
    responses(
        (status = 204, description = "The settings were changed"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn update(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    Json(change): Json<GroupChange>,
) -> Result<StatusCode, Problem> {
    caller.authorize(&shared, "UpdateGroup")?;
    shared.processor.update_group(change.update(name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a consumer group and its progress
#[utoipa::path(
    delete, path = "/v1/groups/{group}", operation_id = "deleteGroup", tag = "administration",
    params(("group" = String, Path)),
    responses(
        (status = 204, description = "The group was deleted"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
) -> Result<StatusCode, Problem> {
    caller.authorize(&shared, "DeleteGroup")?;
    shared.processor.delete_group(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A page of the progress of all groups, sorted by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupSummaries {
    groups: Vec<GroupLine>,
    /// The parameter `after` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The progress of a group in all topics together.
#[derive(Debug, Serialize, ToSchema)]
struct GroupLine {
    name: String,
    topics: usize,
    /// The number of unsettled messages.
    lag: i64,
    /// The number of deliveries with a lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<i64>,
    /// The number of messages that are ready for redelivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<i64>,
    /// The number of messages that wait for earlier ones of their message group.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<i64>,
    /// When the oldest unsettled message was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_unsettled: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_delivered: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_settled: Option<f64>,
    /// Whether the group has more topics or lite topics than were counted.
    truncated: bool,
}

/// Show the progress of all groups
#[utoipa::path(
    get, path = "/v1/group-stats", operation_id = "listGroupStats", tag = "administration", params(PageParams),
    responses(
        (status = 200, description = "A page of groups", body = GroupSummaries),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn summaries(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    QueryParams(PageParams { after }): QueryParams<PageParams>,
) -> Result<JsonAnswer<GroupSummaries>, Problem> {
    caller.authorize(&shared, "ListGroupStats")?;
    let Page { lines, next } = shared.processor.group_summaries(after.as_deref()).await?;
    let line = |group: GroupSummary| GroupLine {
        name: group.name,
        topics: group.topics,
        lag: group.lag,
        in_flight: group.in_flight,
        retry: group.retry,
        blocked: group.blocked,
        oldest_unsettled: group.oldest.map(times::format_time),
        rate_delivered: group.rate_delivered,
        rate_settled: group.rate_settled,
        truncated: group.truncated,
    };
    Ok(JsonAnswer(GroupSummaries { groups: lines.into_iter().map(line).collect(), next }))
}

/// The part of the progress to show.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GroupStatsParams {
    /// Only this topic.
    topic: Option<String>,
}

/// The progress of a group by topic.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupDetails {
    topics: Vec<TopicProgress>,
    /// Whether topics or lite topics were left out.
    truncated: bool,
}

/// The progress of a group in a topic. A topic of type `lite` has one queue with the sums of all of its lite topics.
#[derive(Debug, Serialize, ToSchema)]
struct TopicProgress {
    topic: String,
    queues: Vec<QueueProgress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_delivered: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_settled: Option<f64>,
}

/// The progress of a group in a queue.
#[derive(Debug, Serialize, ToSchema)]
struct QueueProgress {
    broker: String,
    queue_id: i32,
    /// All messages before this offset are settled.
    settled_offset: i64,
    /// The offset of the first message that was never delivered to the group.
    next_offset: i64,
    /// The offset after the last message.
    end_offset: i64,
    lag: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_unsettled: Option<String>,
}

/// Show the progress of a group
#[utoipa::path(
    get, path = "/v1/groups/{group}/stats", operation_id = "groupStats", tag = "administration",
    params(("group" = String, Path), GroupStatsParams),
    responses(
        (status = 200, description = "The progress of the group", body = GroupDetails),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn stats(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(GroupStatsParams { topic }): QueryParams<GroupStatsParams>,
) -> Result<JsonAnswer<GroupDetails>, Problem> {
    caller.authorize(&shared, "GroupStats")?;
    let GroupStats { topics, truncated } = shared.processor.group_stats(&name, topic.as_deref()).await?;
    let queue = |queue: GroupQueueStats| QueueProgress {
        broker: queue.broker,
        queue_id: queue.id,
        settled_offset: queue.settled,
        next_offset: queue.next,
        end_offset: queue.end,
        lag: queue.lag,
        in_flight: queue.in_flight,
        retry: queue.retry,
        blocked: queue.blocked,
        oldest_unsettled: queue.oldest.map(times::format_time),
    };
    let topic = |topic: GroupTopicStats| TopicProgress {
        topic: topic.topic,
        queues: topic.queues.into_iter().map(queue).collect(),
        rate_delivered: topic.rate_delivered,
        rate_settled: topic.rate_settled,
    };
    Ok(JsonAnswer(GroupDetails { topics: topics.into_iter().map(topic).collect(), truncated }))
}

/// The new position of a group in a topic.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reset {
    topic: String,
    /// `earliest`, `latest`, a time such as `2026-11-29T10:00:00Z`, or an offset of one queue.
    to: Target,
}

/// A position in a topic.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum Target {
    /// `earliest`, `latest`, or a time.
    #[schema(value_type = json_schema::Place)]
    Place(String),
    /// An offset of one queue. The other queues stay unchanged.
    #[schema(value_type = QueueOffset)]
    Offset(Object<QueueOffset>),
}

/// An offset of one queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct QueueOffset {
    /// The broker that has the queue. Optional if only one broker has a queue with this id.
    broker: Option<String>,
    queue_id: i32,
    offset: i64,
}

impl Reset {
    pub(super) fn of_group(self, group: String) -> Result<ResetGroup, Problem> {
        Ok(ResetGroup { group, topic: self.topic, target: self.to.into_target()? })
    }
}

impl Target {
    fn into_target(self) -> Result<ResetTarget, Problem> {
        Ok(match self {
            Self::Place(place) if place == "earliest" => ResetTarget::Earliest,
            Self::Place(place) if place == "latest" => ResetTarget::Latest,
            Self::Place(time) => ResetTarget::Time(times::parse_time("to", &time)?),
            Self::Offset(Object(QueueOffset { broker, queue_id, offset })) => {
                ResetTarget::Offset { broker, queue: queue_id, offset }
            }
        })
    }
}

/// The new positions of a group by queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Positions {
    queues: Vec<Position>,
}

/// The new position of a group in a queue.
#[derive(Debug, Serialize, ToSchema)]
struct Position {
    broker: String,
    queue_id: i32,
    /// The offset before which all messages were settled before the reset, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<i64>,
    /// The offset of the next message to deliver.
    offset: i64,
}

/// Move a group to another position in a topic
#[utoipa::path(
    post, path = "/v1/groups/{group}/reset", operation_id = "resetGroup", tag = "administration",
    params(("group" = String, Path)), request_body = Reset,
    responses(
        (status = 200, description = "The new positions", body = Positions),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn reset(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(group): PathParams<String>,
    Json(reset): Json<Reset>,
) -> Result<JsonAnswer<Positions>, Problem> {
    caller.authorize(&shared, "ResetGroup")?;
    let reset = reset.of_group(group)?;
    let queues = shared.processor.reset_group(reset).await?.into_iter();
    let position =
        |QueueReset { broker, queue, before, offset }| Position { broker, queue_id: queue, before, offset };
    Ok(JsonAnswer(Positions { queues: queues.map(position).collect() }))
}
