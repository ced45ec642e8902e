//! Looks up routes and brokers at the name servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;

use super::error::CallError;
use super::peers::Peers;
use super::topology::TopicRoute;
use crate::remoting::{RemotingCommand, lenient, request, response};
use crate::service::BrokerInfo;

/// The name servers of a cluster. All brokers register with each of them. The preferred one is called first.
pub(super) struct NameServers {
    servers: Vec<NameServer>,
    /// The index of the preferred server, modulo their number.
    preferred: AtomicUsize,
    peers: Arc<Peers>,
    /// The timeout of one call.
    timeout: Duration,
}

struct NameServer {
    address: String,
    /// When the server last knew a broker; `None` if the last check found none, or there was no check.
    knew_brokers_at: Mutex<Option<Instant>>,
}

/// How long a name server that knew a broker is assumed to know one. A check transfers the list of all brokers.
const BROKER_CHECK_LIFETIME: Duration = Duration::from_secs(1);

/// Why no name server returned a route.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// No name server answered the call.
    #[error("no name server answered: {0}")]
    Unreachable(CallError),
    /// A name server refused the request, or its answer is unreadable.
    #[error("name server {address} answered code {code}: {text}")]
    Refused {
        /// The name server.
        address: String,
        /// Its response code.
        code: i32,
        /// The text of its answer, or why the answer is unreadable.
        text: String,
    },
    /// No broker has registered with the name server, for example because it has just been started.
    #[error("no broker has registered with name server {address}")]
    NoBrokers {
        /// The name server.
        address: String,
    },
    /// The configuration contains no address.
    #[error("no name server is configured; set name_server")]
    NoneConfigured,
}

impl NameServers {
    /// `addresses` as in Apache's `namesrvAddr`: `host:port;host:port`.
    pub(super) fn new(addresses: &str, peers: Arc<Peers>, timeout: Duration) -> Self {
        let servers = addresses
            .split([';', ','])
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(|address| NameServer { address: address.to_owned(), knew_brokers_at: Mutex::default() })
            .collect();
        // Spreads the proxies of a fleet over the name servers.
        let preferred = AtomicUsize::new(std::process::id() as usize);
        Self { servers, preferred, peers, timeout }
    }

    /// Looks up a topic's route. `None` if the topic certainly has no route. Asks the preferred server first, and then the
    /// others until one has a route: a server that was just started knows only the brokers that have registered since. The
    /// server that returned the route becomes the preferred one, or else the first one that answered.
    pub(super) async fn route(&self, topic: &str) -> Result<Option<TopicRoute>, LookupError> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut without_route = None;
        let mut failed = LookupError::NoneConfigured;
        for step in 0..self.servers.len() {
            let index = preferred.wrapping_add(step);
            match self.route_at(&self.servers[index % self.servers.len()], topic).await {
                Ok(Some(route)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(Some(route));
                }
                Ok(None) => without_route = without_route.or(Some(index)),
                Err(error) => failed = error,
            }
        }
        let index = without_route.ok_or(failed)?;
        self.preferred.store(index, Ordering::Relaxed);
        Ok(None)
    }

    async fn route_at(&self, server: &NameServer, topic: &str) -> Result<Option<TopicRoute>, LookupError> {
        let address = &server.address;
        let command = RemotingCommand::request(request::GET_ROUTEINFO_BY_TOPIC)
            .field("topic", topic)
            .field("acceptStandardJsonOnly", true);
        let answer = self.call(address, command).await?;
        let refused =
            |text: String| LookupError::Refused { address: address.clone(), code: answer.code, text };
        match answer.code {
            response::SUCCESS => TopicRoute::parse(&answer.body).map_err(|error| refused(error.to_string())),
            // Brokers register every 30 s. Until then, a restarted name server knows no topic at all.
            response::TOPIC_NOT_EXIST if self.has_no_brokers(server).await? => {
                Err(LookupError::NoBrokers { address: address.clone() })
            }
            response::TOPIC_NOT_EXIST => Ok(None),
            _ => Err(refused(answer.remark.clone().unwrap_or_default())),
        }
    }

    async fn has_no_brokers(&self, server: &NameServer) -> Result<bool, LookupError> {
        if server.knew_brokers_at.lock().is_some_and(|at| at.elapsed() < BROKER_CHECK_LIFETIME) {
            return Ok(false);
        }
        let answer =
            self.call(&server.address, RemotingCommand::request(request::GET_BROKER_CLUSTER_INFO)).await?;
        let is_empty =
            lenient::from_slice::<BrokerTable>(&answer.body).is_ok_and(|brokers| brokers.by_name.is_empty());
        *server.knew_brokers_at.lock() = (!is_empty).then(Instant::now);
        Ok(is_empty)
    }

    /// The brokers that the first answering name server knows.
    pub(super) async fn brokers(&self) -> Result<Vec<BrokerInfo>, LookupError> {
        let mut failed = LookupError::NoneConfigured;
        for server in &self.servers {
            match self.call(&server.address, RemotingCommand::request(request::GET_BROKER_CLUSTER_INFO)).await
            {
                Ok(answer) => {
                    let table: BrokerTable =
                        lenient::from_slice(&answer.body).map_err(|error| LookupError::Refused {
                            address: server.address.clone(),
                            code: answer.code,
                            text: error.to_string(),
                        })?;
                    let info =
                        |(name, entry): (String, BrokerEntry)| BrokerInfo { name, cluster: entry.cluster };
                    return Ok(table.by_name.into_iter().map(info).collect());
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Removes a cluster's topic from all name servers. A topic of the same name in another cluster is not affected.
    pub(super) async fn forget_topic(&self, topic: &str, cluster: &str) -> Result<(), LookupError> {
        let command = RemotingCommand::request(request::DELETE_TOPIC_IN_NAMESRV)
            .field("topic", topic)
            .field("clusterName", cluster);
        for server in &self.servers {
            self.call(&server.address, command.clone()).await?;
        }
        Ok(())
    }

    async fn call(&self, address: &str, command: RemotingCommand) -> Result<RemotingCommand, LookupError> {
        self.peers.call(address, command, self.timeout).await.map_err(LookupError::Unreachable)
    }
}

/// The brokers that a name server knows (part of Apache's `ClusterInfo`).
#[derive(Deserialize)]
struct BrokerTable {
    #[serde(rename = "brokerAddrTable", default)]
    by_name: BTreeMap<String, BrokerEntry>,
}

/// A broker's entry in a [`BrokerTable`].
#[derive(Default, Deserialize)]
struct BrokerEntry {
    #[serde(default)]
    cluster: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::remote::scripted;

    #[tokio::test]
    async fn a_topic_is_absent_only_if_no_name_server_knows_it() {
        let server = |knows: &'static str| {
            scripted::peer(move |command| {
                match command.code {
                request::GET_BROKER_CLUSTER_INFO => {
                    RemotingCommand::request(response::SUCCESS).body(r#"{"brokerAddrTable":{"b":{}}}"#)
                }
                _ if command.text("topic") == Some(knows) => RemotingCommand::request(response::SUCCESS).body(
                    r#"{"brokerDatas":[{"brokerName":"b","brokerAddrs":{0:"h:1"}}],"queueDatas":[{"brokerName":"b"}]}"#,
                ),
                _ => RemotingCommand::request(response::TOPIC_NOT_EXIST),
            }
            })
        };
        let cluster = scripted::cluster(&[server("one").await, server("another").await]);
        for (topic, known) in [("one", true), ("another", true), ("none", false)] {
            assert_eq!(cluster.find_route(topic).await.unwrap().is_some(), known, "{topic}");
        }
    }
}
