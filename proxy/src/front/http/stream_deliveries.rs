//! The unsettled deliveries of event streams, which bound how many messages a stream delivers. A settlement at this proxy makes
//! room for a further message immediately, and one at another proxy when the lease ends.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The event streams of this proxy, by the receipt handles of their unsettled deliveries.
#[derive(Clone, Default)]
pub(super) struct EventStreams(Arc<Mutex<HashMap<String, Weak<StreamDeliveries>>>>);

/// The unsettled deliveries of one stream, by receipt handle.
pub(super) struct StreamDeliveries {
    streams: Arc<Mutex<HashMap<String, Weak<Self>>>>,
    deliveries: Mutex<HashMap<String, StreamedLease>>,
    changed: Notify,
}

/// An unsettled delivery.
#[derive(Clone, Debug)]
pub(super) struct StreamedLease {
    /// The message id.
    pub(super) message_id: String,
    /// The lite topic of the message.
    pub(super) lite_topic: Option<String>,
    /// When the lease ends.
    pub(super) until: Instant,
}

impl EventStreams {
    /// Creates a stream without deliveries.
    pub(super) fn open(&self) -> Arc<StreamDeliveries> {
        Arc::new(StreamDeliveries {
            streams: self.0.clone(),
            deliveries: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Removes a delivery that was settled.
    pub(super) fn remove(&self, handle: &str) {
        self.take(handle);
    }

    /// Replaces the receipt handle of a delivery whose lease was extended.
    pub(super) fn replace_handle(&self, handle: &str, new_handle: &str, until: Instant) {
        if let Some((stream, lease)) = self.take(handle) {
            stream.insert(new_handle.to_owned(), StreamedLease { until, ..lease });
        }
    }

    /// Removes a delivery, and wakes its stream.
    fn take(&self, handle: &str) -> Option<(Arc<StreamDeliveries>, StreamedLease)> {
        let stream = self.0.lock().remove(handle)?.upgrade()?;
        let lease = stream.deliveries.lock().remove(handle)?;
        stream.changed.notify_one();
        Some((stream, lease))
    }
}

impl StreamDeliveries {
    /// Adds a delivery.
    pub(super) fn insert(self: &Arc<Self>, handle: String, lease: StreamedLease) {
        self.deliveries.lock().insert(handle.clone(), lease);
        self.streams.lock().insert(handle, Arc::downgrade(self));
    }

    /// The number of unsettled deliveries. Removes those whose lease has ended.
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

    /// Waits until a delivery is settled, or a lease ends.
    pub(super) async fn wait_for_change(&self) {
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

    /// Removes and returns all deliveries, at the end of the stream.
    pub(super) fn drain(&self) -> Vec<(String, StreamedLease)> {
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

/// Forgets a delivery whose lease was extended while the stream ended.
impl Drop for StreamDeliveries {
    fn drop(&mut self) {
        self.drain();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lease(until: Instant) -> StreamedLease {
        StreamedLease { message_id: "m".to_owned(), lite_topic: None, until }
    }

    #[tokio::test]
    async fn a_settled_delivery_makes_room_and_an_extended_one_does_not() {
        let streams = EventStreams::default();
        let stream = streams.open();
        let later = Instant::now() + Duration::from_secs(60);
        for handle in ["a", "b"] {
            stream.insert(handle.to_owned(), lease(later));
        }
        streams.replace_handle("a", "c", later);
        assert_eq!(stream.count(), 2);
        streams.remove("a");
        streams.remove("b");
        stream.wait_for_change().await;
        assert_eq!(stream.count(), 1);
        assert_eq!(stream.drain().iter().map(|(handle, _)| handle.as_str()).collect::<Vec<_>>(), ["c"]);
        assert!(streams.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_lease_that_ends_makes_room() {
        let streams = EventStreams::default();
        let stream = streams.open();
        stream.insert("a".to_owned(), lease(Instant::now()));
        stream.wait_for_change().await;
        assert_eq!(stream.count(), 0);
        assert!(streams.0.lock().is_empty());
    }

    #[test]
    fn a_delivery_that_is_extended_while_its_stream_ends_is_forgotten() {
        let streams = EventStreams::default();
        let stream = streams.open();
        let later = Instant::now() + Duration::from_secs(60);
        stream.insert("a".to_owned(), lease(later));
        let (extended, lease) = streams.take("a").expect("a delivery");
        stream.drain();
        extended.insert("b".to_owned(), lease);
        drop((stream, extended));
        assert!(streams.0.lock().is_empty());
    }
}
