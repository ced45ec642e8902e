//! Lite topics that servers have revoked, on their way to the consumer.

use parking_lot::Mutex;
use tokio::sync::mpsc;

/// The most revocations that wait. The server repeats one that is dropped when the consumer subscribes again.
const MAX_WAITING: usize = 4096;

/// A bounded queue of names, once somebody has subscribed to them.
#[derive(Debug, Default)]
pub(super) struct Revocations(Mutex<Option<mpsc::Sender<String>>>);

impl Revocations {
    /// The names from now on. Replaces an earlier subscriber.
    pub(super) fn subscribe(&self) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        *self.0.lock() = Some(sender);
        receiver
    }

    pub(super) fn offer(&self, lite_topic: String) {
        let subscriber = self.0.lock().clone();
        if subscriber.is_none_or(|subscriber| subscriber.try_send(lite_topic).is_err()) {
            tracing::debug!("nobody noted that a server revoked a lite topic");
        }
    }
}
