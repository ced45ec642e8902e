//! The state that the connections of all entries share.

use std::sync::Arc;

use super::config::RemotingConfig;
use super::consume::RequestModes;
use super::members::Members;
use crate::processor::Processor;

/// The state that the connections of all entries share: a group may have members at several entries.
pub(super) struct Shared {
    pub(super) processor: Arc<Processor>,
    pub(super) config: RemotingConfig,
    pub(super) members: Arc<Members>,
    pub(super) modes: RequestModes,
}
