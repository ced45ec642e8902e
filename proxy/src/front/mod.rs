//! Front ends: each adapts one protocol to the processor. No other code of the proxy knows a client protocol.

pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
mod json_values;
pub mod metrics;
pub mod port;
pub mod remoting;
pub mod route_addresses;
mod unsent_deliveries;
