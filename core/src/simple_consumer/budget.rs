//! Limits how many messages and bytes wait for the application.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::message::Delivery;

/// A limit of messages and bytes, shared by all polls of one stream.
pub(crate) struct Budget {
    max_messages: usize,
    max_bytes: usize,
    messages: Arc<Semaphore>,
    bytes: Mutex<usize>,
    freed: Notify,
}

/// Room for messages that are about to be fetched or that wait for the application. Dropping it frees the room.
pub(crate) struct Reservation {
    messages: OwnedSemaphorePermit,
    bytes: usize,
    budget: Arc<Budget>,
}

impl Budget {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Arc<Self> {
        let max_messages = max_messages.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            max_messages,
            max_bytes: max_bytes.max(1),
            messages: Arc::new(Semaphore::new(max_messages)),
            bytes: Mutex::new(0),
            freed: Notify::new(),
        })
    }

    pub(crate) fn max_messages(&self) -> usize {
        self.max_messages
    }

    /// Waits until there is room for a message, and reserves room for up to `wanted` messages of about `size` bytes.
    ///
    /// Waiting calls are served in the order in which they began.
    pub(crate) async fn reserve(self: &Arc<Self>, wanted: usize, size: usize) -> Reservation {
        let permit = self.messages.clone().acquire_owned().await;
        let mut messages = permit.expect("the semaphore is never closed");
        loop {
            let freed = self.freed.notified();
            if let Some(free) = self.free_bytes() {
                let fitting = (free / size.max(1)).clamp(1, wanted.max(1));
                let more = (fitting - 1).min(self.messages.available_permits());
                if let Ok(more) = self.messages.clone().try_acquire_many_owned(more as u32) {
                    messages.merge(more);
                }
                let bytes = messages.num_permits().saturating_mul(size);
                *self.bytes.lock() += bytes;
                return Reservation { messages, bytes, budget: self.clone() };
            }
            freed.await;
        }
    }

    fn free_bytes(&self) -> Option<usize> {
        self.max_bytes.checked_sub(*self.bytes.lock()).filter(|free| *free > 0)
    }
}

impl Reservation {
    /// How many messages the reservation covers.
    pub(crate) fn messages(&self) -> usize {
        self.messages.num_permits()
    }

    /// Splits the reservation into one for each delivery, by the size of its body. Frees the rest.
    pub(crate) fn divide(mut self, deliveries: &[Delivery]) -> Vec<Option<Self>> {
        let budget = self.budget.clone();
        deliveries
            .iter()
            .map(|delivery| {
                let bytes = delivery.body.len();
                let messages = self.messages.split(1)?;
                *budget.bytes.lock() += bytes;
                Some(Self { messages, bytes, budget: budget.clone() })
            })
            .collect()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        *self.budget.bytes.lock() -= self.bytes;
        self.budget.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_reservation_is_granted_up_to_the_limits_of_messages_and_bytes() {
        for (max_messages, max_bytes, wanted, size, given) in [
            (8, 1000, 5, 10, 5),
            (8, 1000, 100, 10, 8),
            (8, 35, 100, 10, 3),
            (8, 5, 100, 10, 1),
            (0, 0, 100, 10, 1),
            (8, 1000, 0, 0, 1),
        ] {
            let budget = Budget::new(max_messages, max_bytes);
            let reservation = budget.reserve(wanted, size).now_or_never().unwrap();
            assert_eq!(reservation.messages(), given, "{max_messages} {max_bytes} {wanted} {size}");
        }
    }

    #[test]
    fn room_is_free_again_when_it_is_dropped() {
        let budget = Budget::new(2, 100);
        let first = budget.reserve(2, 10).now_or_never().unwrap();
        assert!(budget.reserve(1, 10).now_or_never().is_none());
        drop(first);
        let all_bytes = budget.reserve(1, 100).now_or_never().unwrap();
        let mut waiting = tokio_test(budget.clone());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(all_bytes);
        assert_eq!(waiting.now_or_never().unwrap().messages(), 1);
    }

    fn tokio_test(budget: Arc<Budget>) -> futures::future::BoxFuture<'static, Reservation> {
        async move { budget.reserve(1, 10).await }.boxed()
    }
}
