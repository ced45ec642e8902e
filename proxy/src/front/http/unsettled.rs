//! What streams of events have delivered and clients have not settled. A settlement through this proxy makes room at once, and
//! one through another proxy when the lease ends.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The streams of this proxy, by the handles that they have delivered.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<String, Weak<Unsettled>>>>);

/// The deliveries of one stream that are not settled.
pub(super) struct Unsettled {
    streams: Arc<Mutex<HashMap<String, Weak<Self>>>>,
    deliveries: Mutex<HashMap<String, Lease>>,
    changed: Notify,
}

/// A delivery that is not settled.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// The message's id.
    pub(super) message_id: String,
    /// Its lite topic.
    pub(super) lite_topic: Option<String>,
    /// When its lease ends.
    pub(super) until: Instant,
}

impl Streams {
    /// A new stream.
    pub(super) fn open(&self) -> Arc<Unsettled> {
        Arc::new(Unsettled { streams: self.0.clone(), deliveries: Mutex::default(), changed: Notify::new() })
    }

    /// Notes that this delivery is settled.
    pub(super) fn settled(&self, handle: &str) {
        self.take(handle);
    }

    /// Notes that the lease of this delivery has changed, and with it the handle.
    pub(super) fn extended(&self, handle: &str, new_handle: &str, until: Instant) {
        if let Some((stream, lease)) = self.take(handle) {
            stream.delivered(new_handle.to_owned(), Lease { until, ..lease });
        }
    }

    fn take(&self, handle: &str) -> Option<(Arc<Unsettled>, Lease)> {
        let stream = self.0.lock().remove(handle)?.upgrade()?;
        let lease = stream.deliveries.lock().remove(handle)?;
        stream.changed.notify_one();
        Some((stream, lease))
    }
}

impl Unsettled {
    /// Notes a delivery.
    pub(super) fn delivered(self: &Arc<Self>, handle: String, lease: Lease) {
        self.deliveries.lock().insert(handle.clone(), lease);
        self.streams.lock().insert(handle, Arc::downgrade(self));
    }

    /// How many deliveries are under a lease.
    pub(super) fn count(&self) -> usize {
        let now = Instant::now();
        let ended: Vec<String> = {
            let mut deliveries = self.deliveries.lock();
            let ended = deliveries.iter().filter(|(_, lease)| lease.until <= now);
            let ended: Vec<_> = ended.map(|(handle, _)| handle.clone()).collect();
            ended.iter().for_each(|handle| drop(deliveries.remove(handle)));
            ended
        };
        self.forget(&ended);
        self.deliveries.lock().len()
    }

    /// Waits until a delivery is settled, or the first of the leases ends.
    pub(super) async fn changed(&self) {
        let first = self.deliveries.lock().values().map(|lease| lease.until).min();
        let ended = async {
            match first {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.changed.notified() => {}
            () = ended => {}
        }
    }

    /// Takes all that is not settled, at the end of the stream.
    pub(super) fn take_all(&self) -> Vec<(String, Lease)> {
        let all: Vec<_> = self.deliveries.lock().drain().collect();
        let handles: Vec<_> = all.iter().map(|(handle, _)| handle.clone()).collect();
        self.forget(&handles);
        all
    }

    fn forget(&self, handles: &[String]) {
        if handles.is_empty() {
            return;
        }
        let mut streams = self.streams.lock();
        handles.iter().for_each(|handle| drop(streams.remove(handle)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lease(until: Instant) -> Lease {
        Lease { message_id: "m".to_owned(), lite_topic: None, until }
    }

    #[tokio::test]
    async fn a_settled_delivery_makes_room_and_an_extended_one_does_not() {
        let streams = Streams::default();
        let stream = streams.open();
        let later = Instant::now() + Duration::from_secs(60);
        for handle in ["a", "b"] {
            stream.delivered(handle.to_owned(), lease(later));
        }
        streams.extended("a", "c", later);
        assert_eq!(stream.count(), 2);
        streams.settled("a");
        streams.settled("b");
        stream.changed().await;
        assert_eq!(stream.count(), 1);
        assert_eq!(stream.take_all().iter().map(|(handle, _)| handle.as_str()).collect::<Vec<_>>(), ["c"]);
        assert!(streams.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_lease_that_ends_makes_room() {
        let streams = Streams::default();
        let stream = streams.open();
        stream.delivered("a".to_owned(), lease(Instant::now()));
        stream.changed().await;
        assert_eq!(stream.count(), 0);
        assert!(streams.0.lock().is_empty());
    }
}
