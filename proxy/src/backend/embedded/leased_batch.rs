//! Messages that a receive has taken and not returned yet. Gives them back if the receive is cancelled.

use std::sync::Arc;

use super::clock;
use super::lease::Lease;
use super::progress::Progress;
use super::progress_writer::{ProgressWriter, Written};
use crate::service::{Delivery, ServiceError};

/// Messages under new leases. If this is dropped before [`LeasedBatch::into_deliveries`] because the receive was
/// cancelled, the messages are given back.
pub(super) struct LeasedBatch {
    pub(super) writer: Arc<ProgressWriter>,
    pub(super) progress: Arc<Progress>,
    /// The token of the leases.
    pub(super) token: u64,
    pub(super) deliveries: Vec<Delivery>,
    /// The pending write of the leases. `None` once it has ended.
    pub(super) written: Option<Written>,
}

impl LeasedBatch {
    /// Waits until the leases are written.
    ///
    /// # Errors
    /// `Unavailable`. The batch is empty then.
    pub(super) async fn written(&mut self) -> Result<(), ServiceError> {
        let Some(written) = self.written.take() else { return Ok(()) };
        let written = written.done().await;
        if written.is_err() {
            // The leases are dropped with the group's progress.
            self.deliveries.clear();
        }
        written
    }

    /// Returns the messages, after their leases were written.
    pub(super) fn into_deliveries(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for LeasedBatch {
    fn drop(&mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        // If the state was dropped, the leases were not written.
        let Ok(mut transaction) = self.progress.begin() else { return };
        let visible_at = clock::monotonic();
        for delivery in &self.deliveries {
            let queue = transaction.queue(delivery.queue_id as usize);
            let offset = delivery.queue_offset as u64;
            let lease = queue.leases().get(offset).filter(|lease| lease.token == self.token).cloned();
            if let Some(lease) = lease {
                queue.lease(offset, Lease { visible_at, uncounted: true, ..lease });
            }
        }
        // Nobody waits for the write. If it fails, the messages are delivered again anyway.
        drop(transaction.commit(&self.writer));
        drop(transaction);
        self.progress.wake(self.deliveries.len());
    }
}
