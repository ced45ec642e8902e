//! The remoting front end: RocketMQ's older protocol, as classic clients (4.x and 5.x) and `mqadmin` speak it. To them, the
//! proxy is the name server and every broker at once.
//!
//! ```text
//! connection (frames, tasks, drain) -> dispatch (code) -> one file per family of requests -> Processor::run
//!      link: answers, and requests to the client      session, members: what is known of a connection's client
//! ```
//! What is known of a connection is soft state. Codes and texts are those of Apache's brokers, where these have one.

mod admin_broker;
mod admin_catalog;
mod admin_reset;
mod admin_rights;
mod admin_stats;
mod admin_users;
mod client;
mod config;
mod connection;
mod consume;
mod decode;
mod dispatch;
mod frames;
mod heartbeat;
mod late;
mod link;
mod members;
mod members_list;
mod memory;
mod message;
mod name_server;
mod position;
mod pushes;
mod relay;
mod reply;
mod request;
mod send;
mod session;
mod status;
mod topic_route;
mod transaction;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;

pub use config::RemotingConfig;
#[doc(hidden)]
pub use decode::decode as fuzz_frames;

use crate::front::face::Face;
use crate::front::port::{
    Budget, Connection, Greeting, Protocol, Recognition, Refused, Stream, TransportConfig,
};
use crate::processor::Processor;
use consume::RequestModes;
use members::Members;

/// The front end. [`Server::at`] makes that of an entry.
pub struct Server {
    shared: Arc<Shared>,
    budget: Arc<Budget>,
}

/// Serves the connections of one entry.
pub struct Entry {
    shared: Arc<Shared>,
    face: Face,
    budget: Arc<Budget>,
    transport: TransportConfig,
}

/// What the connections of all entries share: a group has members at any of them.
struct Shared {
    processor: Arc<Processor>,
    config: RemotingConfig,
    members: Members,
    modes: RequestModes,
}

impl Server {
    /// A front end over these rules.
    #[must_use]
    pub fn new(processor: Arc<Processor>, config: &RemotingConfig, budget: Arc<Budget>) -> Self {
        let shared = Shared {
            processor,
            config: config.clone(),
            members: Members::default(),
            modes: RequestModes::default(),
        };
        Self { shared: Arc::new(shared), budget }
    }

    /// The front end of an entry.
    #[must_use]
    pub fn at(&self, face: &Face, transport: &TransportConfig) -> Entry {
        let (shared, budget) = (self.shared.clone(), self.budget.clone());
        Entry { shared, face: face.clone(), budget, transport: transport.clone() }
    }
}

#[async_trait]
impl Protocol for Entry {
    fn alpn(&self) -> Option<&'static [u8]> {
        None
    }

    fn recognize(&self, greeting: Greeting<'_>) -> Recognition {
        recognize(greeting)
    }

    /// Nothing can be said before a request. Clients try again, here or at another proxy.
    fn refusal(&self, _: Refused) -> Vec<u8> {
        Vec::new()
    }

    async fn serve(&self, stream: Stream, connection: Connection) -> io::Result<()> {
        let serving =
            connection::Serving::new(self.shared.clone(), &self.face, self.budget.connection(), connection);
        serving.run(stream, &self.transport).await
    }
}

/// A frame begins with its length. The first of the four bytes is 0, as frames are shorter than 16 MiB.
fn recognize(greeting: Greeting<'_>) -> Recognition {
    match greeting.first.first() {
        _ if greeting.alpn.is_some() => Recognition::No,
        None => Recognition::Undecided,
        Some(0) => Recognition::Yes,
        Some(_) => Recognition::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_a_frame() {
        let recognize = |first, alpn| recognize(Greeting { first, encrypted: false, alpn });
        assert_eq!(recognize(&[][..], None), Recognition::Undecided);
        assert_eq!(recognize(&[0, 0, 1][..], None), Recognition::Yes);
        assert_eq!(recognize(&b"PRI * HTTP/2.0"[..], None), Recognition::No);
        assert_eq!(recognize(&[0][..], Some(&b"h2"[..])), Recognition::No);
    }
}
