//! Bounds the concurrent requests of administrators.

use tokio::sync::{Semaphore, SemaphorePermit};

/// The maximum number of requests that are carried out concurrently, because each may read much. Further ones wait.
const MAX_CONCURRENT_REQUESTS: usize = 4;

/// Bounds the concurrent requests of administrators.
pub(super) struct AdministrationPermits(Semaphore);

impl Default for AdministrationPermits {
    fn default() -> Self {
        Self(Semaphore::new(MAX_CONCURRENT_REQUESTS))
    }
}

impl AdministrationPermits {
    /// Waits until fewer requests are carried out.
    pub(super) async fn acquire(&self) -> SemaphorePermit<'_> {
        self.0.acquire().await.expect("the semaphore is never closed")
    }
}
