//! The queue of requests that brokers send to this proxy, on the connections that the proxy opened.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::responder::Responder;
use crate::remoting::RemotingCommand;

/// The maximum number of requests in the queue, and the maximum size of their bodies and fields.
const MAX_REQUESTS: usize = 1024;
const MAX_BYTES: usize = 64 << 20;

/// The sending end of the queue, shared by the connections to all brokers.
#[derive(Clone)]
pub(super) struct IncomingSender {
    requests: mpsc::Sender<Incoming>,
    free_bytes: Arc<Semaphore>,
}

/// The receiving end of the queue, and the clients that were announced to brokers.
pub(super) struct IncomingRequests {
    /// The client id of this proxy at the brokers.
    pub(super) client_id: String,
    /// The announced producers.
    pub(super) producers: Mutex<Announced>,
    /// The announced clients that wait for replies.
    pub(super) requesters: Mutex<Announced>,
    requests: AsyncMutex<mpsc::Receiver<Incoming>>,
}

/// The announcements by the address of the master that got them.
pub(super) type Announced = HashMap<String, BTreeSet<Announcement>>;

/// A producer that is registered at a broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Announcement {
    pub(super) client_id: String,
    pub(super) group: String,
}

/// A request of a broker.
pub(super) struct Incoming {
    pub(super) request: RemotingCommand,
    /// Answers the request, if the broker expects an answer.
    pub(super) responder: Responder,
    _bytes: OwnedSemaphorePermit,
}

#[cfg(test)]
impl Incoming {
    /// A request whose sender is not connected any more.
    pub(super) fn of(request: RemotingCommand) -> Self {
        let _bytes = Arc::new(Semaphore::new(0)).try_acquire_many_owned(0).unwrap();
        Self { request, responder: Responder::disconnected(), _bytes }
    }
}

/// Creates the queue for the requests of a cluster's brokers.
pub(super) fn queue() -> (IncomingSender, IncomingRequests) {
    let (sender, requests) = mpsc::channel(MAX_REQUESTS);
    let sender = IncomingSender { requests: sender, free_bytes: Arc::new(Semaphore::new(MAX_BYTES)) };
    let client_id = format!("rocketmq-thin-proxy@{:032x}", rand::random::<u128>());
    let requests = AsyncMutex::new(requests);
    let (producers, requesters) = (Mutex::default(), Mutex::default());
    (sender, IncomingRequests { client_id, producers, requesters, requests })
}

impl IncomingSender {
    /// Queues a request, or drops it if the queue is full. Brokers repeat dropped checks. A dropped reply is lost: its
    /// broker gets no answer.
    pub(super) fn offer(&self, request: RemotingCommand, responder: Responder) {
        let fields: usize = request.fields.values().map(|value| value.len()).sum();
        let bytes = (request.body.len() + fields).min(MAX_BYTES);
        let bytes = u32::try_from(bytes).expect("MAX_BYTES fits");
        if let Ok(permit) = self.free_bytes.clone().try_acquire_many_owned(bytes) {
            // Fails only if the queue is full or its receiving end was dropped.
            let _ = self.requests.try_send(Incoming { request, responder, _bytes: permit });
        }
    }
}

impl IncomingRequests {
    /// The next request; `None` once all connections are gone.
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
        let large = || RemotingCommand::request(1).body(vec![0; 10 << 20]);
        (0..20).for_each(|_| sender.offer(large(), Responder::disconnected()));
        let next = || requests.next().now_or_never().flatten();
        assert_eq!(std::iter::from_fn(next).count(), 6);
        sender.offer(large(), Responder::disconnected());
        assert!(next().is_some());
    }
}
