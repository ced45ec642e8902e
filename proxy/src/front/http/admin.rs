//! The routes of administration, and the handlers for clients and the store. They make the same calls as the subcommands make
//! over gRPC, with the same rights.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::byte_count::ByteCount;
use super::call::{Caller, QueryParams};
use super::problem::Problem;
use super::shared::Shared;
use super::{
    admin_dead_letters, admin_groups, admin_messages, admin_quotas, admin_topics, admin_trace, admin_users,
    times,
};
use crate::processor::{ClientFilter, ClientList, ConnectedClient};

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

/// The clients to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ClientParams {
    /// Only clients of this group.
    group: Option<String>,
    /// Only clients of this topic.
    topic: Option<String>,
}

/// Connected clients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Clients {
    clients: Vec<Client>,
    /// Whether the list is incomplete.
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
    /// The client type of the protocol, such as `PRODUCER`.
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
            since: times::format_time(client.since),
            connected: client.connected,
        }
    }
}

/// List the clients with a session at this proxy
///
/// HTTP clients have no session.
#[utoipa::path(
    get, path = "/v1/clients", operation_id = "listClients", tag = "administration", params(ClientParams),
    responses(
        (status = 200, description = "The clients", body = Clients),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn clients(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    QueryParams(ClientParams { group, topic }): QueryParams<ClientParams>,
) -> Result<JsonAnswer<Clients>, Problem> {
    caller.authorize(&shared, "ListClients")?;
    let ClientList { clients, truncated } =
        shared.processor.connected_clients(&ClientFilter { group, topic });
    Ok(JsonAnswer(Clients { clients: clients.into_iter().map(Client::from).collect(), truncated }))
}

/// The disk usage of the store.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Store {
    directory: String,
    usage: Vec<DiskUsage>,
    free_bytes: u64,
    total_bytes: u64,
    /// Why sends are currently refused, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// The topics with messages, the largest first.
    topics: Vec<TopicUsage>,
    /// Whether the list of topics is incomplete.
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
    bytes: ByteCount,
}

/// Show the disk usage of the store
#[utoipa::path(
    get, path = "/v1/store", operation_id = "storeStats", tag = "administration",
    responses(
        (status = 200, description = "The usage", body = Store),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn store(State(shared): State<Arc<Shared>>, caller: Caller) -> Result<JsonAnswer<Store>, Problem> {
    caller.authorize(&shared, "StoreStats")?;
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
