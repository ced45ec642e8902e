//! The `[transport]` section of the configuration: limits on connections and on the memory of their calls.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds on what connections may hold and how long they may take. They protect the process from peers that are
/// hostile or broken; what a valid request may ask for is in `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportConfig {
    /// Open connections. When they are used up, a new connection replaces the one that has been idle for the longest,
    /// preferably one whose protocol is still unknown 2 s after it was opened; if none is idle, the new one is refused.
    /// Lowered at start if the process may not open enough files.
    pub connections: usize,
    /// Open connections from one IP address. When they are used up, a new connection replaces one of them in the same way.
    pub connections_per_peer: usize,
    /// Concurrent calls of one connection, announced as HTTP/2's `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub streams_per_connection: u32,
    /// Concurrent calls of all connections, including receives that wait. The last eighth is for IP addresses (IPv6: /64
    /// networks) with less than a quarter.
    pub calls: usize,
    /// Bytes of one call's headers, as HTTP/2 counts them.
    pub header_bytes: u32,
    /// Bytes of one `SendMessage` request, as sent and when decompressed. Other requests may have 4 MiB at most.
    pub request_bytes: usize,
    /// Fields of one request at all levels, which bounds its size in memory.
    pub request_fields: usize,
    /// Bytes of requests and large answers that one connection may have in memory.
    pub bytes_per_connection: usize,
    /// Bytes of requests and large answers of all connections. When they are used up, requests that have not arrived
    /// completely are refused, oldest first. The last eighth is for IP addresses (IPv6: /64 networks) with less than a
    /// quarter. When only this is left, incomplete requests of the address with the most bytes are refused first.
    pub bytes: usize,
    /// How long a connection may take until its protocol is known, including PROXY header and TLS handshake.
    #[serde(with = "crate::duration")]
    pub handshake_timeout: Duration,
    /// How long a request may take to arrive.
    #[serde(with = "crate::duration")]
    pub request_timeout: Duration,
    /// How long a peer may take to accept the next part of an answer.
    #[serde(with = "crate::duration")]
    pub answer_timeout: Duration,
    /// A connection without calls is closed after this time.
    #[serde(with = "crate::duration")]
    pub idle_timeout: Duration,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_peer: 5_000,
            streams_per_connection: 4096,
            calls: 100_000,
            header_bytes: 8192,
            request_bytes: 64 << 20,
            request_fields: 1 << 16,
            bytes_per_connection: 128 << 20,
            bytes: 256 << 20,
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(600),
        }
    }
}
