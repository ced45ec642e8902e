//! Administration: what the subcommands do over gRPC, by the same calls and with the same rights.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::call::{Caller, Parameters};
use super::problem::Problem;
use super::{
    Shared, admin_dead_letters, admin_groups, admin_messages, admin_quotas, admin_topics, admin_trace,
    admin_users, times,
};
use crate::processor::{ClientFilter, ConnectedClient};
use crate::service::StoredBytes;

/// The routes of administration.
pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(admin_topics::list, admin_topics::create))
        .routes(routes!(admin_topics::describe, admin_topics::update, admin_topics::delete))
        .routes(routes!(admin_topics::stats))
        .routes(routes!(admin_messages::read))
        .routes(routes!(admin_trace::trace))
        .routes(routes!(admin_groups::list, admin_groups::create))
        .routes(routes!(admin_groups::describe, admin_groups::update, admin_groups::delete))
        .routes(routes!(admin_groups::stats))
        .routes(routes!(admin_groups::reset))
        .routes(routes!(admin_dead_letters::resend))
        .routes(routes!(admin_topics::summaries))
        .routes(routes!(admin_groups::summaries))
        .routes(routes!(admin_quotas::list, admin_quotas::set))
        .routes(routes!(admin_quotas::remove))
        .routes(routes!(admin_topics::lite_topics))
        .routes(routes!(admin_users::list, admin_users::add))
        .routes(routes!(admin_users::update, admin_users::remove))
        .routes(routes!(admin_users::set_secret))
        .routes(routes!(admin_users::explain))
        .routes(routes!(admin_users::add_policy))
        .routes(routes!(admin_users::remove_policy))
        .routes(routes!(clients))
        .routes(routes!(store))
}

/// The number of bytes, and whether it is an estimate.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Bytes {
    count: u64,
    estimated: bool,
}

impl From<StoredBytes> for Bytes {
    fn from(bytes: StoredBytes) -> Self {
        Self { count: bytes.count, estimated: bytes.estimated }
    }
}

/// Which clients to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those of this group.
    group: Option<String>,
    /// Those that name this topic.
    topic: Option<String>,
}

/// Connected clients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Clients {
    clients: Vec<Client>,
    /// Whether some were left out.
    truncated: bool,
}

/// A client with a session at this proxy.
#[derive(Debug, Serialize, ToSchema)]
struct Client {
    id: String,
    address: String,
    language: String,
    version: String,
    namespace: String,
    /// `PRODUCER` and so on.
    kind: String,
    group: String,
    topics: Vec<String>,
    since: String,
    connected: bool,
}

impl From<ConnectedClient> for Client {
    fn from(client: ConnectedClient) -> Self {
        Self {
            id: client.id,
            address: client.address,
            language: client.language,
            version: client.version,
            namespace: client.namespace,
            kind: client.kind,
            group: client.group,
            topics: client.topics,
            since: times::text(client.since),
            connected: client.connected,
        }
    }
}

/// List the clients with a session at this proxy
///
/// HTTP clients have none.
#[utoipa::path(
    get, path = "/v1/clients", operation_id = "listClients", tag = "administration", params(Which),
    responses(
        (status = 200, description = "The clients", body = Clients),
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn clients(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Parameters(Which { group, topic }): Parameters<Which>,
) -> Result<JsonAnswer<Clients>, Problem> {
    caller.may(&shared, "ListClients")?;
    let (clients, truncated) = shared.processor.connected_clients(&ClientFilter { group, topic });
    Ok(JsonAnswer(Clients { clients: clients.into_iter().map(Client::from).collect(), truncated }))
}

/// What the store takes on the disk.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Store {
    directory: String,
    usage: Vec<DiskUsage>,
    free_bytes: u64,
    total_bytes: u64,
    /// Why nothing can be stored now, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// The topics with messages, the biggest first.
    topics: Vec<TopicUsage>,
    /// Whether topics were left out.
    truncated: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct DiskUsage {
    kind: String,
    bytes: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct TopicUsage {
    name: String,
    messages: i64,
    bytes: Bytes,
}

/// What the store takes on the disk
#[utoipa::path(
    get, path = "/v1/store", operation_id = "storeStats", tag = "administration",
    responses(
        (status = 200, description = "The usage", body = Store),
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn store(State(shared): State<Arc<Shared>>, caller: Caller) -> Result<JsonAnswer<Store>, Problem> {
    caller.may(&shared, "StoreStats")?;
    let stats = shared.processor.store_stats().await?;
    let usage = stats.disk.usage.into_iter().map(|(kind, bytes)| DiskUsage { kind, bytes });
    let topics = stats.topics.into_iter();
    Ok(JsonAnswer(Store {
        directory: stats.directory,
        usage: usage.collect(),
        free_bytes: stats.disk.free_bytes,
        total_bytes: stats.disk.total_bytes,
        failure: stats.disk.failure,
        topics: topics
            .map(|topic| TopicUsage { name: topic.name, messages: topic.messages, bytes: topic.bytes.into() })
            .collect(),
        truncated: stats.truncated,
    }))
}
