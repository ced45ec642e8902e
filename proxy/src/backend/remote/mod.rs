//! The backend for Apache RocketMQ clusters: calls name servers and brokers in the remoting protocol.
//!
//! ```text
//! services                  the service traits
//!   -> send pop settle metadata transactions lite pull recall    one file per capability: send a command, read the answer
//!   -> cluster              routes, masters, brokers to avoid
//!   -> peers -> connection  one multiplexed connection per address
//! ```
//!
//! Requests are independent of each other: a lease carries its broker's coordinates, and routes and configurations are
//! only cached. The protocol is that of Apache's `remoting` and `broker` modules, 5.5.0.

mod acl;
mod administration;
mod answer;
mod batch_ack;
mod broker_requests;
mod cache;
mod changes;
mod circuit_breaker;
mod cluster;
mod config;
mod connection;
mod connection_state;
mod convert;
mod error;
mod filter;
mod fleet;
mod half_message;
mod handle;
mod heartbeat;
mod incoming;
mod lite;
mod metadata;
mod name_servers;
mod options;
mod peers;
mod pop;
mod pull;
mod queue_locks;
mod recall;
mod replies;
mod responder;
mod round_robin;
#[cfg(test)]
mod scripted;
mod send;
mod services;
mod settle;
mod topology;
mod transactions;

pub use options::{BrokerCredentials, RemoteConfig};
pub use services::open;
