//! Requests that brokers make to this proxy, on the connections that it opened to them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

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
    /// Per address of a master: the topics whose producers were announced to it.
    pub(super) announced: Mutex<HashMap<String, BTreeSet<String>>>,
    requests: AsyncMutex<mpsc::Receiver<Incoming>>,
}

struct Incoming {
    request: Command,
    _bytes: OwnedSemaphorePermit,
}

/// Both ends of the queue of a cluster's requests.
pub(super) fn queue() -> (IncomingSender, IncomingRequests) {
    let (sender, requests) = mpsc::channel(MAX_REQUESTS);
    let sender = IncomingSender { requests: sender, room: Arc::new(Semaphore::new(MAX_BYTES)) };
    let client_id = format!("rocketmq-thin-proxy@{:032x}", rand::random::<u128>());
    let requests = AsyncMutex::new(requests);
    (sender, IncomingRequests { client_id, announced: Mutex::default(), requests })
}

impl IncomingSender {
    /// Queues a request, or drops it if there is no room: brokers wait for no answer to what they ask of clients, and
    /// ask again.
    pub(super) fn offer(&self, request: Command) {
        let bytes = u32::try_from(request.body.len().min(MAX_BYTES)).expect("MAX_BYTES fits");
        if let Ok(permit) = self.room.clone().try_acquire_many_owned(bytes) {
            // Fails only if the queue is full or nobody reads it any more.
            let _ = self.requests.try_send(Incoming { request, _bytes: permit });
        }
    }
}

impl IncomingRequests {
    /// The next request; `None` once no connection can bring one any more.
    pub(super) async fn next(&self) -> Option<Command> {
        self.requests.lock().await.recv().await.map(|incoming| incoming.request)
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
        (0..20).for_each(|_| sender.offer(large()));
        let next = || requests.next().now_or_never().flatten();
        assert_eq!(std::iter::from_fn(next).count(), 6);
        sender.offer(large());
        assert!(next().is_some());
    }
}
