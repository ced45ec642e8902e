//! The `[remoting]` section of the configuration.

use serde::{Deserialize, Serialize};

/// The remoting protocol, which classic clients (4.x and 5.x) and `mqadmin` speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemotingConfig {
    /// Whether the protocol is served on the proxy's main port, `listen`, beside gRPC.
    pub enabled: bool,
    /// An additional address that serves this protocol alone, `host:port`. Apache's proxy uses port 8080.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// The addresses of all proxies of a fleet, `host:port`, as clients can reach them. Routes contain them, so that a
    /// client that loses one proxy continues at another. By default, routes contain the address that the client has
    /// connected to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Groups whose push consumers read their queues by offset, as they do from Apache's brokers: names, or prefixes
    /// followed by `*`. The messages of a queue then wait for the one consumer to which the queue is assigned, even if
    /// it is stuck. By default, messages go to any consumer of the group that can take more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_by_offset: Vec<String>,
}

impl Default for RemotingConfig {
    fn default() -> Self {
        Self { enabled: true, listen: None, addresses: Vec::new(), pull_by_offset: Vec::new() }
    }
}
