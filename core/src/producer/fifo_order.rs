//! Keeps the order of FIFO messages: the messages of one message group are sent one after the other.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot::{self, error::TryRecvError};

/// A topic and a message group.
type SequenceKey = (String, String);

/// The message groups with sends in flight. The receiver of a group closes when its latest send has a result.
#[derive(Debug, Default)]
pub(super) struct FifoOrder(Mutex<HashMap<SequenceKey, oneshot::Receiver<()>>>);

/// Permission to send the next message of a group. Dropping it lets the following send start.
#[derive(Debug)]
pub(super) struct Turn {
    order: Arc<FifoOrder>,
    key: SequenceKey,
    /// Dropping the sender wakes the next send.
    done: Option<oneshot::Sender<()>>,
}

impl FifoOrder {
    /// Queues a send behind all other sends of the group. The future waits until those have a result.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        topic: String,
        group: String,
    ) -> impl Future<Output = Turn> + use<> {
        let key = (topic, group);
        let (done, end) = oneshot::channel();
        let before = self.0.lock().insert(key.clone(), end);
        let turn = Turn { order: self.clone(), key, done: Some(done) };
        async move {
            if let Some(before) = before {
                // Nothing is ever sent; the channel closes when the turn ends.
                let _ = before.await;
            }
            turn
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut order = self.order.0.lock();
        self.done = None;
        // Removes a group without sends, so that the map does not grow with every new group.
        if order.get_mut(&self.key).is_some_and(|end| end.try_recv() == Err(TryRecvError::Closed)) {
            order.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn join(order: &Arc<FifoOrder>, group: &str) -> futures::future::BoxFuture<'static, Turn> {
        order.enqueue("t".into(), group.into()).boxed()
    }

    #[test]
    fn the_sends_of_a_group_take_turns_in_the_order_of_their_calls() {
        let order = Arc::<FifoOrder>::default();
        let (mut first, mut second, mut third) = (join(&order, "a"), join(&order, "a"), join(&order, "a"));
        assert!((&mut third).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        let turn = (&mut first).now_or_never().unwrap();
        assert!((&mut second).now_or_never().is_none());
        drop(turn);
        assert!((&mut third).now_or_never().is_none());
        drop((&mut second).now_or_never().unwrap());
        assert!((&mut third).now_or_never().is_some());
    }

    #[test]
    fn groups_do_not_wait_for_each_other() {
        let order = Arc::<FifoOrder>::default();
        let (first, other) = (join(&order, "a"), join(&order, "b"));
        let _turn = first.now_or_never().unwrap();
        assert!(other.now_or_never().is_some());
    }

    #[test]
    fn a_group_is_removed_with_its_last_send() {
        let order = Arc::<FifoOrder>::default();
        for group in 0..1_000 {
            drop(join(&order, &group.to_string()).now_or_never());
        }
        let (first, second) = (join(&order, "a"), join(&order, "a"));
        drop(first.now_or_never());
        assert_eq!(order.0.lock().len(), 1);
        drop(second.now_or_never());
        assert!(order.0.lock().is_empty());
    }
}
