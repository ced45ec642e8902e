//! The rules: what a request must look like, in which order it is checked, and what it means for the broker.
//!
//! Knows no protocol (front ends decode to its commands and encode its answers) and no broker (backends stand
//! behind [`crate::service`]). Any request may hit any proxy of a fleet: what is kept here, presence and
//! renewed leases, is soft, and losing it costs a redelivery at most.

mod catalog;
mod filter;
mod handle;
mod lease;
mod limits;
mod lite;
mod presence;
mod pull;
mod recall;
mod receive;
mod route;
mod send;
mod session;
mod settle;
mod stream;
mod transaction;
mod validate;

use tokio_util::sync::CancellationToken;

pub use filter::Expression;
pub use handle::HandleKey;
pub use limits::Limits;
pub use lite::LiteCommand;
pub use pull::{PullCommand, QueueName};
pub use receive::{Handed, ReceiveCommand, Received};
pub use route::{Assignment, RouteQueue, Routed};
pub use send::{Draft, SendCommand, Stored, TopicName};
pub use session::{ClientKind, ClientSettings, ConsumerPolicy, Role};
pub use settle::{AckEntry, Acked, ChangeCommand, ForwardCommand, SettleCommand};
pub use stream::{Push, PushStream};
pub use transaction::EndCommand;

use crate::service::{Capabilities, GroupConfig, Services};
use handle::Handles;
use lease::Leases;
use session::Sessions;
use transaction::Recent;

/// The rules over one backend. Shared by all front ends.
pub struct Processor {
    services: Services,
    limits: Limits,
    handles: Handles,
    sessions: Sessions,
    leases: Leases,
    recent: Recent,
    draining: CancellationToken,
}

impl Processor {
    /// The rules over these services. Once `draining` is cancelled, waiting receives answer at once.
    #[must_use]
    pub fn new(services: Services, rules: Rules, draining: CancellationToken) -> Self {
        Self {
            services,
            limits: rules.limits,
            handles: Handles::new(&rules.handle_key),
            sessions: Sessions::default(),
            leases: Leases::default(),
            recent: Recent::default(),
            draining,
        }
    }

    /// What a request may ask for.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the backend can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.services.metadata.capabilities()
    }

    /// Keeps soft state: renews leases, forgets clients that are gone, passes on what the broker says. Returns once
    /// the proxy drains.
    pub async fn keep_house(&self) {
        tokio::join!(self.keep_leases(), self.keep_presence());
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
