//! The rules: what a request must look like, in which order it is checked, and what it means for the broker.
//!
//! Knows no protocol (front ends decode to its commands and encode its answers) and no broker (backends stand
//! behind [`crate::service`]). Any request may hit any proxy of a fleet: what is kept here, clients and
//! renewed leases, is soft state, and losing it costs a redelivery at most.
//!
//! Each kind of request is a [`Command`] in a file of its own, with a handler over the [`environment`].

mod administration;
mod broker_requests;
mod byte_budget;
mod catalog;
mod classic;
mod classic_clients;
mod client_kind;
mod clients;
mod cluster_router;
mod command;
mod dead_letters;
mod draft;
mod environment;
mod filter;
mod group;
mod handle;
mod health;
mod lease;
mod letter_search;
mod limits;
mod lite;
mod lock;
mod message_trace;
mod message_type;
mod notification;
mod pull;
mod recall;
mod receive;
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
mod transaction;
mod users;
mod validate;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use administration::{ClientFilter, ConnectedClient, SoftState};
pub use classic::{CheckFilterCommand, ClassicClientCommand, ClassicGroup, GroupCommand};
pub use client_kind::ClientKind;
pub use cluster_router::{ClusterRouter, PlacementRule};
pub use command::Command;
pub use dead_letters::{LetterPosition, RESEND_GROUP, ResendSelection, ResentLetter, ResentPage};
pub use draft::{Draft, PropertyRules, TopicName};
pub use filter::Expression;
pub use handle::HandleKey;
pub use health::Health;
pub use limits::Limits;
pub use lite::SyncLiteCommand;
pub use lock::{LockCommand, UnlockCommand};
pub use message_trace::{FoundTrace, TraceSearch};
pub use notification::HasMessageCommand;
pub use pull::{GetOffsetCommand, PullCommand, QueryOffsetCommand, QueueName, UpdateOffsetCommand};
pub use recall::RecallCommand;
pub use receive::{LeasedDelivery, ReceiveCommand, Received, Undelivered};
pub use reply::ReplyCommand;
pub use route::{
    AssignmentCommand, BrokersCommand, ListBrokersCommand, QueueAssignment, QueueRoute, RouteCommand,
    TopicQueues,
};
pub use send::{SendCommand, Stored};
pub use send_back::{MakeRetryTopicCommand, SendBackCommand};
pub use session::{
    ClientPolicy, ClientSettings, ConsumerPolicy, HeartbeatCommand, ProducerPolicy, RegisterCommand, Role,
    Subscription, TerminateCommand,
};
pub use settle::{AckCommand, AckEntry, AckResult, ChangeCommand, ForwardCommand};
pub use stream::{Push, PushReceiver, PushStream};
pub use summaries::{GroupSummary, Page, TopicSummary};
pub use transaction::EndTransactionCommand;
pub use validate::is_blank;

use crate::context::Context;
use crate::error::Error;
use crate::layer::{Granted, Layers, Operation, Quotas, Right};
use crate::service::{Capabilities, GroupConfig, GroupUpdate, TopicConfig, TopicUpdate};
use administration::AdministrationTurns;
use clients::Clients;
use dead_letters::BegunTopics;
use environment::Environment;
use handle::Handles;
use health::ClusterHealth;
use lease::RenewedLeases;

/// The rules over the backends, behind the layers. Shared by all front ends.
pub struct Processor {
    layers: Layers,
    environment: Environment,
}

/// What the processor needs to know of the operator's configuration.
pub struct Rules {
    /// What a request may ask for.
    pub limits: Limits,
    /// Seals receipt handles; the same on every proxy of a fleet.
    pub handle_key: HandleKey,
}

impl Processor {
    /// The rules over these clusters. Once `draining` is cancelled, waiting receives answer at once.
    #[must_use]
    pub fn new(clusters: ClusterRouter, rules: Rules, layers: Layers, draining: CancellationToken) -> Self {
        let environment = Environment {
            clusters,
            handles: Handles::new(&rules.handle_key),
            clients: Clients::default(),
            leases: RenewedLeases::default(),
            transactions: Arc::default(),
            administration: AdministrationTurns::default(),
            resent_topics: BegunTopics::default(),
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
    /// A layer's refusal, or what the command's handler says.
    pub async fn run<C: Command>(&self, context: &Context, command: C) -> Result<C::Answer, Error> {
        self.begin(context, command).await.map(|(answer, _)| answer)
    }

    /// The same for a request that opens a stream. Also returns what has to stay granted meanwhile.
    ///
    /// # Errors
    /// As [`Processor::run`].
    pub async fn begin<C: Command>(
        &self,
        context: &Context,
        command: C,
    ) -> Result<(C::Answer, Granted), Error> {
        let mut passage = self.layers.enter(&Operation {
            kind: C::KIND,
            context,
            topics: command.topics(),
            groups: command.groups(),
            size: command.size(),
        })?;
        if let Some(traced) = passage.traced() {
            command.trace(traced);
        }
        let turn = match passage.turn(&self.environment.draining) {
            Some(turn) => turn.await,
            None => Ok(()),
        };
        if let Err(refused) = turn {
            drop(passage.finish(context, Err(&refused)));
            return Err(refused);
        }
        let result = tokio::select! {
            biased;
            result = command.handle(&self.environment, context) => result,
            revoked = passage.revoked() => Err(revoked),
        };
        if let Some(traced) = passage.traced() {
            C::trace_end(result.as_ref(), traced);
        }
        let granted = passage.finish(context, result.as_ref().map(C::answer_size));
        result.map(|answer| (answer, granted))
    }

    /// Checks that a client may do something that no command carries out.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`, or `Busy`.
    pub fn check(&self, operation: &Operation<'_>) -> Result<(), Error> {
        self.layers.check(operation)
    }

    /// Makes deliveries that could not be handed over visible again, without counting them as attempts.
    pub async fn give_back(&self, undelivered: Undelivered) {
        receive::give_back(&self.environment, undelivered).await;
    }

    /// Notes the end of a stream that settings came by. The client itself may live on, and open another stream, here or
    /// at another proxy: it is gone once it says so ([`TerminateCommand`]), or is silent for long.
    pub fn stream_ended(&self, context: &Context, stream: &PushStream) {
        self.environment.clients.stream_ended(context, stream);
    }

    /// Forgets the client of a connection that is gone, unless it has another one by now.
    pub fn client_gone(&self, context: &Context, stream: &PushStream) {
        self.environment.clients.gone(context, stream);
    }

    /// Maintains soft state: renews leases, forgets clients that are gone, passes on what brokers say to clients, checks
    /// whether the clusters can be reached. Returns once the proxy drains.
    pub async fn run_maintenance(&self) {
        let environment = &self.environment;
        tokio::join!(
            lease::renew_leases(environment),
            broker_requests::run(environment),
            health::watch_clusters(environment),
        );
    }

    /// What a request may ask for.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.environment.limits
    }

    /// What the backend can do: all clusters are of one kind.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.environment.capabilities()
    }

    /// Whether the proxy is shutting down.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.environment.draining
    }

    /// What is known of the clusters, now and whenever it changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.environment.health.subscribe()
    }
}

/// Administration. It bypasses the layers, so that an overloaded proxy can still be administered: a front end checks
/// first who asks, by [`Processor::administer`].
impl Processor {
    /// Checks that the sender of a request has this right to administer the proxy.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`.
    pub fn administer(&self, context: &Context, right: Right) -> Result<(), Error> {
        self.layers.administer(context, right)
    }

    /// The quotas in force.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        self.layers.quotas()
    }

    /// Creates topics, then groups. With `replace` those that exist take the new configuration.
    ///
    /// # Errors
    /// An illegal name, a negative number of queues, `AlreadyExists`, or the backend's failure. The others
    /// are created even so.
    pub async fn apply(
        &self,
        topics: Vec<TopicConfig>,
        groups: Vec<GroupConfig>,
        replace: bool,
    ) -> Result<(), Error> {
        catalog::apply(&self.environment.clusters, topics, groups, replace).await
    }

    /// Changes the settings of a topic that are named. The others stay as they are, also if they change meanwhile.
    ///
    /// # Errors
    /// `TopicNotFound`, what can't be set, or the backend's failure.
    pub async fn update_topic(&self, update: TopicUpdate) -> Result<(), Error> {
        catalog::update_topic(&self.environment.clusters, update).await
    }

    /// Changes the settings of a group that are named, in every cluster.
    ///
    /// # Errors
    /// `GroupNotFound` if no cluster has it, what can't be set, or the backend's failure.
    pub async fn update_group(&self, update: GroupUpdate) -> Result<(), Error> {
        catalog::update_group(&self.environment.clusters, update).await
    }

    /// All topics that clients may name, by name.
    ///
    /// # Errors
    /// The backend's failure.
    pub async fn topics(&self) -> Result<Vec<TopicConfig>, Error> {
        catalog::topics(&self.environment.clusters).await
    }

    /// All groups, by name.
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
    /// `GroupNotFound` if no cluster has it, or the backend's failure.
    pub async fn delete_group(&self, name: &str) -> Result<(), Error> {
        catalog::delete_group(&self.environment.clusters, name).await
    }
}
