use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;

use super::error::CallError;
use super::peers::Peers;
use super::topology::TopicRoute;
use crate::remoting::{Command, lenient, request, response};
use crate::service::BrokerOf;

/// The name servers: equal peers, each of which knows every broker. The same one is asked as long as it answers.
pub(super) struct NameServers {
    servers: Vec<Server>,
    chosen: AtomicUsize,
    peers: Arc<Peers>,
    within: Duration,
}

struct Server {
    address: String,
    /// When it was last seen to know a broker.
    knew_brokers: Mutex<Option<Instant>>,
}

/// How long a name server that knew a broker is assumed to know one. Checking it transfers all of them.
const KNOWS_BROKERS_FOR: Duration = Duration::from_secs(1);

/// Why no name server returned a route.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// None of them could be called.
    #[error("no name server answered: {0}")]
    Unreachable(CallError),
    /// One refused, or its answer can't be read.
    #[error("name server {address} answered code {code}: {text}")]
    Refused {
        /// The name server.
        address: String,
        /// Its response code.
        code: i32,
        /// Its text.
        text: String,
    },
    /// No broker has registered with it: it has just been started, or there are none.
    #[error("name server {address} knows no broker")]
    Blank {
        /// The name server.
        address: String,
    },
    /// No addresses are configured.
    #[error("no name server is configured")]
    NoneConfigured,
}

impl NameServers {
    /// `addresses` as in Apache's `namesrvAddr`: `host:port;host:port`.
    pub(super) fn new(addresses: &str, peers: Arc<Peers>, within: Duration) -> Self {
        let servers = addresses
            .split([';', ','])
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(|address| Server { address: address.to_owned(), knew_brokers: Mutex::default() })
            .collect();
        // Spreads the proxies of a fleet over the name servers.
        let chosen = AtomicUsize::new(std::process::id() as usize);
        Self { servers, chosen, peers, within }
    }

    /// A topic's route; `None` if the topic surely has none. Asks the chosen server first, and then the others until one
    /// has a route: a server that was just started knows only the brokers that have registered since. A server that
    /// answers, or knows more, becomes the chosen one.
    pub(super) async fn route(&self, topic: &str) -> Result<Option<TopicRoute>, LookupError> {
        let chosen = self.chosen.load(Ordering::Relaxed);
        let mut without_route = None;
        let mut failed = LookupError::NoneConfigured;
        for step in 0..self.servers.len() {
            let place = chosen.wrapping_add(step);
            match self.route_at(&self.servers[place % self.servers.len()], topic).await {
                Ok(Some(route)) => {
                    self.chosen.store(place, Ordering::Relaxed);
                    return Ok(Some(route));
                }
                Ok(None) => without_route = without_route.or(Some(place)),
                Err(error) => failed = error,
            }
        }
        let place = without_route.ok_or(failed)?;
        self.chosen.store(place, Ordering::Relaxed);
        Ok(None)
    }

    async fn route_at(&self, server: &Server, topic: &str) -> Result<Option<TopicRoute>, LookupError> {
        let address = &server.address;
        let command = Command::request(request::GET_ROUTEINFO_BY_TOPIC)
            .field("topic", topic)
            .field("acceptStandardJsonOnly", true);
        let answer = self.ask(address, command).await?;
        let refused =
            |text: String| LookupError::Refused { address: address.clone(), code: answer.code, text };
        match answer.code {
            response::SUCCESS => TopicRoute::parse(&answer.body).map_err(|error| refused(error.to_string())),
            // Brokers register every 30 s: until then a restarted name server knows no topic at all.
            response::TOPIC_NOT_EXIST if self.is_blank(server).await? => {
                Err(LookupError::Blank { address: address.clone() })
            }
            response::TOPIC_NOT_EXIST => Ok(None),
            _ => Err(refused(answer.remark.clone().unwrap_or_default())),
        }
    }

    async fn is_blank(&self, server: &Server) -> Result<bool, LookupError> {
        if server.knew_brokers.lock().is_some_and(|since| since.elapsed() < KNOWS_BROKERS_FOR) {
            return Ok(false);
        }
        let answer = self.ask(&server.address, Command::request(request::GET_BROKER_CLUSTER_INFO)).await?;
        let blank =
            lenient::from_slice::<BrokerTable>(&answer.body).is_ok_and(|brokers| brokers.by_name.is_empty());
        *server.knew_brokers.lock() = (!blank).then(Instant::now);
        Ok(blank)
    }

    /// Every broker that a name server knows.
    pub(super) async fn brokers(&self) -> Result<Vec<BrokerOf>, LookupError> {
        let mut failed = LookupError::NoneConfigured;
        for server in &self.servers {
            match self.ask(&server.address, Command::request(request::GET_BROKER_CLUSTER_INFO)).await {
                Ok(answer) => {
                    let table: BrokerTable =
                        lenient::from_slice(&answer.body).map_err(|error| LookupError::Refused {
                            address: server.address.clone(),
                            code: answer.code,
                            text: error.to_string(),
                        })?;
                    let named =
                        |(name, broker): (String, NamedCluster)| BrokerOf { name, cluster: broker.cluster };
                    return Ok(table.by_name.into_iter().map(named).collect());
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Removes a cluster's topic from every name server. Other clusters may have a topic of the same name.
    pub(super) async fn forget_topic(&self, topic: &str, cluster: &str) -> Result<(), LookupError> {
        let command = Command::request(request::DELETE_TOPIC_IN_NAMESRV)
            .field("topic", topic)
            .field("clusterName", cluster);
        for server in &self.servers {
            self.ask(&server.address, command.clone()).await?;
        }
        Ok(())
    }

    async fn ask(&self, address: &str, command: Command) -> Result<Command, LookupError> {
        self.peers.call(address, command, self.within).await.map_err(LookupError::Unreachable)
    }
}

/// What matters here of all brokers that a name server knows (Apache's `ClusterInfo`).
#[derive(Deserialize)]
struct BrokerTable {
    #[serde(rename = "brokerAddrTable", default)]
    by_name: BTreeMap<String, NamedCluster>,
}

/// What matters here of a broker.
#[derive(Default, Deserialize)]
struct NamedCluster {
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
                    Command::request(response::SUCCESS).body(r#"{"brokerAddrTable":{"b":{}}}"#)
                }
                _ if command.text("topic") == Some(knows) => Command::request(response::SUCCESS).body(
                    r#"{"brokerDatas":[{"brokerName":"b","brokerAddrs":{0:"h:1"}}],"queueDatas":[{"brokerName":"b"}]}"#,
                ),
                _ => Command::request(response::TOPIC_NOT_EXIST),
            }
            })
        };
        let cluster = scripted::cluster(&[server("one").await, server("another").await]);
        for (topic, known) in [("one", true), ("another", true), ("none", false)] {
            assert_eq!(cluster.find_route(topic).await.unwrap().is_some(), known, "{topic}");
        }
    }
}
