//! Contract: receiving messages.

use std::collections::BTreeSet;

use futures::future::join_all;
use rocketmq_thin_proxy::service::{Message, Permission, Receive, ServiceErrorKind, TopicConfig, TopicKind};

use crate::backend::Backend;
use crate::client::{Client, SHORT, ids, plain, sorted_ids};

pub(crate) async fn each_message_goes_to_one_consumer<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send((0..100).map(plain).collect()).await;
    let receives = (0..20).map(|_| client.receive(Receive { max: 5, ..client.request() }));
    let deliveries: Vec<_> = join_all(receives).await.into_iter().flatten().collect();
    assert_eq!(deliveries.len(), 100);
    assert_eq!(ids(&deliveries).into_iter().collect::<BTreeSet<_>>().len(), 100);
}

pub(crate) async fn each_group_gets_every_message<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a", "b"]).await;
    assert_eq!(sorted_ids(&client.receive_all(2).await), ["a", "b"]);
    assert_eq!(sorted_ids(&client.other_group().receive_all(2).await), ["a", "b"]);
}

pub(crate) async fn no_more_than_the_maximum_is_delivered<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send((0..10).map(plain).collect()).await;
    assert_eq!(client.receive(Receive { max: 3, ..client.request() }).await.len(), 3);
}

pub(crate) async fn a_new_group_starts_at_the_beginning<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(0..5).await;
    let first = client.receive_all(5).await;
    client.acknowledge(&first).await;
    assert_eq!(client.other_group().receive_all(5).await.len(), 5);
}

pub(crate) async fn an_unsettled_message_is_redelivered_with_a_higher_attempt<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["again"]).await;
    for attempt in 1..=3 {
        let delivery = client.next(SHORT).await;
        assert_eq!((delivery.message.id.as_str(), delivery.attempt), ("again", attempt));
    }
}

pub(crate) async fn all_queues_are_drained<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 16).await;
    client.send_ids(0..160).await;
    let deliveries = client.receive_all(160).await;
    assert_eq!(ids(&deliveries).into_iter().collect::<BTreeSet<_>>().len(), 160);
    client.expect_nothing().await;
}

pub(crate) async fn a_topic_without_read_permission_is_refused<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let permission = Permission { read: false, write: true };
    let config = TopicConfig { permission, ..client.topic_config(2) };
    client.services.metadata.create_topic(config, false).await.expect("a new topic");
    let error = client.try_receive(client.request()).await.expect_err("not readable");
    assert_eq!(error.kind, ServiceErrorKind::Forbidden);
}

pub(crate) async fn higher_priorities_are_delivered_first<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    if !client.services.metadata.capabilities().priority {
        return;
    }
    let config = TopicConfig { kind: TopicKind::Priority, ..client.topic_config(4) };
    client.services.metadata.create_topic(config, false).await.expect("a new topic");
    for priority in [1, 9, 0, 3, 2] {
        client.send(vec![Message { priority: Some(priority), ..plain(priority) }]).await;
    }
    let deliveries = client.receive_all(5).await;
    // There are four queues, so that 9 is in the same queue as 3.
    assert_eq!(ids(&deliveries), ["9", "3", "2", "1", "0"]);
    assert_eq!(deliveries[0].message.priority, Some(9));
}
