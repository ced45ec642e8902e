//! Contract: reading stored messages, statistics of groups, and resets of groups.

use rocketmq_thin_proxy::service::{
    QueueReset, ReadQueue, ResetGroup, ResetTarget, ServiceErrorKind, WantedMessage,
};

use crate::backend::Backend;
use crate::client::{Client, sorted_ids};

impl Client {
    /// Searches the stored messages. Returns the sorted ids of those that match.
    async fn stored(&self, wanted: WantedMessage) -> Vec<String> {
        let administration = &self.services.administration;
        let mut found = Vec::new();
        for queue in administration.topic_stats(&self.topic, None).await.expect("statistics").queues {
            let mut read = ReadQueue {
                topic: self.topic.clone(),
                lite_topic: None,
                broker: queue.broker,
                queue_id: queue.id,
                offset: queue.first,
                max: 3,
                max_body: 4,
                from: None,
                to: None,
                wanted: wanted.clone(),
            };
            loop {
                let page = administration.read(read.clone()).await.expect("a page");
                for message in page.messages {
                    assert_eq!(
                        (message.delivery.message.body.as_ref(), message.body_bytes),
                        (&b"body"[..], 9)
                    );
                    found.push(message.delivery.message.id);
                }
                read.offset = page.next_offset;
                if page.finished {
                    break;
                }
            }
        }
        found.sort();
        found
    }

    async fn reset(&self, target: ResetTarget) -> Vec<QueueReset> {
        let reset = ResetGroup { group: self.group.clone(), topic: self.topic.clone(), target };
        self.services.administration.reset(reset).await.expect("a reset")
    }

    async fn lag(&self) -> i64 {
        let stats = self.services.administration.group_stats(&self.group, Some(&self.topic)).await;
        let topics = stats.expect("statistics").topics;
        topics.iter().flat_map(|topic| &topic.queues).map(|queue| queue.lag).sum()
    }
}

pub(crate) async fn stored_messages_are_read_without_being_consumed<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["1", "2", "3", "4", "5", "6", "7", "8", "9"]).await;
    let stats = client.services.administration.topic_stats(&client.topic, None).await.expect("statistics");
    assert_eq!(stats.queues.iter().map(|queue| queue.next - queue.first).sum::<i64>(), 9);
    assert_eq!(client.stored(WantedMessage::Any).await, ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(client.stored(WantedMessage::Id("4".to_owned())).await, ["4"]);
    client.receive_all(9).await;
    let absent = client.services.administration.topic_stats("absent", None).await.expect_err("a refusal");
    assert_eq!(absent.kind, ServiceErrorKind::TopicNotFound);
}

pub(crate) async fn a_group_continues_where_it_was_reset_to<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["1", "2", "3"]).await;
    let deliveries = client.receive_all(3).await;
    client.acknowledge(&deliveries).await;
    client.reset(ResetTarget::Earliest).await;
    assert_eq!(client.lag().await, 3);
    let again = client.receive_all(3).await;
    assert_eq!(sorted_ids(&again), ["1", "2", "3"]);
    client.acknowledge(&again).await;
    client.send_ids(["4", "5"]).await;
    client.reset(ResetTarget::Latest).await;
    assert_eq!(client.lag().await, 0);
    client.expect_nothing().await;
    client.send_ids(["6"]).await;
    assert_eq!(sorted_ids(&client.receive_all(1).await), ["6"]);
}

pub(crate) async fn a_reset_to_a_missing_queue_or_offset_is_refused<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["1"]).await;
    client.receive_all(1).await;
    let offset = |queue, offset| ResetTarget::Offset { broker: None, queue, offset };
    for (group, topic, target, kind) in [
        ("absent", client.topic.as_str(), ResetTarget::Latest, ServiceErrorKind::GroupNotFound),
        (&client.group, "absent", ResetTarget::Latest, ServiceErrorKind::TopicNotFound),
        (&client.group, &client.topic, offset(1000, 0), ServiceErrorKind::Rejected),
        (&client.group, &client.topic, offset(0, 1000), ServiceErrorKind::Rejected),
    ] {
        let reset = ResetGroup { group: group.to_owned(), topic: topic.to_owned(), target };
        let refused = client.services.administration.reset(reset).await.expect_err("a refusal");
        assert_eq!(refused.kind, kind, "{refused}");
    }
}
