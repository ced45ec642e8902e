//! The parts of the proxy from which metrics are read.

use std::sync::Arc;

use crate::front::port::{MemoryBudget, PortCounts};
use crate::layer::{AccessLog, MessageTrace, RequestMetrics, Spans};
use crate::processor::Processor;

/// The parts of the proxy from which metrics are read.
pub struct Sources {
    /// The counters of requests.
    pub requests: Arc<RequestMetrics>,
    /// The ports by name.
    pub ports: Vec<(Arc<str>, Arc<PortCounts>)>,
    /// The budget for the memory of requests.
    pub budget: Arc<MemoryBudget>,
    /// The access log, if it is on.
    pub access_log: Option<Arc<AccessLog>>,
    /// Message trace, if it is on.
    pub message_trace: Option<Arc<MessageTrace>>,
    /// Spans, if they are recorded.
    pub spans: Option<Arc<Spans>>,
    /// Topics, groups, quotas, clients and the store.
    pub processor: Arc<Processor>,
}
