//! The rules for requests: validation, routing, receiving and settling.
//!
//! The processor knows neither the client's protocol (front ends decode requests to its commands and encode the answers) nor
//! the broker (backends implement the traits of [`crate::service`]). Any proxy of a fleet can serve any request: clients and
//! renewed leases are soft state, and losing it costs a redelivery at most.
//!
//! Each kind of request is a [`Command`] in a file of its own. Its handler gets the [`environment`].

mod administration;
mod administration_permits;
mod broker_requests;
mod catalog;
mod classic;
mod classic_clients;
mod classic_groups;
mod client_kind;
mod clients;
mod cluster_router;
mod command;
mod connected_client;
mod dead_letter_resend;
mod dead_letter_search;
mod delivery_source;
mod draft;
mod environment;
mod filter;
mod fleet_size;
mod group;
mod handle;
mod has_message;
mod health;
mod health_checks;
mod host_budget;
mod initialized_topics;
mod lease_renewal;
mod limits;
mod lite;
mod lock;
mod message_trace;
mod message_type;
mod pull;
mod recall;
mod receive;
mod receive_from_clusters;
mod recent_transactions;
mod renewed_leases;
mod reply;
mod route;
#[cfg(test)]
mod scripted;
mod send;
mod send_back;
mod session;
mod settle;
mod stream;
mod summaries;
mod trace_context;
mod transaction;
mod users;
mod validate;

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use administration::SoftState;
pub use classic::{CheckFilterCommand, ClassicClientCommand, ClassicGroup, GetGroupConfigCommand};
pub use client_kind::ClientKind;
pub use cluster_router::{ClusterRouter, PlacementRule};
pub use command::Command;
pub use connected_client::{ClientFilter, ClientList, ConnectedClient};
pub use dead_letter_resend::{RESEND_GROUP, ResendSelection, ResentLetter, ResentPage};
pub use dead_letter_search::LetterPosition;
pub use draft::{Draft, PropertyRules, TopicName};
pub use filter::Expression;
pub use handle::HandleKey;
pub use has_message::HasMessageCommand;
pub use health::Health;
pub use limits::Limits;
pub use lite::SyncLiteCommand;
pub use lock::{LockCommand, UnlockCommand};
pub use message_trace::{FoundTrace, TraceSearch};
pub use pull::{GetOffsetCommand, PullCommand, QueryOffsetCommand, QueueName, UpdateOffsetCommand};
pub use recall::RecallCommand;
pub use receive::{LeasedDelivery, ReceiveCommand, Received, Undelivered};
pub use reply::ReplyCommand;
pub use route::{
    AssignmentCommand, BrokersCommand, ListBrokersCommand, QueueAssignment, QueueRoute, RouteCommand,
    TopicQueues,
};
pub use send::{SendCommand, SendReceipt};
pub use send_back::{MakeRetryTopicCommand, SendBackCommand};
pub use session::{
    ClientPolicy, ClientSettings, ConsumerPolicy, HeartbeatCommand, ProducerPolicy, RegisterCommand, Role,
    Subscription, TerminateCommand,
};
pub use settle::{AckCommand, AckEntry, AckResult, ChangeInvisibleCommand, ForwardCommand};
pub use stream::{Push, PushReceiver, PushStream};
pub use summaries::{GroupSummary, Page, TopicSummary};
pub use transaction::EndTransactionCommand;
pub use validate::is_blank;

use crate::context::Context;
use crate::error::Error;
use crate::layer::{AccessGrant, Layers, Quotas, RequestFacts, Right};
use crate::service::{Capabilities, GroupConfig, GroupUpdate, TopicConfig, TopicUpdate};
use administration_permits::AdministrationPermits;
use clients::{ClientKey, Clients};
use environment::Environment;
use handle::HandleSealer;
use health::ClusterHealth;
use initialized_topics::InitializedTopics;
use renewed_leases::RenewedLeases;

/// Carries out requests: passes them through the layers, and handles them with the backends. Shared by all front ends.
pub struct Processor {
    layers: Layers,
    environment: Environment,
}

/// The processor's part of the operator's configuration.
pub struct ProcessorConfig {
    /// The limits of requests.
    pub limits: Limits,
    /// The key that seals receipt handles. It must be the same on every proxy of a fleet.
    pub handle_key: HandleKey,
}

impl Processor {
    /// Creates a processor for these clusters. Once `draining` is cancelled, waiting receives end at once.
    #[must_use]
    pub fn new(
        clusters: ClusterRouter,
        rules: ProcessorConfig,
        layers: Layers,
        draining: CancellationToken,
    ) -> Self {
        let environment = Environment {
            clusters,
            handle_sealer: HandleSealer::new(&rules.handle_key),
            clients: Clients::default(),
            leases: RenewedLeases::default(),
            filters: filter::budget(),
            transactions: Arc::default(),
            administration: AdministrationPermits::default(),
            resend_topics: InitializedTopics::default(),
            health: ClusterHealth::default(),
            limits: rules.limits,
            message_trace: layers.message_trace().cloned(),
            draining,
        };
        Self { layers, environment }
    }

    /// Carries out a client's request, unless a layer refuses it.
    ///
    /// # Errors
    /// A layer's refusal, or an error of the command's handler.
    pub async fn run<C: Command>(&self, context: &Context, command: C) -> Result<C::Answer, Error> {
        self.begin(context, command).await.map(|(answer, _)| answer)
    }

    /// As [`Processor::run`], for a request that opens a stream. Also returns the rights that the stream depends on.
    ///
    /// # Errors
    /// As [`Processor::run`].
    pub async fn begin<C: Command>(
        &self,
        context: &Context,
        command: C,
    ) -> Result<(C::Answer, AccessGrant), Error> {
        let mut request = self.layers.admit(&RequestFacts {
            kind: C::KIND,
            context,
            topics: command.topics(),
            groups: command.groups(),
            size: command.size(),
        })?;
        if let Some(traced) = request.traced() {
            command.trace(traced);
        }
        if let Some(span) = request.span() {
            command.trace_contexts(&mut |context| span.join(context));
        }
        // After access control, as at Apache's proxy.
        let ready = match (validate::client_id(context), request.wait_for_quota(&self.environment.draining)) {
            (Ok(()), Some(wait)) => wait.await,
            (checked, _) => checked,
        };
        if let Err(refused) = ready {
            drop(request.finish(context, Err(&refused)));
            return Err(refused);
        }
        let result = tokio::select! {
            biased;
            result = command.handle(&self.environment, context) => result,
            revoked = request.revoked() => Err(revoked.reason),
        };
        if let Some(traced) = request.traced() {
            C::trace_end(result.as_ref(), traced);
        }
        if let (Some(span), Ok(answer)) = (request.span(), &result) {
            C::answer_trace_contexts(answer, &mut |context| span.link(context));
        }
        let granted = request.finish(context, result.as_ref().map(C::answer_size));
        result.map(|answer| (answer, granted))
    }

    /// Checks that the layers allow an operation that is not carried out by a command.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`, or `Busy`.
    pub fn check(&self, facts: &RequestFacts<'_>) -> Result<(), Error> {
        self.layers.check(facts)
    }

    /// Gives back deliveries that could not be handed over to a client: their messages become visible again, and the
    /// deliveries don't count as attempts.
    pub async fn give_back(&self, undelivered: Undelivered) {
        receive::give_back(&self.environment, undelivered).await;
    }

    /// Stops renewing the lease of a delivery that nobody will settle: it expires.
    pub async fn stop_renewing(&self, handle: &str) {
        self.environment.leases.take(handle).await.settled();
    }

    /// Records the end of a client's telemetry stream. The client's session continues, because the client may open another
    /// stream, to this or another proxy. The session ends by a [`TerminateCommand`], or expires.
    pub fn stream_ended(&self, context: &Context, stream: &PushStream) {
        self.environment.clients.stream_ended(context, stream);
    }

    /// Ends the session of a classic client whose connection has ended, unless the client has opened another connection.
    pub fn client_gone(&self, context: &Context, stream: &PushStream) {
        self.environment.clients.end_session(context, stream);
    }

    /// Ends the session of a client whose access was revoked, and in the background the leases that the proxy renews for it,
    /// unless the client has opened another stream.
    pub fn access_revoked(self: &Arc<Self>, context: &Context, stream: &PushStream) {
        if self.environment.clients.end_session(context, stream) {
            let (processor, client) = (self.clone(), ClientKey::of(context));
            tokio::spawn(async move { lease_renewal::release(&processor.environment, &client).await });
        }
    }

    /// Maintains soft state: renews leases, removes expired sessions, passes requests of brokers to clients, and checks
    /// whether the clusters are available. Returns once the proxy drains.
    pub async fn run_maintenance(&self) {
        let environment = &self.environment;
        tokio::join!(
            lease_renewal::renew_leases(environment),
            broker_requests::run(environment),
            health_checks::watch_clusters(environment),
        );
    }

    /// Replaces the rules that choose the cluster of a request. Requests in progress stay at their clusters.
    ///
    /// # Errors
    /// A rule is invalid; the text says which. The previous rules stay in force.
    pub fn replace_placement(&self, rules: Vec<PlacementRule>) -> Result<(), String> {
        self.environment.clusters.replace_rules(rules)
    }

    /// The limits of requests.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.environment.limits
    }

    /// The backend's capabilities, which are the same for all clusters.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.environment.capabilities()
    }

    /// The token that is cancelled when the proxy shuts down.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.environment.draining
    }

    /// The availability of the clusters, now and whenever it changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.environment.health.subscribe()
    }
}

/// Administration. It bypasses the layers, so that an overloaded proxy can still be administered. Front ends check the
/// sender's rights with [`Processor::administer`] first.
impl Processor {
    /// Checks that the sender of a request has this right to administer the proxy.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`.
    pub fn administer(&self, context: &Context, right: Right) -> Result<(), Error> {
        self.layers.administer(context, right)
    }

    /// Learns from the brokers how many proxies share the quotas, until the proxy drains. While the number is unknown,
    /// `configured` applies.
    pub async fn learn_fleet_size(&self, configured: NonZeroU32) {
        fleet_size::learn(&self.environment, self.quotas(), configured).await;
    }

    /// The quotas in force.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        self.layers.quotas()
    }

    /// Creates topics, then groups. With `replace`, existing ones get the new configuration.
    ///
    /// # Errors
    /// An illegal name or setting, before anything is created; or `AlreadyExists` or the backend's failure, after all other
    /// topics and groups were created.
    pub async fn apply(
        &self,
        topics: Vec<TopicConfig>,
        groups: Vec<GroupConfig>,
        replace: bool,
    ) -> Result<(), Error> {
        catalog::apply(&self.environment.clusters, topics, groups, replace).await
    }

    /// Changes the named settings of a topic. All other settings stay unchanged, even if they are changed concurrently.
    ///
    /// # Errors
    /// `TopicNotFound`, `BadRequest` for invalid settings, or the backend's failure.
    pub async fn update_topic(&self, update: TopicUpdate) -> Result<(), Error> {
        catalog::update_topic(&self.environment.clusters, update).await
    }

    /// Changes the named settings of a group, in every cluster that has the group.
    ///
    /// # Errors
    /// `GroupNotFound` if no cluster has the group, `BadRequest` for invalid settings, or the backend's failure.
    pub async fn update_group(&self, update: GroupUpdate) -> Result<(), Error> {
        catalog::update_group(&self.environment.clusters, update).await
    }

    /// All topics that clients can use, sorted by name.
    ///
    /// # Errors
    /// The backend's failure.
    pub async fn topics(&self) -> Result<Vec<TopicConfig>, Error> {
        catalog::topics(&self.environment.clusters).await
    }

    /// All groups, sorted by name.
    ///
    /// # Errors
    /// The backend's failure.
    pub async fn groups(&self) -> Result<Vec<GroupConfig>, Error> {
        catalog::groups(&self.environment.clusters).await
    }

    /// Deletes a topic and its messages.
    ///
    /// # Errors
    /// `TopicNotFound`, or the backend's failure.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        catalog::delete_topic(&self.environment.clusters, name).await
    }

    /// Deletes a group and its progress in every cluster.
    ///
    /// # Errors
    /// `GroupNotFound` if no cluster has the group, or the backend's failure.
    pub async fn delete_group(&self, name: &str) -> Result<(), Error> {
        catalog::delete_group(&self.environment.clusters, name).await
    }
}
