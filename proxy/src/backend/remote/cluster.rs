use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::answer::success;
use super::broker_requests::{self, IncomingRequests, ROOM};
use super::cache::{Cache, Freshness};
use super::connection::Dialer;
use super::error::CallError;
use super::name_servers::{LookupError, NameServers};
use super::peers::Peers;
use super::round_robin::RoundRobin;
use super::topology::{Broker, TopicRoute};
use crate::remoting::Command;
use crate::remoting::sign::Signer;
use crate::service::{ServiceError, ServiceErrorKind};

/// How a cluster is reached.
pub(super) struct ClusterOptions {
    /// Its name servers, `host:port;host:port`.
    pub(super) name_servers: String,
    /// The cluster's name in its brokers' configuration.
    pub(super) name: String,
    /// TLS, if the brokers ask for it.
    pub(super) tls: Option<TlsConnector>,
    /// Signs requests, if the brokers ask who it is.
    pub(super) signer: Option<Signer>,
    /// How long a connection may take to come up.
    pub(super) connect_timeout: Duration,
    /// How long one question to a name server, or one about configuration, may take.
    pub(super) lookup_timeout: Duration,
    /// How long a broker may take to store or settle.
    pub(super) call_timeout: Duration,
}

/// One cluster of brokers behind its name servers: connections, routes, and which brokers to leave out.
pub(super) struct Cluster {
    pub(super) options: ClusterOptions,
    pub(super) peers: Arc<Peers>,
    /// Apart, as a broker that takes no message may well have some.
    pub(super) sends: RoundRobin,
    pub(super) receives: RoundRobin,
    /// What the brokers have to say to clients.
    pub(super) incoming: IncomingRequests,
    name_servers: Arc<NameServers>,
    routes: Arc<Cache<Arc<TopicRoute>, LookupError>>,
}

/// How long routes and configurations are used: as Apache's proxy refreshes them, but what is absent is
/// asked for again after a moment, because users create a topic and try again.
pub(super) const FRESHNESS: Freshness = Freshness {
    refresh: Duration::from_secs(20),
    absent: Duration::from_secs(1),
    idle: Duration::from_secs(300),
};

impl Cluster {
    pub(super) fn new(options: ClusterOptions) -> Self {
        let (asked, requests) = mpsc::channel(ROOM);
        let dialer = Dialer { tls: options.tls.clone(), connect_timeout: options.connect_timeout, asked };
        let peers = Arc::new(Peers::new(dialer, options.signer.clone()));
        let name_servers =
            Arc::new(NameServers::new(&options.name_servers, peers.clone(), options.lookup_timeout));
        Self {
            options,
            peers,
            sends: RoundRobin::default(),
            receives: RoundRobin::default(),
            incoming: IncomingRequests::new(requests),
            name_servers,
            routes: Cache::new(FRESHNESS),
        }
    }

    /// A topic's route; `None` if the topic surely has none.
    pub(super) async fn find_route(&self, topic: &str) -> Result<Option<Arc<TopicRoute>>, LookupError> {
        let (servers, name) = (self.name_servers.clone(), topic.to_owned());
        self.routes.get(topic, || async move { Ok(servers.route(&name).await?.map(Arc::new)) }).await
    }

    /// A topic's route, which must exist.
    pub(super) async fn route(&self, topic: &str) -> Result<Arc<TopicRoute>, ServiceError> {
        self.find_route(topic).await?.ok_or_else(|| no_route(topic))
    }

    /// Where a broker's master is. Brokers register a topic of their own name, so the route of that name
    /// tells, also for topics that have moved away from the broker meanwhile.
    ///
    /// The name comes from sealed coordinates: such a broker has existed, and one that the name servers do not
    /// know is away, not wrong.
    pub(super) async fn master(&self, broker: &str) -> Result<String, ServiceError> {
        let route = self.find_route(broker).await?;
        let address = route.as_ref().and_then(|route| route.broker(broker)?.master());
        address.map(str::to_owned).ok_or_else(|| {
            ServiceError::new(ServiceErrorKind::Unavailable, format!("cannot find broker {broker}"))
        })
    }

    /// Every master of the cluster. Brokers register a topic of their cluster's name.
    pub(super) async fn masters(&self) -> Result<Vec<String>, ServiceError> {
        let name = &self.options.name;
        let route = self.find_route(name).await?;
        let brokers = route.iter().flat_map(|route| &route.brokers);
        let masters: Vec<_> = brokers.filter_map(Broker::master).map(str::to_owned).collect();
        if masters.is_empty() {
            // Whatever a client asked for, it may well exist.
            let message =
                format!("the name servers know no master of cluster {name} (`cluster` in the configuration)");
            return Err(ServiceError::new(ServiceErrorKind::Unavailable, message));
        }
        Ok(masters)
    }

    /// Whether a name server tells of brokers, and one of them serves this proxy. Nothing cached counts.
    pub(super) async fn ready(&self) -> Result<(), ServiceError> {
        let unavailable = |message: String| ServiceError::new(ServiceErrorKind::Unavailable, message);
        let name = &self.options.name;
        let route = self.name_servers.route(name).await?;
        let masters = route.iter().flat_map(|route| &route.brokers).filter_map(Broker::master);
        let mut failed = None;
        for address in masters {
            let answer =
                self.peers.call(address, broker_requests::nobody(), self.options.lookup_timeout).await;
            match answer.map_err(ServiceError::from).and_then(success) {
                Ok(_) => return Ok(()),
                Err(error) => failed = Some(format!("no broker of {name} serves: {address}: {error}")),
            }
        }
        Err(unavailable(failed.unwrap_or_else(|| format!("the name servers know no broker of {name}"))))
    }

    /// Removes a topic from every name server.
    pub(super) async fn forget_topic(&self, topic: &str) -> Result<(), LookupError> {
        self.name_servers.forget_topic(topic, &self.options.name).await
    }

    /// Calls a broker at this address. One that is to blame for a failure is left out: others get what can go elsewhere.
    pub(super) async fn call(
        &self,
        (broker, address): (&str, &str),
        command: Command,
        within: Duration,
    ) -> Result<Command, CallError> {
        let answer = self.peers.call(address, command, within).await;
        answer.inspect_err(|error| {
            if error.blames_peer() {
                self.leave_out(broker, &[&self.sends, &self.receives], error);
            }
        })
    }

    /// Passes over a broker where these take turns, until it answers. It may have moved.
    pub(super) fn leave_out(&self, broker: &str, turns: &[&RoundRobin], error: &dyn fmt::Display) {
        // Each is to know, whatever the one before makes of it.
        let news = turns.iter().filter(|turns| turns.breaker.failed(broker)).count();
        if news > 0 {
            tracing::warn!(broker, %error, "left out until it answers");
            self.doubt_broker(broker);
        }
    }

    /// Has the routes that name a broker asked for again soon, and goes on with those there are.
    pub(super) fn doubt_broker(&self, broker: &str) {
        self.routes.doubt(|route| route.broker(broker).is_some());
    }

    /// Forgets a route that was just changed.
    pub(super) fn forget_route(&self, topic: &str) {
        self.routes.forget(topic);
    }

    /// Asks a broker at this address, within the time that settling and storing may take.
    pub(super) async fn ask(
        &self,
        broker: (&str, &str),
        command: Command,
        within: Duration,
    ) -> Result<Command, ServiceError> {
        Ok(self.call(broker, command, within.min(self.options.call_timeout)).await?)
    }

    /// The same of a broker's master.
    pub(super) async fn ask_broker(
        &self,
        broker: &str,
        command: Command,
        within: Duration,
    ) -> Result<Command, ServiceError> {
        self.ask((broker, &self.master(broker).await?), command, within).await
    }
}

/// That a topic is nowhere, in the words of Apache's proxy, which official clients print.
pub(super) fn no_route(topic: &str) -> ServiceError {
    let text = format!("No topic route info in name server for the topic: {topic}");
    ServiceError::new(ServiceErrorKind::TopicNotFound, text)
}
