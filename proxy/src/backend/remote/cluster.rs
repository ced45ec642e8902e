use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::TlsConnector;

use super::answer::success;
use super::cache::{Cache, Freshness};
use super::connection::Dialer;
use super::error::CallError;
use super::heartbeat;
use super::incoming::{self, IncomingRequests};
use super::name_servers::{LookupError, NameServers};
use super::peers::Peers;
use super::round_robin::RoundRobin;
use super::topology::{Broker, BrokerAddress, TopicRoute};
use crate::remoting::Command;
use crate::remoting::sign::Signer;
use crate::service::{BrokerOf, ServiceError, ServiceErrorKind};

/// How a cluster is reached.
pub(super) struct ClusterOptions {
    /// Its name servers, `host:port;host:port`.
    pub(super) name_servers: String,
    /// The cluster's name in its brokers' configuration.
    pub(super) name: String,
    /// TLS, if the brokers ask for it.
    pub(super) tls: Option<TlsConnector>,
    /// Signs requests, if the brokers authenticate clients.
    pub(super) signer: Option<Signer>,
    /// How long connecting may take.
    pub(super) connect_timeout: Duration,
    /// How long a call to a name server, or one about configuration, may take.
    pub(super) lookup_timeout: Duration,
    /// How long a broker may take to store or settle, or to answer a receive beyond its wait.
    pub(super) call_timeout: Duration,
}

/// One cluster of brokers behind its name servers: connections, routes, and which brokers to avoid.
pub(super) struct Cluster {
    pub(super) options: ClusterOptions,
    pub(super) peers: Arc<Peers>,
    /// Separate from `receives`: a broker that stores no messages may still deliver some.
    pub(super) sends: RoundRobin,
    pub(super) receives: RoundRobin,
    /// What the brokers request of clients.
    pub(super) incoming: IncomingRequests,
    name_servers: Arc<NameServers>,
    routes: Arc<Cache<Arc<TopicRoute>, LookupError>>,
}

/// How long routes and configurations are used. They are refreshed as often as by Apache's proxy, but what is absent is
/// asked for again after a second, because users create a topic and try again.
pub(super) const FRESHNESS: Freshness = Freshness {
    refresh: Duration::from_secs(20),
    absent: Duration::from_secs(1),
    idle: Duration::from_secs(300),
};

impl Cluster {
    pub(super) fn new(options: ClusterOptions) -> Self {
        let (sender, incoming) = incoming::queue();
        let connect_timeout = options.connect_timeout;
        let dialer = Dialer { tls: options.tls.clone(), connect_timeout, incoming: sender };
        let peers = Arc::new(Peers::new(dialer, options.signer.clone()));
        let name_servers =
            Arc::new(NameServers::new(&options.name_servers, peers.clone(), options.lookup_timeout));
        Self {
            options,
            peers,
            sends: RoundRobin::default(),
            receives: RoundRobin::default(),
            incoming,
            name_servers,
            routes: Cache::new(FRESHNESS),
        }
    }

    /// A topic's route; `None` if it surely has none.
    pub(super) async fn find_route(&self, topic: &str) -> Result<Option<Arc<TopicRoute>>, LookupError> {
        let (servers, name) = (self.name_servers.clone(), topic.to_owned());
        self.routes.get(topic, || async move { Ok(servers.route(&name).await?.map(Arc::new)) }).await
    }

    /// Every broker.
    pub(super) async fn brokers(&self) -> Result<Vec<BrokerOf>, ServiceError> {
        Ok(self.name_servers.brokers().await?)
    }

    /// A topic's route, which must exist.
    pub(super) async fn route(&self, topic: &str) -> Result<Arc<TopicRoute>, ServiceError> {
        self.find_route(topic).await?.ok_or_else(|| no_route(topic))
    }

    /// A broker's master. Brokers register a topic of their own name, whose route names it even after other topics have
    /// moved away from the broker.
    ///
    /// The name comes from sealed coordinates, so the broker has existed: if the name servers don't know it, it is
    /// unavailable, and the request is not to blame.
    pub(super) async fn master(&self, broker: &str) -> Result<BrokerAddress, ServiceError> {
        let route = self.find_route(broker).await?;
        let address = route.as_ref().and_then(|route| route.broker(broker)?.master());
        let address = address.ok_or_else(|| {
            ServiceError::new(ServiceErrorKind::Unavailable, format!("cannot find broker {broker}"))
        })?;
        Ok(BrokerAddress { name: broker.to_owned(), address: address.to_owned() })
    }

    /// Every master of the cluster. Brokers register a topic of their cluster's name.
    pub(super) async fn masters(&self) -> Result<Vec<String>, ServiceError> {
        let name = &self.options.name;
        let route = self.find_route(name).await?;
        let brokers = route.iter().flat_map(|route| &route.brokers);
        let masters: Vec<_> = brokers.filter_map(Broker::master).map(str::to_owned).collect();
        if masters.is_empty() {
            // Not an answer to whether something exists.
            let message =
                format!("the name servers know no master of cluster {name} (`cluster` in the configuration)");
            return Err(ServiceError::new(ServiceErrorKind::Unavailable, message));
        }
        Ok(masters)
    }

    /// Checks that a name server knows brokers, and that one of them serves this proxy. Does not use caches.
    pub(super) async fn ready(&self) -> Result<(), ServiceError> {
        let unavailable = |message: String| ServiceError::new(ServiceErrorKind::Unavailable, message);
        let name = &self.options.name;
        let route = self.name_servers.route(name).await?;
        let masters = route.iter().flat_map(|route| &route.brokers).filter_map(Broker::master);
        let mut failed = None;
        for address in masters {
            let answer = self.peers.call(address, heartbeat::empty(), self.options.lookup_timeout).await;
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

    /// Calls a broker. If it is to blame for a failure, other requests avoid it for a while.
    pub(super) async fn call(
        &self,
        broker: &BrokerAddress,
        command: Command,
        within: Duration,
    ) -> Result<Command, CallError> {
        let answer = self.peers.call(&broker.address, command, within).await;
        answer.inspect_err(|error| {
            if error.blames_peer() {
                self.leave_out(&broker.name, &[&self.sends, &self.receives], error);
            }
        })
    }

    /// Calls a broker's master. The answer is awaited as long as storing and settling may take.
    pub(super) async fn call_master(
        &self,
        broker: &str,
        command: Command,
        deadline: Instant,
    ) -> Result<Command, ServiceError> {
        Ok(self.call(&self.master(broker).await?, command, self.time_left(deadline)).await?)
    }

    /// How long to wait for a broker that stores or settles something.
    pub(super) fn time_left(&self, deadline: Instant) -> Duration {
        deadline.saturating_duration_since(Instant::now()).min(self.options.call_timeout)
    }

    /// Avoids a broker in these rotations until it answers, and looks up its routes again.
    pub(super) fn leave_out(&self, broker: &str, turns: &[&RoundRobin], error: &dyn fmt::Display) {
        // No short-circuit: each must be told.
        let news = turns.iter().filter(|turns| turns.breaker.failed(broker)).count();
        if news > 0 {
            tracing::warn!(broker, %error, "a broker is avoided until it answers");
            self.doubt_broker(broker);
        }
    }

    /// Refreshes the routes that name a broker soon. They are used until then.
    pub(super) fn doubt_broker(&self, broker: &str) {
        self.routes.doubt(|route| route.broker(broker).is_some());
    }

    /// Forgets a route that was just changed.
    pub(super) fn forget_route(&self, topic: &str) {
        self.routes.forget(topic);
    }
}

/// The error for a topic without a route. The text is that of Apache's proxy.
pub(super) fn no_route(topic: &str) -> ServiceError {
    let text = format!("No topic route info in name server for the topic: {topic}");
    ServiceError::new(ServiceErrorKind::TopicNotFound, text)
}
