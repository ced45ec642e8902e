//! The state that all requests of a port share.

use std::sync::Arc;

use super::config::HttpConfig;
use super::stream_deliveries::EventStreams;
use crate::context::EntryPoint;
use crate::front::port::TransportConfig;
use crate::processor::Processor;

/// The state that all requests of a port share.
pub(super) struct Shared {
    pub(super) processor: Arc<Processor>,
    pub(super) config: HttpConfig,
    pub(super) transport: TransportConfig,
    pub(super) entry: Arc<EntryPoint>,
    pub(super) streams: EventStreams,
}
