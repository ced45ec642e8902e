//! The background tasks of the broker.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::disk_recovery;
use super::idle;
use super::last_attempts;
use super::retention::Retention;

impl Broker {
    /// Starts the background tasks. They run until `stop` is cancelled.
    pub(super) fn start_tasks(self: &Arc<Self>, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let (expiry, stopped) = (self.expiry.clone(), stop.clone());
        let lease_expiry = async move {
            stopped.run_until_cancelled(expiry.run()).await;
        };
        let (store, catalog) = (self.store.clone(), self.catalog.clone());
        let retention = Retention::new(store.clone(), catalog.clone(), &self.config);
        vec![
            tokio::spawn(lease_expiry),
            tokio::spawn(retention.run(stop.clone())),
            tokio::spawn(last_attempts::run(self.clone(), stop.clone())),
            tokio::spawn(idle::run(catalog.clone(), stop.clone())),
            tokio::spawn(disk_recovery::run(store, catalog, stop.clone())),
        ]
    }
}
