//! The embedded backend: configuration options.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, poll};
use rocketmq_thin_proxy::backend::embedded::EmbeddedConfig;
use rocketmq_thin_proxy::service::{Message, Receive, ServiceErrorKind};

use crate::backend::{Backend, Embedded};
use crate::client::{Client, LONG, ids, of_group, plain};

#[tokio::test]
async fn requests_create_nothing_if_automatic_creation_is_off() {
    let strict =
        EmbeddedConfig { auto_create_topics: false, auto_create_groups: false, ..EmbeddedConfig::default() };
    let backend = Embedded::with(strict).await;
    let client = Client::new(backend.services());
    let error = client.services.metadata.topic(&client.topic).await.expect_err("strict");
    assert_eq!(error.kind, ServiceErrorKind::TopicNotFound);
    let error = client.services.metadata.group(&client.group).await.expect_err("strict");
    assert_eq!(error.kind, ServiceErrorKind::GroupNotFound);
    let error = client.try_send(vec![plain("a")]).await.expect_err("strict");
    assert_eq!(error.kind, ServiceErrorKind::TopicNotFound);
    client.services.metadata.create_topic(client.topic_config(1), false).await.expect("a new topic");
    let error = client.try_receive(client.request()).await.expect_err("strict");
    assert_eq!(error.kind, ServiceErrorKind::GroupNotFound);
}

#[tokio::test]
async fn requests_create_no_more_topics_and_groups_than_the_limit() {
    let backend = Embedded::with(EmbeddedConfig { auto_create_limit: 1, ..EmbeddedConfig::default() }).await;
    let (first, second) = (Client::new(backend.services()), Client::new(backend.services()));
    first.send_ids(["a"]).await;
    first.next(LONG).await;
    let error = second.try_send(vec![plain("b")]).await.expect_err("one topic is the limit");
    assert_eq!(error.kind, ServiceErrorKind::Forbidden);
    assert!(error.message.contains("auto_create_limit"), "{error}");
    let error = second.services.metadata.group(&second.group).await.expect_err("one group is the limit");
    assert_eq!(error.kind, ServiceErrorKind::Forbidden);
    // Administrators may create more, and requests may use what exists.
    second.services.metadata.create_topic(second.topic_config(1), false).await.expect("a new topic");
    second.send_ids(["b"]).await;
    first.send_ids(["c"]).await;
}

#[tokio::test]
async fn old_messages_are_read_from_the_disk() {
    // A small cache, so that most messages are read from the disk.
    let backend = Embedded::with(EmbeddedConfig { cache_bytes: 20_000, ..EmbeddedConfig::default() }).await;
    let client = Client::with_queues(backend.services(), 3).await;
    let body = vec![7u8; 1000];
    for batch in 0..20 {
        let messages = (0..25).map(|n| Message { body: body.clone().into(), ..plain(batch * 25 + n) });
        client.send(messages.collect()).await;
    }
    let deliveries = client.receive_all(500).await;
    assert_eq!(ids(&deliveries).into_iter().collect::<BTreeSet<_>>().len(), 500);
    for queue in 0..3 {
        let offsets = deliveries.iter().filter(|d| d.queue_id == queue).map(|d| d.queue_offset);
        assert!(offsets.is_sorted(), "queue {queue} was delivered out of order");
    }
}

#[tokio::test]
async fn old_messages_are_removed() {
    let config = EmbeddedConfig { retention: Duration::from_millis(1), ..EmbeddedConfig::default() };
    let backend = Embedded::with(config).await;
    let client = Client::with_queues(backend.services(), 1).await;
    let late = client.other_group();
    client.send_ids(0..3).await;
    assert_eq!(client.receive_all(3).await.len(), 3);
    // A later group misses the messages that were removed, and no others.
    let mut number = 3;
    let offset = loop {
        client.send_ids([number]).await;
        let group = Client { group: format!("{}-{number}", late.group), ..client.other_group() };
        let deliveries = group.now(group.request()).await;
        match deliveries.first() {
            Some(first) if first.queue_offset == 0 => number += 1,
            Some(first) => break first.queue_offset,
            // The message was removed at once.
            None => break number,
        }
    };
    assert!(offset > 0);
}

#[tokio::test]
async fn too_many_waiting_receives_are_refused() {
    for config in [
        EmbeddedConfig { max_waiting_per_group: 2, ..EmbeddedConfig::default() },
        EmbeddedConfig { max_waiting: 2, ..EmbeddedConfig::default() },
    ] {
        let backend = Embedded::with(config).await;
        let client = Client::new(backend.services());
        client.expect_nothing().await;
        let (mut first, mut second) = (Box::pin(client.next(LONG)), Box::pin(client.next(LONG)));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        let error = client.try_receive(client.request()).await.expect_err("two wait");
        assert_eq!((error.kind, error.message.as_str()), (ServiceErrorKind::Busy, "polling full"));
        // A cancelled receive no longer counts.
        drop(first);
        let (delivery, ()) = tokio::join!(client.next(LONG), client.send_ids(["a", "b"]));
        assert_ne!(delivery.message.id, second.await.message.id);
    }
}

#[tokio::test]
async fn ten_thousand_receives_of_one_group_may_wait_and_one_gets_the_message() {
    let backend = Embedded::start().await;
    let client = Client::new(backend.services());
    client.expect_nothing().await;
    let mut waiting: FuturesUnordered<_> = (0..10_000).map(|_| client.next(LONG)).collect();
    assert!(poll!(waiting.next()).is_pending());
    let (next, _) = tokio::join!(waiting.next(), client.send_ids(["a"]));
    assert_eq!(next.expect("a delivery").message.id, "a");
    assert!(poll!(waiting.next()).is_pending());
    let (next, _) = tokio::join!(waiting.next(), client.send_ids(["b"]));
    assert_eq!(next.expect("a delivery").message.id, "b");
}

#[tokio::test]
async fn a_group_with_too_many_unsettled_messages_gets_no_new_ones() {
    let backend =
        Embedded::with(EmbeddedConfig { max_unsettled_per_queue: 3, ..EmbeddedConfig::default() }).await;
    let client = Client::with_queues(backend.services(), 1).await;
    client.send_ids(0..5).await;
    let deliveries = client.receive_all(3).await;
    client.expect_nothing().await;
    let (next, _) = tokio::join!(client.next(LONG), client.acknowledge(&deliveries[..1]));
    assert_eq!(next.message.id, "3");
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_group_reads_ahead_of_a_blocked_message_group_up_to_the_limit() {
    let backend =
        Embedded::with(EmbeddedConfig { max_unsettled_per_queue: 3, ..EmbeddedConfig::default() }).await;
    let client = Client::with_queues(backend.services(), 1).await;
    for (id, group) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("a4", "a"), ("a5", "a")] {
        client.send(vec![of_group(id, group)]).await;
    }
    client.send(vec![of_group("c1", "c")]).await;
    let a1 = client.receive(Receive { max: 1, ..client.in_order() }).await;
    assert_eq!(ids(&client.now(client.in_order()).await), ["b1"]);
    assert!(client.now(client.in_order()).await.is_empty(), "c1 is beyond the limit");
    let (next, _) = tokio::join!(client.receive(client.in_order()), client.acknowledge(&a1));
    assert_eq!(ids(&next), ["a2", "a3", "a4"]);
    let (next, _) = tokio::join!(client.receive(client.in_order()), client.acknowledge(&next));
    assert_eq!(ids(&next), ["a5", "c1"]);
}

#[tokio::test]
async fn sends_beyond_the_limit_are_refused_and_lose_nothing() {
    let backend =
        Embedded::with(EmbeddedConfig { max_pending_bytes: 5_000, ..EmbeddedConfig::default() }).await;
    let client = Client::new(backend.services());
    let big = |id| Message { body: vec![7; 2_000].into(), ..plain(id) };
    let sends = (0..200).map(|id| client.try_send(vec![big(id)]));
    let mut stored = 0;
    for answer in join_all(sends).await {
        match answer {
            Ok(_) => stored += 1,
            Err(error) => assert_eq!(error.kind, ServiceErrorKind::Busy),
        }
    }
    assert!(stored > 0);
    assert_eq!(client.receive_all(stored).await.len(), stored);
    client.expect_nothing().await;
}
