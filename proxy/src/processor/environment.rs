//! The state that the handlers of requests share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::administration_permits::AdministrationPermits;
use super::clients::Clients;
use super::cluster_router::ClusterRouter;
use super::handle::HandleSealer;
use super::health::ClusterHealth;
use super::host_budget::HostBudget;
use super::initialized_topics::InitializedTopics;
use super::limits::Limits;
use super::recent_transactions::RecentTransactions;
use super::renewed_leases::RenewedLeases;
use crate::context::Context;
use crate::layer::MessageTrace;
use crate::service::{Capabilities, Services};

/// The state that the handlers of requests share. Only the processor has one.
pub struct Environment {
    pub(super) clusters: ClusterRouter,
    pub(super) limits: Limits,
    pub(super) handle_sealer: HandleSealer,
    pub(super) clients: Clients,
    pub(super) leases: RenewedLeases,
    /// Memory of the filters of waiting requests.
    pub(super) filters: Arc<HostBudget>,
    pub(super) transactions: Arc<RecentTransactions>,
    pub(super) administration: AdministrationPermits,
    pub(super) resend_topics: InitializedTopics,
    pub(super) health: ClusterHealth,
    /// Records the steps that the processor itself takes with messages; `None` if message trace is off.
    pub(super) message_trace: Option<Arc<MessageTrace>>,
    pub(super) draining: CancellationToken,
}

impl Environment {
    /// The backend's capabilities, which are the same for all clusters.
    pub(super) fn capabilities(&self) -> Capabilities {
        self.clusters.default_services().metadata.capabilities()
    }

    /// The services of the cluster for a request about a topic.
    pub(super) fn services(&self, context: &Context, topic: &str) -> &Services {
        &self.clusters.route(context.into(), topic).services
    }
}
