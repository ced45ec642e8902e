//! What the embedded backend's configuration promises.

use std::collections::BTreeSet;
use std::time::Duration;

use rocketmq_thin_proxy::backend::embedded::EmbeddedConfig;
use rocketmq_thin_proxy::service::{Message, ServiceErrorKind};

use crate::backend::{Backend, Embedded};
use crate::client::{Client, ids, plain};

#[tokio::test]
async fn nothing_is_made_when_named_if_so_configured() {
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
async fn old_messages_are_read_from_the_disk() {
    // Next to no memory for messages: most of them are read from the disk.
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
        assert!(offsets.is_sorted(), "queue {queue} came out of order");
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
    // A group that comes after the cleaner misses what was removed, and nothing else.
    let mut number = 3;
    let offset = loop {
        client.send_ids([number]).await;
        let group = Client { group: format!("{}-{number}", late.group), ..client.other_group() };
        let deliveries = group.now(group.request()).await;
        match deliveries.first() {
            Some(first) if first.queue_offset == 0 => number += 1,
            Some(first) => break first.queue_offset,
            // Removed as soon as it was sent.
            None => break number,
        }
    };
    assert!(offset > 0);
}
