//! Limits the number and total size of the messages in flight.

use std::{sync::Arc, time::Instant};

use tokio::sync::{AcquireError, Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::{
    error::{Error, ErrorKind, Result},
    options::ProducerOptions,
};

/// The limits of a producer. Grants permits in the order of the calls.
pub(super) struct InFlightLimits {
    /// Held while a message waits for its permits and until it is queued, so that a small message does not overtake a
    /// large one.
    order: Mutex<()>,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
}

/// The permits of one message: one for the message, and one for its bytes. Dropping them frees the capacity.
pub(super) type InFlightPermits = [OwnedSemaphorePermit; 2];

/// A message that the limits allow to be sent.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    /// Held until the message has its result.
    pub(super) permits: InFlightPermits,
    /// No other message is admitted while it is held.
    pub(super) order: MutexGuard<'a, ()>,
}

impl InFlightLimits {
    pub(super) fn new(options: &ProducerOptions) -> Self {
        let max_bytes = u32::try_from(options.max_in_flight_bytes).unwrap_or(u32::MAX);
        let max_messages = options.max_in_flight_messages.min(Semaphore::MAX_PERMITS);
        Self {
            order: Mutex::new(()),
            messages: Arc::new(Semaphore::new(max_messages)),
            bytes: Arc::new(Semaphore::new(max_bytes as usize)),
            max_bytes,
        }
    }

    /// Waits until the limits allow a message with a body of `size` bytes. No other call is granted permits while the
    /// returned guard is held.
    ///
    /// # Errors
    ///
    /// `Timeout` at the deadline; `Closed` after [`close`](Self::close).
    pub(super) async fn acquire(&self, size: usize, deadline: Instant) -> Result<Admission<'_>> {
        if let Some(admission) = self.try_acquire(size) {
            return Ok(admission);
        }
        let size = self.byte_permits(size);
        let wait = async {
            let order = self.order.lock().await;
            let message = self.messages.clone().acquire_owned().await?;
            let bytes = self.bytes.clone().acquire_many_owned(size).await?;
            Ok(Admission { permits: [message, bytes], order })
        };
        match tokio::time::timeout_at(deadline.into(), wait).await {
            Ok(Ok(admission)) => Ok(admission),
            Ok(Err::<_, AcquireError>(_)) => Err(Error::closed("send")),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "send",
                "deadline expired while the limit of messages or bytes in flight was reached",
            )
            .with_retryable(true)),
        }
    }

    /// Like [`acquire`](Self::acquire), but returns `None` instead of waiting.
    pub(super) fn try_acquire(&self, size: usize) -> Option<Admission<'_>> {
        let order = self.order.try_lock().ok()?;
        let message = self.messages.clone().try_acquire_owned().ok()?;
        let bytes = self.bytes.clone().try_acquire_many_owned(self.byte_permits(size)).ok()?;
        Some(Admission { permits: [message, bytes], order })
    }

    /// The number of byte permits for a body of `size` bytes. A body above the limit takes all of them.
    fn byte_permits(&self, size: usize) -> u32 {
        u32::try_from(size).unwrap_or(u32::MAX).min(self.max_bytes)
    }

    /// Makes waiting and later calls fail.
    pub(super) fn close(&self) {
        self.messages.close();
        self.bytes.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(messages: usize, bytes: usize) -> InFlightLimits {
        let options = ProducerOptions::default();
        InFlightLimits::new(&options.max_in_flight_messages(messages).max_in_flight_bytes(bytes))
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_small_message_does_not_overtake_a_large_one() {
        let limits = limits(10, 10);
        let Admission { permits: first, order } = limits.acquire(8, later()).await.unwrap();
        drop(order);
        let (mut large, mut small) =
            (Box::pin(limits.acquire(9, later())), Box::pin(limits.acquire(1, later())));
        assert!(futures::poll!(&mut large).is_pending());
        assert!(futures::poll!(&mut small).is_pending());
        drop(first);
        // The small message waits even if it is polled first.
        assert!(futures::poll!(&mut small).is_pending());
        let Admission { permits: _permits, order } = large.await.unwrap();
        assert!(futures::poll!(&mut small).is_pending());
        drop(order);
        drop(small.await.unwrap());
    }

    #[tokio::test]
    async fn a_message_above_the_limit_gets_all_of_it() {
        let limits = limits(1, 1);
        let _admission = limits.acquire(100, later()).await.unwrap();
    }

    #[tokio::test]
    async fn a_waiting_send_fails_at_the_deadline_and_at_the_close() {
        let limits = limits(1, 10);
        let Admission { permits: _permits, order } = limits.acquire(1, later()).await.unwrap();
        drop(order);
        assert_eq!(limits.acquire(1, Instant::now()).await.unwrap_err().kind(), ErrorKind::Timeout);
        limits.close();
        assert_eq!(limits.acquire(1, later()).await.unwrap_err().kind(), ErrorKind::Closed);
    }
}
