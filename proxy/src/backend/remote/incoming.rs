//! Requests that brokers make to this proxy, on the connections that it opened to them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::connection::Answerer;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::remoting::Command;

/// Requests that may wait to be handled, and the bytes of their bodies. Brokers repeat a check that finds no room.
const MAX_REQUESTS: usize = 1024;
const MAX_BYTES: usize = 64 << 20;

/// Takes the requests of all brokers.
#[derive(Clone)]
pub(super) struct IncomingSender {
    requests: mpsc::Sender<Incoming>,
    room: Arc<Semaphore>,
}

/// What was announced to brokers, and what they request.
pub(super) struct IncomingRequests {
    /// The client id of this proxy at the brokers.
    pub(super) client_id: String,
    /// The topics whose producers were announced.
    pub(super) producers: Mutex<Announced>,
    /// The clients that were announced because they wait for replies.
    pub(super) requesters: Mutex<Announced>,
    requests: AsyncMutex<mpsc::Receiver<Incoming>>,
}

/// What was announced to the master at an address.
pub(super) type Announced = HashMap<String, BTreeSet<Announcement>>;

/// A producer, as a broker knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Announcement {
    pub(super) client_id: String,
    pub(super) group: String,
}

/// A request of a broker.
pub(super) struct Incoming {
    pub(super) request: Command,
    /// The way back, for a request that is answered.
    pub(super) answerer: Answerer,
    _bytes: OwnedSemaphorePermit,
}

#[cfg(test)]
impl Incoming {
    /// A request that nobody waits for.
    pub(super) fn of(request: Command) -> Self {
        let _bytes = Arc::new(Semaphore::new(0)).try_acquire_many_owned(0).unwrap();
        Self { request, answerer: Answerer::of_nobody(), _bytes }
    }
}

/// Both ends of the queue of a cluster's requests.
pub(super) fn queue() -> (IncomingSender, IncomingRequests) {
    let (sender, requests) = mpsc::channel(MAX_REQUESTS);
    let sender = IncomingSender { requests: sender, room: Arc::new(Semaphore::new(MAX_BYTES)) };
    let client_id = format!("rocketmq-thin-proxy@{:032x}", rand::random::<u128>());
    let requests = AsyncMutex::new(requests);
    let (producers, requesters) = (Mutex::default(), Mutex::default());
    (sender, IncomingRequests { client_id, producers, requesters, requests })
}

impl IncomingSender {
    /// Queues a request, or drops it if there is no room: brokers ask again, apart from replies, for which they wait in vain.
    pub(super) fn offer(&self, request: Command, answerer: Answerer) {
        let fields: usize = request.fields.values().map(|value| value.len()).sum();
        let bytes = (request.body.len() + fields).min(MAX_BYTES);
        let bytes = u32::try_from(bytes).expect("MAX_BYTES fits");
        if let Ok(permit) = self.room.clone().try_acquire_many_owned(bytes) {
            // Fails only if the queue is full or nobody reads it any more.
            let _ = self.requests.try_send(Incoming { request, answerer, _bytes: permit });
        }
    }
}

impl IncomingRequests {
    /// The next request; `None` once no connection can bring one any more.
    pub(super) async fn next(&self) -> Option<Incoming> {
        self.requests.lock().await.recv().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn requests_are_bounded_by_bytes() {
        let (sender, requests) = queue();
        let large = || Command::request(1).body(vec![0; 10 << 20]);
        (0..20).for_each(|_| sender.offer(large(), Answerer::of_nobody()));
        let next = || requests.next().now_or_never().flatten();
        assert_eq!(std::iter::from_fn(next).count(), 6);
        sender.offer(large(), Answerer::of_nobody());
        assert!(next().is_some());
    }
}
