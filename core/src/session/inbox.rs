//! A queue of commands that servers send over telemetry, for the part of the client that handles them.

use parking_lot::Mutex;
use tokio::sync::mpsc;

/// A bounded queue with at most one subscriber. Without one, items are refused.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    subscriber: Mutex<Option<mpsc::Sender<T>>>,
    capacity: usize,
}

impl<T> Inbox<T> {
    /// Creates a queue for up to `capacity` items.
    pub(super) fn new(capacity: usize) -> Self {
        Self { subscriber: Mutex::new(None), capacity }
    }

    /// Subscribes to the items from now on. Replaces an earlier subscriber.
    pub(super) fn subscribe(&self) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::channel(self.capacity);
        *self.subscriber.lock() = Some(sender);
        receiver
    }

    /// Whether there is a subscriber.
    pub(super) fn has_subscriber(&self) -> bool {
        self.subscriber.lock().as_ref().is_some_and(|subscriber| !subscriber.is_closed())
    }

    /// Queues an item for the subscriber. Returns `false` if there is no subscriber, or its queue is full.
    pub(super) fn offer(&self, item: T) -> bool {
        let subscriber = self.subscriber.lock().clone();
        subscriber.is_some_and(|subscriber| subscriber.try_send(item).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_receives_items_in_order_up_to_the_limit() {
        let inbox = Inbox::new(2);
        assert!(!inbox.offer(0) && !inbox.has_subscriber());
        let mut receiver = inbox.subscribe();
        assert!(inbox.has_subscriber());
        assert!(inbox.offer(1) && inbox.offer(2));
        assert!(!inbox.offer(3), "the queue is full");
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(1), Ok(2)));
        drop(receiver);
        assert!(!inbox.offer(4) && !inbox.has_subscriber(), "the subscriber is gone");
    }
}
