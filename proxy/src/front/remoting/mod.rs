//! The remoting front end: RocketMQ's older protocol, as classic clients (4.x and 5.x) and `mqadmin` speak it. To them,
//! the proxy is the name server and every broker at once.
//!
//! ```text
//! connection (frames, tasks, drain) -> dispatch (code) -> one file per family of requests -> Processor::run
//!      connection_writer: answers, and requests to the client      client_connection, members: what clients have registered
//! ```
//! All state of a connection is soft. Codes and texts are those of Apache's brokers, as far as these have an equivalent.

mod admin_broker;
mod admin_catalog;
mod admin_reset;
mod admin_rights;
mod admin_stats;
mod admin_users;
mod answer;
mod answer_bodies;
mod client;
mod client_connection;
mod config;
mod connection;
mod connection_writer;
mod consume;
mod dispatch;
mod drain;
mod frames;
mod fuzz;
mod heartbeat;
mod inflate;
mod log_position;
mod members;
mod members_list;
mod message;
mod name_server;
mod pushes;
mod relay;
mod reply;
mod request;
mod request_charge;
mod send;
mod shared;
mod status;
mod topic_route;
mod transaction;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;

pub use config::RemotingConfig;
#[doc(hidden)]
pub use fuzz::decode_frames as fuzz_frames;

use crate::front::port::{
    Connection, ConnectionStart, MemoryBudget, Protocol, Recognition, Refused, Stream, TransportConfig,
};
use crate::front::route_addresses::ServedEntry;
use crate::processor::Processor;
use consume::RequestModes;
use shared::Shared;

/// The front end of all entries. [`Server::at`] creates the front end of one entry.
pub struct Server {
    shared: Arc<Shared>,
    budget: Arc<MemoryBudget>,
}

/// Serves the connections of one entry.
pub struct Entry {
    shared: Arc<Shared>,
    served: ServedEntry,
    budget: Arc<MemoryBudget>,
    transport: TransportConfig,
}

impl Server {
    /// Creates a front end for this processor.
    #[must_use]
    pub fn new(processor: Arc<Processor>, config: &RemotingConfig, budget: Arc<MemoryBudget>) -> Self {
        let shared = Shared {
            processor,
            config: config.clone(),
            members: Arc::default(),
            modes: RequestModes::default(),
        };
        Self { shared: Arc::new(shared), budget }
    }

    /// Creates the front end of an entry.
    #[must_use]
    pub fn at(&self, served: &ServedEntry, transport: &TransportConfig) -> Entry {
        let (shared, budget) = (self.shared.clone(), self.budget.clone());
        Entry { shared, served: served.clone(), budget, transport: transport.clone() }
    }
}

#[async_trait]
impl Protocol for Entry {
    fn alpn(&self) -> Option<&'static [u8]> {
        None
    }

    fn recognize(&self, start: ConnectionStart<'_>) -> Recognition {
        recognize(start)
    }

    /// Empty: the protocol has no message that a server may send before a request. Clients try again, here or at
    /// another proxy.
    fn refusal(&self, _: Refused) -> Vec<u8> {
        Vec::new()
    }

    async fn serve(&self, stream: Stream, connection: Connection) -> io::Result<()> {
        let served = connection::ServedConnection::new(
            self.shared.clone(),
            &self.served,
            self.budget.connection(connection.peer()),
            connection,
        );
        served.run(stream, &self.transport).await
    }
}

/// Recognizes a frame by its length, with which it begins. The first of its four bytes is 0, as frames are shorter than
/// 16 MiB.
fn recognize(start: ConnectionStart<'_>) -> Recognition {
    match start.first.first() {
        _ if start.alpn.is_some() => Recognition::No,
        None => Recognition::Undecided,
        Some(0) => Recognition::Yes,
        Some(_) => Recognition::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_recognized_by_its_first_byte() {
        let recognize = |first, alpn| recognize(ConnectionStart { first, encrypted: false, alpn });
        assert_eq!(recognize(&[][..], None), Recognition::Undecided);
        assert_eq!(recognize(&[0, 0, 1][..], None), Recognition::Yes);
        assert_eq!(recognize(&b"PRI * HTTP/2.0"[..], None), Recognition::No);
        assert_eq!(recognize(&[0][..], Some(&b"h2"[..])), Recognition::No);
    }
}
