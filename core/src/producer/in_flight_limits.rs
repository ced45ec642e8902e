//! The limits of messages and bytes in flight.

use std::{sync::Arc, time::Instant};

use tokio::sync::{AcquireError, Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::{
    error::{Error, ErrorKind, Result},
    options::ProducerOptions,
};

/// Room for messages in flight, given out in the order of the calls.
pub(super) struct Room {
    /// Held while a message waits for room and is queued: two sends with different needs can't overtake each other.
    door: Mutex<()>,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
}

/// A message's share of the limits, until it is dropped.
pub(super) type Share = [OwnedSemaphorePermit; 2];

impl Room {
    pub(super) fn new(options: &ProducerOptions) -> Self {
        let max_bytes = u32::try_from(options.max_in_flight_bytes).unwrap_or(u32::MAX).max(1);
        let max_messages = options.max_in_flight_messages.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            door: Mutex::new(()),
            messages: Arc::new(Semaphore::new(max_messages)),
            bytes: Arc::new(Semaphore::new(max_bytes as usize)),
            max_bytes,
        }
    }

    /// Waits until the limits allow for a message of `size` bytes. Nobody else enters while the guard is held.
    ///
    /// # Errors
    ///
    /// `Timeout` at the deadline; `Closed` after [`close`](Self::close).
    pub(super) async fn enter(&self, size: usize, deadline: Instant) -> Result<(Share, MutexGuard<'_, ()>)> {
        if let Some(entry) = self.try_enter(size) {
            return Ok(entry);
        }
        let size = self.share_of(size);
        let wait = async {
            let door = self.door.lock().await;
            let message = self.messages.clone().acquire_owned().await?;
            let bytes = self.bytes.clone().acquire_many_owned(size).await?;
            Ok(([message, bytes], door))
        };
        match tokio::time::timeout_at(deadline.into(), wait).await {
            Ok(Ok(entry)) => Ok(entry),
            Ok(Err::<_, AcquireError>(_)) => Err(Error::closed("send")),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "send",
                "deadline expired while the limit of messages or bytes in flight was reached",
            )
            .with_retryable(true)),
        }
    }

    /// As [`enter`](Self::enter), if that is possible at once.
    pub(super) fn try_enter(&self, size: usize) -> Option<(Share, MutexGuard<'_, ()>)> {
        let door = self.door.try_lock().ok()?;
        let message = self.messages.clone().try_acquire_owned().ok()?;
        let bytes = self.bytes.clone().try_acquire_many_owned(self.share_of(size)).ok()?;
        Some(([message, bytes], door))
    }

    fn share_of(&self, size: usize) -> u32 {
        u32::try_from(size).unwrap_or(u32::MAX).min(self.max_bytes)
    }

    /// Lets those who wait fail.
    pub(super) fn close(&self) {
        self.messages.close();
        self.bytes.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn room(messages: usize, bytes: usize) -> Room {
        let options = ProducerOptions::default();
        Room::new(&options.max_in_flight_messages(messages).max_in_flight_bytes(bytes))
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_small_message_does_not_overtake_a_large_one() {
        let room = room(10, 10);
        let (first, door) = room.enter(8, later()).await.unwrap();
        drop(door);
        let (mut large, mut small) = (Box::pin(room.enter(9, later())), Box::pin(room.enter(1, later())));
        assert!(futures::poll!(&mut large).is_pending());
        assert!(futures::poll!(&mut small).is_pending());
        drop(first);
        // Even if it is polled first.
        assert!(futures::poll!(&mut small).is_pending());
        let (_share, door) = large.await.unwrap();
        assert!(futures::poll!(&mut small).is_pending());
        drop(door);
        drop(small.await.unwrap());
    }

    #[tokio::test]
    async fn a_message_above_the_limit_gets_all_of_it() {
        let room = room(0, 0);
        let (_share, _door) = room.enter(100, later()).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_fails_at_the_deadline_and_at_the_close() {
        let room = room(1, 10);
        let (_share, door) = room.enter(1, later()).await.unwrap();
        drop(door);
        assert_eq!(room.enter(1, Instant::now()).await.unwrap_err().kind(), ErrorKind::Timeout);
        room.close();
        assert_eq!(room.enter(1, later()).await.unwrap_err().kind(), ErrorKind::Closed);
    }
}
