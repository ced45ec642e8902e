//! Contract: delayed messages.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use rocketmq_thin_proxy::service::{Delay, Message};

use crate::backend::Backend;
use crate::client::{Client, LONG, delayed, ids, plain};

pub(crate) async fn a_delayed_message_is_not_delivered_early<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let message = delayed("later", Duration::from_millis(300));
    let Some(Delay::Until(deliver_at)) = message.delay else { unreachable!("it is delayed") };
    let sent = client.send(vec![message]).await;
    assert!(sent[0].recall_handle.is_some());
    client.send_ids(["at once"]).await;
    assert_eq!(client.next(LONG).await.message.id, "at once");
    let delivery = client.next(LONG).await;
    assert_eq!(delivery.message.id, "later");
    // The protocol and the storage round to milliseconds.
    assert!(SystemTime::now() + Duration::from_millis(1) > deliver_at);
    let Some(Delay::Until(delivered)) = delivery.message.delay else {
        panic!("the delivery has no delivery time")
    };
    assert!(deliver_at.duration_since(delivered).is_ok_and(|lost| lost < Duration::from_millis(1)));
}

pub(crate) async fn a_delivery_time_in_the_past_means_at_once<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    for (id, time) in [("past", SystemTime::UNIX_EPOCH), ("before 1970", SystemTime::UNIX_EPOCH - LONG)] {
        let message = Message { delay: Some(Delay::Until(time)), ..plain(id) };
        assert_eq!(client.send(vec![message]).await[0].recall_handle, None);
        let received = client.now(client.request()).await;
        assert_eq!(ids(&received), [id]);
    }
}

pub(crate) async fn delayed_messages_are_delivered_in_order_of_time<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    for (id, delay) in [("third", 900), ("first", 300), ("second", 600)] {
        client.send(vec![delayed(id, Duration::from_millis(delay))]).await;
    }
    for id in ["first", "second", "third"] {
        assert_eq!(client.next(LONG).await.message.id, id);
    }
}

pub(crate) async fn a_batch_may_have_delayed_messages<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send(vec![delayed("later", Duration::from_millis(100)), plain("at once")]).await;
    assert_eq!(client.next(LONG).await.message.id, "at once");
    assert_eq!(client.next(LONG).await.message.id, "later");
}

pub(crate) async fn many_messages_due_at_the_same_time_are_all_delivered<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let deliver_at = SystemTime::now() + Duration::from_millis(200);
    let message = |id| Message { delay: Some(Delay::Until(deliver_at)), ..plain(id) };
    for batch in 0..10 {
        client.send((0..150).map(|n| message(batch * 150 + n)).collect()).await;
    }
    let deliveries = client.receive_all(1500).await;
    assert_eq!(ids(&deliveries).into_iter().collect::<BTreeSet<_>>().len(), 1500);
    client.expect_nothing().await;
}
