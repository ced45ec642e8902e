//! Contract: topics and groups.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rocketmq_thin_proxy::service::{
    GroupConfig, GroupStart, Permission, QueueRange, RetryPolicy, ServiceErrorKind, TopicConfig, TopicKind,
};

use crate::backend::Backend;
use crate::client::Client;

pub(crate) async fn topics_are_created_on_first_use<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let metadata = &client.services.metadata;
    let missing = metadata.existing_topic(&client.topic).await.expect_err("not used yet");
    assert_eq!(missing.kind, ServiceErrorKind::TopicNotFound);
    let config = metadata.topic(&client.topic).await.expect("a topic created on first use");
    assert_eq!(metadata.existing_topic(&client.topic).await.expect("an existing topic"), config);
    assert_eq!(config.kind, TopicKind::Undeclared);
    assert_eq!(config.permission, Permission { read: true, write: true });
    assert!(metadata.group(&client.group).await.is_ok_and(|group| group.max_retries == 16 && !group.fifo));
    let never = metadata.topic("%DLQ%nobody").await.expect_err("only dead letters create it");
    assert_eq!(never.kind, ServiceErrorKind::TopicNotFound);
}

pub(crate) async fn a_topic_is_created_once_unless_replaced<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 2).await;
    let metadata = &client.services.metadata;
    let other = client.topic_config(5);
    let error = metadata.create_topic(other.clone(), false).await.expect_err("it exists");
    assert_eq!(error.kind, ServiceErrorKind::AlreadyExists);
    metadata.create_topic(other.clone(), true).await.expect("replaced");
    assert_eq!(metadata.topic(&client.topic).await, Ok(other));
    let absurd = TopicConfig { read_queues: -1, ..client.topic_config(1) };
    let error = metadata.create_topic(absurd, true).await.expect_err("an invalid number of queues");
    assert_eq!(error.kind, ServiceErrorKind::Rejected);
}

pub(crate) async fn topics_and_groups_are_listed_by_name<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 2).await;
    let metadata = &client.services.metadata;
    metadata.group(&client.group).await.expect("a group created on first use");
    let topics = metadata.topics().await.expect("topics");
    assert!(topics.contains(&client.topic_config(2)));
    assert!(topics.is_sorted_by_key(|topic| &topic.name));
    let groups = metadata.groups().await.expect("groups");
    assert!(groups.iter().any(|group| group.name == client.group));
    assert!(groups.is_sorted_by_key(|group| &group.name));
}

pub(crate) async fn a_deleted_topic_is_empty_when_created_again<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    let metadata = &client.services.metadata;
    client.send_ids(["old"]).await;
    metadata.delete_topic(&client.topic).await.expect("deleted");
    let error = metadata.delete_topic(&client.topic).await.expect_err("it is gone");
    assert_eq!(error.kind, ServiceErrorKind::TopicNotFound);
    metadata.create_topic(client.topic_config(1), false).await.expect("created again");
    client.expect_nothing().await;
    client.send_ids(["new"]).await;
    let deliveries = client.receive_all(1).await;
    assert_eq!((deliveries[0].message.id.as_str(), deliveries[0].queue_offset), ("new", 0));
}

pub(crate) async fn a_deleted_group_starts_again<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let deliveries = client.receive_all(1).await;
    client.acknowledge(&deliveries).await;
    client.services.metadata.delete_group(&client.group).await.expect("deleted");
    let error = client.services.metadata.delete_group(&client.group).await.expect_err("it is gone");
    assert_eq!(error.kind, ServiceErrorKind::GroupNotFound);
    assert_eq!(client.receive_all(1).await[0].attempt, 1);
}

pub(crate) async fn a_group_keeps_its_configuration<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let metadata = &client.services.metadata;
    let config = GroupConfig {
        name: client.group.clone(),
        fifo: true,
        consume: true,
        max_retries: 3,
        retry: RetryPolicy::Exponential {
            initial: Duration::from_millis(1500),
            max: Duration::from_secs(60),
            multiplier: 2.5,
        },
        lite_bind_topic: None,
        lite_quota: 7,
        lite_exclusive: false,
        start: GroupStart::Default,
    };
    metadata.create_group(config.clone(), false).await.expect("a new group");
    assert_eq!(metadata.group(&client.group).await, Ok(config.clone()));
    let error = metadata.create_group(config, false).await.expect_err("it exists");
    assert_eq!(error.kind, ServiceErrorKind::AlreadyExists);
}

pub(crate) async fn a_change_keeps_the_other_settings<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 2).await;
    let metadata = &client.services.metadata;
    let group = GroupConfig { fifo: true, max_retries: 3, ..GroupConfig::named(&client.group) };
    metadata.create_group(group.clone(), false).await.expect("a new group");
    let wider = |topic: &TopicConfig| Ok(TopicConfig { write_queues: 5, ..topic.clone() });
    metadata.change_topic(&client.topic, Arc::new(wider)).await.expect("changed");
    let topic = TopicConfig { write_queues: 5, ..client.topic_config(2) };
    assert_eq!(metadata.topic(&client.topic).await, Ok(topic));
    let patient = |group: &GroupConfig| Ok(GroupConfig { max_retries: 9, ..group.clone() });
    metadata.change_group(&client.group, Arc::new(patient)).await.expect("changed");
    assert_eq!(metadata.group(&client.group).await, Ok(GroupConfig { max_retries: 9, ..group }));
    let absent = metadata.change_topic("absent", Arc::new(wider)).await.expect_err("a refusal");
    assert_eq!(absent.kind, ServiceErrorKind::TopicNotFound);
    let absent = metadata.change_group("absent", Arc::new(patient)).await.expect_err("a refusal");
    assert_eq!(absent.kind, ServiceErrorKind::GroupNotFound);
}

pub(crate) async fn added_queues_are_used<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    client.send_ids(0..2).await;
    assert_eq!(client.receive_all(2).await.len(), 2);
    client.services.metadata.create_topic(client.topic_config(4), true).await.expect("more queues");
    client.send_ids(2..10).await;
    let deliveries = client.receive_all(8).await;
    let queues: BTreeSet<_> = deliveries.iter().map(|delivery| delivery.queue_id).collect();
    assert_eq!(queues, BTreeSet::from([0, 1, 2, 3]));
    client.expect_nothing().await;
}

pub(crate) async fn the_route_lists_the_queues<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let permission = Permission { read: true, write: false };
    let config = TopicConfig { read_queues: 3, write_queues: 5, permission, ..client.topic_config(0) };
    client.services.metadata.create_topic(config, false).await.expect("a new topic");
    let route = client.services.routes.route(&client.topic).await.expect("a route");
    assert_eq!(route.kind, TopicKind::Mixed);
    let queues: Vec<QueueRange> = route.queues;
    assert_eq!(queues.len(), 1);
    assert_eq!((queues[0].read_queues, queues[0].write_queues, queues[0].permission), (3, 5, permission));
}
