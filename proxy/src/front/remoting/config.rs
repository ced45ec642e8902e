use serde::{Deserialize, Serialize};

/// The remoting protocol, which classic clients (4.x and 5.x) and `mqadmin` speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemotingConfig {
    /// Whether it is served on `listen`, beside gRPC.
    pub enabled: bool,
    /// A port of its own, `host:port`, in addition. Apache's proxy has 8080.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// The addresses of all proxies of a fleet, `host:port`, as clients can reach them. Routes name them, so that a client
    /// that loses one goes on at another. By default routes name the address that the client has connected to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Groups whose push consumers read their queues by offset, as they do from Apache's brokers: names, or prefixes that end
    /// with a star. The messages of a queue then wait for the one consumer that has the queue, whatever happens to it. By
    /// default, messages go to any consumer of the group that has room.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_by_offset: Vec<String>,
}

impl Default for RemotingConfig {
    fn default() -> Self {
        Self { enabled: true, listen: None, addresses: Vec::new(), pull_by_offset: Vec::new() }
    }
}
