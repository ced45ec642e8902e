//! The reference proxy of rocketmq-thin, as a library for the binary `rocketmq-thin-proxy` and its tests.
//!
//! ```text
//! main -> cli -> app: config -> backend -> processor -> layers -> front end -> run
//! ```

pub mod app;
pub mod backend;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod context;
mod counts;
mod decompression;
mod durable_file;
mod duration;
pub mod error;
mod file_version;
pub mod front;
pub mod histogram;
mod host_share;
#[cfg(feature = "http")]
mod json_schema;
pub mod layer;
pub mod log_level;
pub mod otlp;
mod pattern;
pub mod processor;
pub mod remoting;
pub mod service;
