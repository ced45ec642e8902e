//! One cluster of brokers: finds routes and masters, and calls brokers.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::TlsConnector;

use super::answer::success;
use super::cache::{Cache, FRESHNESS};
use super::connection::Dialer;
use super::error::CallError;
use super::heartbeat;
use super::incoming::{self, IncomingRequests};
use super::name_servers::{LookupError, NameServers};
use super::peers::Peers;
use super::round_robin::RoundRobin;
use super::topology::{Broker, BrokerAddress, TopicRoute};
use crate::remoting::RemotingCommand;
use crate::remoting::sign::Signer;
use crate::service::{BrokerInfo, ServiceError, ServiceErrorKind};

/// How a cluster is reached.
pub(super) struct ClusterOptions {
    /// Its name servers, `host:port;host:port`.
    pub(super) name_servers: String,
    /// The cluster's name in its brokers' configuration.
    pub(super) name: String,
    /// The TLS settings; `None` for plain TCP.
    pub(super) tls: Option<TlsConnector>,
    /// Signs requests, if the brokers authenticate clients.
    pub(super) signer: Option<Signer>,
    /// The timeout for connecting.
    pub(super) connect_timeout: Duration,
    /// The timeout of a call to a name server, and of a call about configuration.
    pub(super) lookup_timeout: Duration,
    /// The timeout for storing and settling messages. A receive may take this long in addition to its wait.
    pub(super) call_timeout: Duration,
}

/// One cluster of brokers with its name servers: connections, routes, and the brokers to avoid.
pub(super) struct Cluster {
    pub(super) options: ClusterOptions,
    pub(super) peers: Arc<Peers>,
    /// The rotation among brokers for sends. Separate from `receives`: a broker that stores no messages may still deliver
    /// some.
    pub(super) sends: RoundRobin,
    /// The rotation among brokers for receives.
    pub(super) receives: RoundRobin,
    /// The brokers' requests to clients.
    pub(super) incoming: IncomingRequests,
    name_servers: Arc<NameServers>,
    routes: Arc<Cache<Arc<TopicRoute>, LookupError>>,
}

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

    /// A topic's route; `None` if the topic certainly has no route.
    pub(super) async fn find_route(&self, topic: &str) -> Result<Option<Arc<TopicRoute>>, LookupError> {
        let (servers, name) = (self.name_servers.clone(), topic.to_owned());
        self.routes.get(topic, || async move { Ok(servers.route(&name).await?.map(Arc::new)) }).await
    }

    /// All brokers that the name servers know.
    pub(super) async fn brokers(&self) -> Result<Vec<BrokerInfo>, ServiceError> {
        Ok(self.name_servers.brokers().await?)
    }

    /// A topic's route.
    ///
    /// # Errors
    /// `TopicNotFound` if the topic has no route.
    pub(super) async fn route(&self, topic: &str) -> Result<Arc<TopicRoute>, ServiceError> {
        self.find_route(topic).await?.ok_or_else(|| no_route(topic))
    }

    /// A broker's master. Each broker registers a topic of its own name, so the broker is found even after all other
    /// topics have moved away from it.
    ///
    /// The name comes from sealed coordinates, so the broker has existed. If the name servers don't know it, the error is
    /// therefore `Unavailable` and not an invalid request.
    pub(super) async fn master(&self, broker: &str) -> Result<BrokerAddress, ServiceError> {
        let route = self.find_route(broker).await?;
        let address = route.as_ref().and_then(|route| route.broker(broker)?.master());
        let address = address.ok_or_else(|| {
            ServiceError::new(ServiceErrorKind::Unavailable, format!("cannot find broker {broker}"))
        })?;
        Ok(BrokerAddress { name: broker.to_owned(), address: address.to_owned() })
    }

    /// The addresses of all masters of the cluster. Brokers register a topic of their cluster's name.
    pub(super) async fn masters(&self) -> Result<Vec<String>, ServiceError> {
        let name = &self.options.name;
        let route = self.find_route(name).await?;
        let brokers = route.iter().flat_map(|route| &route.brokers);
        let masters: Vec<_> = brokers.filter_map(Broker::master).map(str::to_owned).collect();
        if masters.is_empty() {
            // Without masters it is unknown whether a topic or group exists, so this is not a "not found" error.
            let message =
                format!("the name servers know no master of cluster {name} (`cluster` in the configuration)");
            return Err(ServiceError::new(ServiceErrorKind::Unavailable, message));
        }
        Ok(masters)
    }

    /// Checks that a name server knows the cluster's brokers, and that one of them answers this proxy. Bypasses the caches.
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
                Err(error) => {
                    failed = Some(format!("no broker of cluster {name} can be used; {address}: {error}"));
                }
            }
        }
        Err(unavailable(
            failed.unwrap_or_else(|| format!("the name servers know no broker of cluster {name}")),
        ))
    }

    /// Removes a topic from every name server.
    pub(super) async fn forget_topic(&self, topic: &str) -> Result<(), LookupError> {
        self.name_servers.forget_topic(topic, &self.options.name).await
    }

    /// Calls a broker. If the broker is at fault for a failure, other requests avoid it for a while.
    pub(super) async fn call(
        &self,
        broker: &BrokerAddress,
        command: RemotingCommand,
        within: Duration,
    ) -> Result<RemotingCommand, CallError> {
        let answer = self.peers.call(&broker.address, command, within).await;
        answer.inspect_err(|error| {
            if error.is_peer_fault() {
                self.avoid(&broker.name, &[&self.sends, &self.receives], error);
            }
        })
    }

    /// Calls a broker's master, with the timeout for storing and settling.
    pub(super) async fn call_master(
        &self,
        broker: &str,
        command: RemotingCommand,
        deadline: Instant,
    ) -> Result<RemotingCommand, ServiceError> {
        Ok(self.call(&self.master(broker).await?, command, self.time_left(deadline)).await?)
    }

    /// The timeout of a call that stores or settles something before this deadline.
    pub(super) fn time_left(&self, deadline: Instant) -> Duration {
        deadline.saturating_duration_since(Instant::now()).min(self.options.call_timeout)
    }

    /// Avoids a broker in these rotations until it answers, and looks up its routes again.
    pub(super) fn avoid(&self, broker: &str, rotations: &[&RoundRobin], error: &dyn fmt::Display) {
        // Counts instead of stopping at the first, because every breaker must record the failure.
        let newly_avoided = rotations.iter().filter(|rotation| rotation.breaker.failed(broker)).count();
        if newly_avoided > 0 {
            tracing::warn!(broker, %error, "avoiding a broker until it answers");
            self.mark_routes_stale(broker);
        }
    }

    /// Marks the routes that contain a broker as stale: they are refreshed soon, and used until then.
    pub(super) fn mark_routes_stale(&self, broker: &str) {
        self.routes.mark_stale(|route| route.broker(broker).is_some());
    }

    /// Removes a route from the cache, after the topic was changed.
    pub(super) fn forget_route(&self, topic: &str) {
        self.routes.forget(topic);
    }
}

/// The error for a topic without a route. The text is that of Apache's proxy.
pub(super) fn no_route(topic: &str) -> ServiceError {
    let text = format!("No topic route info in name server for the topic: {topic}");
    ServiceError::new(ServiceErrorKind::TopicNotFound, text)
}
