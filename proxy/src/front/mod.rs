//! Protocol adapters: the only code that knows a protocol.

pub mod face;
pub mod grpc;
pub mod metrics;
pub mod port;
pub mod remoting;
