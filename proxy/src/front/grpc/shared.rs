//! What all requests of an entry share.

use std::sync::Arc;

use super::other_services::OtherServices;
use super::reader::RequestLimits;
use crate::front::route_addresses::ServedEntry;
use crate::processor::Processor;

/// What all requests of an entry share.
pub(super) struct Shared {
    pub(super) processor: Arc<Processor>,
    pub(super) other_services: OtherServices,
    pub(super) served: ServedEntry,
    pub(super) limits: RequestLimits,
}
