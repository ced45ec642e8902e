//! The export of metrics that is in progress, if a server asks for one.

use parking_lot::Mutex;
use tokio_util::sync::DropGuard;

use super::call::Rpc;
use crate::options::Endpoints;

/// The periodic export, if a server asks for one.
#[derive(Debug, Default)]
pub(super) struct Exporter(pub(super) Mutex<Option<Export>>);

/// An export in progress.
#[derive(Debug)]
pub(super) struct Export {
    pub(super) target: Target,
    /// Ends the task when dropped.
    pub(super) _stop: DropGuard,
}

/// The collector, and the client id under which metrics are exported.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) collector: Endpoints,
    pub(super) rpc: Rpc,
}
