//! The parts of the soak: an honest client, hostile peers, and the proxy under test.

pub mod honest;
pub mod hostile;
pub mod machine;
mod peer;
pub mod server;
