//! Real brokers: an Apache RocketMQ cluster behind its name servers, spoken to in the remoting protocol.
//!
//! ```text
//! Remote (the service traits)
//!   -> cluster            routes, masters, which broker to leave out
//!   -> send pop settle metadata      one file per capability: build, ask, read
//!   -> peers -> connection                                    one multiplexed connection per address
//! ```
//!
//! Nothing is remembered that a request needs: a lease carries its broker's coordinates, and
//! routes and configurations are caches. Facts about the protocol: Apache's `remoting` and `broker` modules,
//! 5.5.0.

mod answer;
mod batch_ack;
mod broker_requests;
mod cache;
mod circuit_breaker;
mod cluster;
mod config;
mod connection;
mod convert;
mod error;
mod handle;
mod lite;
mod metadata;
mod name_servers;
mod options;
mod peers;
mod pop;
mod pull;
mod recall;
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
