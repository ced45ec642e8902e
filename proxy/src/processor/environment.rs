use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::administration::AdministrationTurns;
use super::clients::Clients;
use super::cluster_router::ClusterRouter;
use super::dead_letters::BegunTopics;
use super::handle::Handles;
use super::health::ClusterHealth;
use super::lease::RenewedLeases;
use super::limits::Limits;
use super::transaction::RecentTransactions;
use crate::context::Context;
use crate::layer::MessageTrace;
use crate::service::{Capabilities, Services};

/// What the handlers of requests work with. Only the processor has one.
pub struct Environment {
    pub(super) clusters: ClusterRouter,
    pub(super) limits: Limits,
    pub(super) handles: Handles,
    pub(super) clients: Clients,
    pub(super) leases: RenewedLeases,
    pub(super) transactions: Arc<RecentTransactions>,
    pub(super) administration: AdministrationTurns,
    pub(super) resent_topics: BegunTopics,
    pub(super) health: ClusterHealth,
    /// Records what the rules do to messages on their own.
    pub(super) message_trace: Option<Arc<MessageTrace>>,
    pub(super) draining: CancellationToken,
}

impl Environment {
    /// What the backend can do: all clusters are of one kind.
    pub(super) fn capabilities(&self) -> Capabilities {
        self.clusters.default_services().metadata.capabilities()
    }

    /// The services for a request about a topic.
    pub(super) fn services(&self, context: &Context, topic: &str) -> &Services {
        &self.clusters.route(context.into(), topic).services
    }
}
