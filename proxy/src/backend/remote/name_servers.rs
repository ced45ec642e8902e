use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::error::CallError;
use super::peers::Peers;
use super::topology::TopicRoute;
use crate::remoting::{Command, request, response};

/// The name servers: equal peers, each of which knows every broker. One is asked as long as it answers.
pub(super) struct NameServers {
    addresses: Vec<String>,
    chosen: AtomicUsize,
    peers: Arc<Peers>,
    within: Duration,
}

/// Why no name server told a route.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// None of them could be asked.
    #[error("no name server answered: {0}")]
    Unreachable(CallError),
    /// One answered, and refused or made no sense.
    #[error("name server {address} answered code {code}: {text}")]
    Refused {
        /// Who.
        address: String,
        /// Its response code.
        code: i32,
        /// Its words.
        text: String,
    },
    /// No addresses are configured.
    #[error("no name server is configured")]
    NoneConfigured,
}

impl NameServers {
    /// `addresses` as in Apache's `namesrvAddr`: `host:port;host:port`.
    pub(super) fn new(addresses: &str, peers: Arc<Peers>, within: Duration) -> Self {
        let addresses: Vec<_> = addresses
            .split([';', ','])
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(str::to_owned)
            .collect();
        // Proxies of a fleet begin with different name servers.
        let chosen = AtomicUsize::new(std::process::id() as usize);
        Self { addresses, chosen, peers, within }
    }

    /// A topic's route; `None` if the topic surely has none.
    pub(super) async fn route(&self, topic: &str) -> Result<Option<TopicRoute>, LookupError> {
        let command = Command::request(request::GET_ROUTEINFO_BY_TOPIC)
            .field("topic", topic)
            .field("acceptStandardJsonOnly", true);
        let (address, answer) = self.ask(command).await?;
        let refused =
            |text: String| LookupError::Refused { address: address.to_owned(), code: answer.code, text };
        match answer.code {
            response::SUCCESS => TopicRoute::parse(&answer.body).map_err(|error| refused(error.to_string())),
            response::TOPIC_NOT_EXIST => Ok(None),
            _ => Err(refused(answer.remark.clone().unwrap_or_default())),
        }
    }

    /// Removes a topic from every name server.
    pub(super) async fn forget_topic(&self, topic: &str) -> Result<(), LookupError> {
        let command = Command::request(request::DELETE_TOPIC_IN_NAMESRV).field("topic", topic);
        for address in &self.addresses {
            self.peers.call(address, command.clone(), self.within).await.map_err(LookupError::Unreachable)?;
        }
        Ok(())
    }

    /// Asks the chosen server, or the first after it that answers; that one is the chosen one then.
    async fn ask(&self, command: Command) -> Result<(&str, Command), LookupError> {
        let chosen = self.chosen.load(Ordering::Relaxed);
        let mut failed = LookupError::NoneConfigured;
        for step in 0..self.addresses.len() {
            let address = &self.addresses[(chosen + step) % self.addresses.len()];
            match self.peers.call(address, command.clone(), self.within).await {
                Ok(answer) => {
                    self.chosen.store(chosen + step, Ordering::Relaxed);
                    return Ok((address, answer));
                }
                Err(error) => failed = LookupError::Unreachable(error),
            }
        }
        Err(failed)
    }
}
