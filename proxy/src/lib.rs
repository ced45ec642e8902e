//! The reference proxy of rocketmq-thin, as a library: what the binary `rocketmq-thin-proxy` is made of.

pub mod backend;
pub mod service;
