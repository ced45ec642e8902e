//! The proxy over real sockets: what its clients and its operator rely on.

mod access;
mod admin;
mod classic;
mod classic_broker;
mod classic_consumer;
mod classic_queue;
mod classic_retry;
mod classic_tools;
mod dead_letters;
mod drain;
mod groups;
mod inspect;
mod limits;
mod metrics;
mod port;
mod process;
mod pull;
mod raw;
mod receive;
mod remoting;
mod send;
mod settle;
mod store;
mod support;
mod telemetry;
mod topics;
