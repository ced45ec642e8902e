//! What servers ask or tell a client over telemetry, on its way to whoever handles it.

use parking_lot::Mutex;
use tokio::sync::mpsc;

/// A bounded queue, once somebody has subscribed to it.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    subscriber: Mutex<Option<mpsc::Sender<T>>>,
    room: usize,
}

impl<T> Inbox<T> {
    /// A queue of up to `room` items.
    pub(super) fn new(room: usize) -> Self {
        Self { subscriber: Mutex::new(None), room }
    }

    /// The items from now on. Replaces an earlier subscriber.
    pub(super) fn subscribe(&self) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::channel(self.room);
        *self.subscriber.lock() = Some(sender);
        receiver
    }

    /// Hands an item to the subscriber. Returns whether there is one, and has room for it.
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
        assert!(!inbox.offer(0), "nobody has subscribed");
        let mut receiver = inbox.subscribe();
        assert!(inbox.offer(1) && inbox.offer(2));
        assert!(!inbox.offer(3), "the queue is full");
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(1), Ok(2)));
        drop(receiver);
        assert!(!inbox.offer(4), "the subscriber is gone");
    }
}
