//! Contract: the recall of delayed messages.

use std::time::{Duration, Instant, SystemTime};

use rocketmq_thin_proxy::service::{Delay, Message, ServiceError, ServiceErrorKind};

use crate::backend::Backend;
use crate::client::{Client, LONG, TIMEOUT, delayed, plain};

impl Client {
    /// Sends a delayed message. Returns its recall handle.
    pub(crate) async fn send_later(&self, message: Message) -> String {
        let sent = self.send(vec![message]).await;
        sent.into_iter().next().and_then(|sent| sent.recall_handle).expect("a handle")
    }

    pub(crate) async fn recall(&self, handle: &str) -> Result<String, ServiceError> {
        self.services.messages.recall(&self.topic, handle, Instant::now() + TIMEOUT).await
    }
}

pub(crate) async fn a_recalled_message_is_not_delivered<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    // Long delays, because Apache's brokers take some time for a recall.
    let at = |secs| Some(Delay::Until(SystemTime::now() + Duration::from_secs(secs)));
    let handle = client.send_later(Message { delay: at(4), ..plain("recalled") }).await;
    client.send_later(Message { delay: at(6), ..plain("later") }).await;
    assert_eq!(client.recall(&handle).await.expect("in time"), "recalled");
    assert_eq!(client.next(LONG).await.message.id, "later");
    client.expect_nothing().await;
}

pub(crate) async fn a_recall_may_be_repeated<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    let handle = client.send_later(delayed("recalled", LONG)).await;
    for _ in 0..2 {
        assert_eq!(client.recall(&handle).await.expect("in time"), "recalled");
    }
}

pub(crate) async fn a_delivered_message_can_not_be_recalled<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    let handle = client.send_later(delayed("soon", Duration::from_secs(2))).await;
    assert_eq!(client.next(LONG).await.message.id, "soon");
    assert_eq!(client.recall(&handle).await.expect_err("too late").kind, ServiceErrorKind::Rejected);
}

pub(crate) async fn a_handle_recalls_only_in_its_own_topic<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    let handle = client.send_later(delayed("kept", LONG)).await;
    let other = Client::with_queues(backend.services(), 1).await;
    for handle in [&handle, "", "junk", "bm90IGEgaGFuZGxl"] {
        assert_eq!(other.recall(handle).await.expect_err("not its handle").kind, ServiceErrorKind::Rejected);
    }
    assert_eq!(client.recall(&handle).await.expect("its handle"), "kept");
}
