//! The proxy over real sockets: what its clients and its operator rely on.

mod admin;
mod drain;
mod port;
mod process;
mod receive;
mod send;
mod settle;
mod support;
mod telemetry;
