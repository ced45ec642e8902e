//! The status of a client, as it changes.

use std::{fmt, sync::Arc};

use futures::Stream;
use tokio::sync::watch;

use crate::{
    health::{Health, Status},
    rpc::Servers,
};

/// The changes of a client's status. It does not keep the client open.
pub struct StatusChanges {
    servers: Arc<Servers>,
    changed: watch::Receiver<()>,
    latest: Option<Status>,
}

impl StatusChanges {
    pub(super) fn new(servers: Arc<Servers>) -> Self {
        let changed = servers.monitor.changes();
        Self { servers, changed, latest: None }
    }

    /// The present health at first, then the health after each change of its status. The last one is `Closed`, when
    /// the client is closed or dropped; then `None`.
    ///
    /// Changes that nobody waited for are left out, except for the latest. Cancelling the future loses nothing.
    pub async fn next(&mut self) -> Option<Health> {
        if self.latest == Some(Status::Closed) {
            return None;
        }
        loop {
            self.changed.borrow_and_update();
            let health = self.servers.health();
            if self.latest != Some(health.status) {
                self.latest = Some(health.status);
                return Some(health);
            }
            // Never fails: the sender is in `servers`.
            let _ = self.changed.changed().await;
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Health> + Send {
        futures::stream::unfold(self, async |mut changes| Some((changes.next().await?, changes)))
    }
}

impl fmt::Debug for StatusChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusChanges").field("latest", &self.latest).finish_non_exhaustive()
    }
}
