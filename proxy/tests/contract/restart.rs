//! Contract: the data that survives a restart of the broker.

use std::time::Duration;

use rocketmq_thin_proxy::service::{AckOutcome, NextAttempt, Receive};

use crate::backend::Backend;
use crate::client::{Client, LONG, SHORT, changed, delayed, ids, of_group, plain, sorted_ids};

pub(crate) async fn messages_survive<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send((0..300).map(plain).collect()).await;
    let (client, _backend) = client_after_restart(client, backend).await;
    assert_eq!(client.receive_all(300).await.len(), 300);
}

pub(crate) async fn acknowledgements_survive<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    client.send_ids(["a", "b", "c"]).await;
    let deliveries = client.receive(Receive { max: 2, invisible: SHORT * 4, ..client.request() }).await;
    assert_eq!(client.acknowledge(&deliveries[1..2]).await, [AckOutcome::Done]);
    let (client, _backend) = client_after_restart(client, backend).await;
    assert_eq!(sorted_ids(&client.receive_all(2).await), ["a", "c"]);
    client.expect_nothing().await;
}

pub(crate) async fn leases_survive<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let delivery = client.next(LONG).await;
    let (client, _backend) = client_after_restart(client, backend).await;
    client.expect_nothing().await;
    assert_eq!(client.acknowledge(&[delivery]).await, [AckOutcome::Done]);
}

pub(crate) async fn changed_leases_survive<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let old = client.next(SHORT).await;
    let new = changed(&old, client.change(&old, LONG, NextAttempt::Counts).await, LONG);
    let (client, _backend) = client_after_restart(client, backend).await;
    client.expect_nothing().await;
    assert_eq!(client.acknowledge(&[new]).await, [AckOutcome::Done]);
}

pub(crate) async fn attempts_survive<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    client.next(SHORT).await;
    assert_eq!(client.next(SHORT).await.attempt, 2);
    let (client, _backend) = client_after_restart(client, backend).await;
    assert_eq!(client.next(LONG).await.attempt, 3);
}

pub(crate) async fn ordered_groups_stay_blocked<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    for id in ["a", "b"] {
        client.send(vec![of_group(id, "order-1")]).await;
    }
    let named = |client: &Client| Receive { max: 1, attempt_id: Some("one".to_owned()), ..client.in_order() };
    client.receive(named(&client)).await;
    let (client, _backend) = client_after_restart(client, backend).await;
    assert!(client.now(client.in_order()).await.is_empty());
    let again = client.receive(named(&client)).await;
    assert_eq!((ids(&again), again[0].attempt), (vec!["a"], 1));
    client.acknowledge(&again).await;
    assert_eq!(ids(&client.receive(client.in_order()).await), ["b"]);
}

pub(crate) async fn delayed_messages_survive<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client
        .send(vec![delayed("soon", Duration::from_millis(10)), delayed("later", Duration::from_millis(800))])
        .await;
    let (client, _backend) = client_after_restart(client, backend).await;
    assert_eq!(client.next(LONG).await.message.id, "soon");
    assert_eq!(client.next(LONG).await.message.id, "later");
}

pub(crate) async fn topics_and_groups_survive<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 3).await;
    let group = client.services.metadata.group(&client.group).await.expect("a group created on first use");
    client.services.metadata.topic(&client.other_group().group).await.expect("a topic created on first use");
    client.services.metadata.delete_topic(&client.other_group().group).await.expect("deleted");
    let (client, _backend) = client_after_restart(client, backend).await;
    let metadata = &client.services.metadata;
    let topics = metadata.topics().await.expect("topics");
    assert!(topics.contains(&client.topic_config(3)));
    assert!(topics.iter().all(|topic| topic.name != client.other_group().group));
    assert!(metadata.groups().await.expect("groups").contains(&group));
}

pub(crate) async fn offsets_continue<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    client.send_ids(0..3).await;
    let (client, _backend) = client_after_restart(client, backend).await;
    assert_eq!(client.send(vec![plain("next")]).await[0].queue_offset, 3);
}

/// Restarts the backend. Returns a client with the same topic and group, and the backend, which must not be dropped.
pub(crate) async fn client_after_restart<B: Backend>(client: Client, backend: B) -> (Client, B) {
    // Services hold a reference to the broker, which locks its directory.
    let (topic, group) = (client.topic.clone(), client.group.clone());
    drop(client);
    let backend = backend.restart().await;
    (Client { services: backend.services(), topic, group }, backend)
}
