//! Protocol adapters: the only code that knows a protocol.

pub mod face;
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
pub mod metrics;
mod outgoing;
pub mod port;
pub mod remoting;
