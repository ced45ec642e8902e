//! A stream of the changes of a client's status.

use std::{fmt, sync::Arc};

use futures::Stream;
use tokio::sync::watch;

use crate::{
    health::{Health, Status},
    rpc::ClientContext,
};

/// The changes of a client's status, from [`Client::status_changes`](crate::Client::status_changes). Does not keep
/// the client open.
pub struct StatusChanges {
    context: Arc<ClientContext>,
    changed: watch::Receiver<()>,
    latest: Option<Status>,
}

impl StatusChanges {
    pub(super) fn new(context: Arc<ClientContext>) -> Self {
        let changed = context.monitor.changes();
        Self { context, changed, latest: None }
    }

    /// Returns the current health on the first call, then waits for the next change of the status. The last status is
    /// `Closed`, after the client is closed or dropped; further calls return `None`.
    ///
    /// If the status changed several times between two calls, only the latest is returned. Cancel safe.
    pub async fn next(&mut self) -> Option<Health> {
        if self.latest == Some(Status::Closed) {
            return None;
        }
        loop {
            self.changed.borrow_and_update();
            let health = self.context.health();
            if self.latest != Some(health.status) {
                self.latest = Some(health.status);
                return Some(health);
            }
            // Never fails: the sender is in `servers`.
            let _ = self.changed.changed().await;
        }
    }

    /// Converts to a stream of what [`next`](Self::next) returns.
    pub fn into_stream(self) -> impl Stream<Item = Health> + Send {
        futures::stream::unfold(self, async |mut changes| Some((changes.next().await?, changes)))
    }
}

impl fmt::Debug for StatusChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusChanges").field("latest", &self.latest).finish_non_exhaustive()
    }
}
