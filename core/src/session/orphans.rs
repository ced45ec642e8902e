//! Orphan checks, from the telemetry streams of a producer to whoever decides them.

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::message::Orphan;

/// The maximum number of checks that wait. Each holds a message. The server repeats a check that is dropped.
const MAX_WAITING: usize = 16;

/// A bounded queue of checks, once somebody has subscribed to them.
#[derive(Debug, Default)]
pub(super) struct OrphanChecks(Mutex<Option<mpsc::Sender<Orphan>>>);

impl OrphanChecks {
    /// The checks from now on. Replaces an earlier subscriber.
    pub(super) fn subscribe(&self) -> mpsc::Receiver<Orphan> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        *self.0.lock() = Some(sender);
        receiver
    }

    /// Hands a check to the subscriber. Returns whether there is one, and has room for it.
    pub(super) fn offer(&self, check: Orphan) -> bool {
        let subscriber = self.0.lock().clone();
        let transaction_id = check.transaction_id.clone();
        let accepted = subscriber.is_some_and(|subscriber| subscriber.try_send(check).is_ok());
        if !accepted {
            tracing::debug!(transaction_id, "an orphan check was not handled");
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::Message, options::Endpoints};

    fn check(transaction_id: usize) -> Orphan {
        Orphan {
            transaction_id: transaction_id.to_string(),
            message_id: String::new(),
            message: Message::new("t", "x"),
            endpoints: Endpoints::from_iter([]),
        }
    }

    #[test]
    fn a_subscriber_receives_checks_in_order_up_to_the_limit() {
        let checks = OrphanChecks::default();
        assert!(!checks.offer(check(0)), "nobody has subscribed");
        let mut receiver = checks.subscribe();
        for id in 0..MAX_WAITING {
            assert!(checks.offer(check(id)));
        }
        assert!(!checks.offer(check(MAX_WAITING)), "the queue is full");
        for id in 0..MAX_WAITING {
            assert_eq!(receiver.try_recv().unwrap().transaction_id, id.to_string());
        }
        drop(receiver);
        assert!(!checks.offer(check(0)), "the subscriber is gone");
    }
}
