//! The limits of the requests at a port.

use std::sync::Arc;

use super::config::TransportConfig;
use super::memory_budget::MemoryBudget;

/// The limits of the requests at a port.
#[derive(Clone)]
pub struct PortLimits {
    /// The limits of each connection and request.
    pub transport: TransportConfig,
    /// The budget for the memory of all requests.
    pub budget: Arc<MemoryBudget>,
}
