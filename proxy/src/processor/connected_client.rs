//! Connected clients as administrators see them.

use std::time::SystemTime;

/// Selects the clients to list. All clients match if both fields are `None`.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    /// If set, only clients of this group match.
    pub group: Option<String>,
    /// If set, only clients that send to this topic or subscribe to it match.
    pub topic: Option<String>,
}

/// A client with a session at this proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedClient {
    /// The client's id, which the client chooses.
    pub id: String,
    /// The address from which the client sent its settings.
    pub address: String,
    /// The programming language that the client reports; may be empty.
    pub language: String,
    /// The version that the client reports; may be empty.
    pub version: String,
    /// The client's namespace; usually empty.
    pub namespace: String,
    /// The client's type, such as `PRODUCER`.
    pub kind: String,
    /// The group of a consumer; otherwise empty.
    pub group: String,
    /// The topics that the client sends to or subscribes to, if it named them.
    pub topics: Vec<String>,
    /// When the client sent its settings.
    pub since: SystemTime,
    /// Whether the client's stream is open.
    pub connected: bool,
}

/// A list of connected clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientList {
    /// The clients, sorted by id.
    pub clients: Vec<ConnectedClient>,
    /// Whether some were left out because there are too many.
    pub truncated: bool,
}
