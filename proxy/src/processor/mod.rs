//! The rules: what a request must look like, in which order it is checked, and what it means for the broker.
//!
//! Knows no protocol (front ends decode to its commands and encode its answers) and no broker (backends stand
//! behind [`crate::service`]). Any request may hit any proxy of a fleet: what is kept here, presence and
//! renewed leases, is soft, and losing it costs a redelivery at most.

mod broker_requests;
mod catalog;
mod clients;
mod cluster_router;
mod filter;
mod handle;
mod health;
mod lease;
mod limits;
mod lite;
mod pull;
mod recall;
mod receive;
mod route;
#[cfg(test)]
mod scripted;
mod send;
mod settle;
mod stream;
mod transaction;
mod validate;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use clients::{ClientKind, ClientSettings, ConsumerPolicy, Role};
pub use cluster_router::{ClusterRouter, PlacementRule};
pub use filter::Expression;
pub use handle::HandleKey;
pub use health::Health;
pub use limits::Limits;
pub use lite::LiteCommand;
pub use pull::{PullCommand, QueueName};
pub use receive::{Handed, ReceiveCommand, Received};
pub use route::{Assignment, RouteQueue, Routed};
pub use send::{Draft, SendCommand, Stored, TopicName};
pub use settle::{AckEntry, Acked, ChangeCommand, ForwardCommand, SettleCommand};
pub use stream::{Push, PushStream};
pub use transaction::EndCommand;
pub use validate::is_blank;

use crate::context::Context;
use crate::service::{Capabilities, GroupConfig, Services};
use clients::Clients;
use handle::Handles;
use health::Watch;
use lease::Leases;
use transaction::Recent;

/// The rules over the backends. Shared by all front ends.
pub struct Processor {
    clusters: ClusterRouter,
    limits: Limits,
    handles: Handles,
    clients: Clients,
    leases: Leases,
    recent: Arc<Recent>,
    watch: Watch,
    draining: CancellationToken,
}

impl Processor {
    /// The rules over these clusters. Once `draining` is cancelled, waiting receives answer at once.
    #[must_use]
    pub fn new(clusters: ClusterRouter, rules: Rules, draining: CancellationToken) -> Self {
        Self {
            clusters,
            limits: rules.limits,
            handles: Handles::new(&rules.handle_key),
            clients: Clients::default(),
            leases: Leases::default(),
            recent: Arc::default(),
            watch: Watch::default(),
            draining,
        }
    }

    /// What a request may ask for.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the backend can do: all clusters are of one kind.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.clusters.default_services().metadata.capabilities()
    }

    /// The services for a request about a topic.
    fn services(&self, context: &Context, topic: &str) -> &Services {
        &self.clusters.route(context.into(), topic).services
    }

    /// Keeps soft state: renews leases, forgets clients that are gone, passes on what the broker says, looks whether
    /// the clusters can be reached. Returns once the proxy drains.
    pub async fn run_maintenance(&self) {
        tokio::join!(self.renew_leases(), self.run_broker_requests(), self.watch_clusters());
    }

    /// Whether the proxy is shutting down.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }
}

/// What the rules need to know of the operator's configuration.
pub struct Rules {
    /// What a request may ask for.
    pub limits: Limits,
    /// Seals receipt handles; the same on every proxy of a fleet.
    pub handle_key: HandleKey,
}

/// Deliveries that a group allows one message, the first included. At least one: a negative number of retries
/// would otherwise send every message to the dead letters unseen.
fn max_attempts(group: &GroupConfig) -> i32 {
    group.max_retries.saturating_add(1).max(1)
}
