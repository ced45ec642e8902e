//! Contract: reading by offset, and the offsets of groups.

use std::time::{Duration, Instant, SystemTime};

use rocketmq_thin_proxy::service::{
    AckOutcome, Delivery, Filter, GroupConfig, Message, Pull, PullOutcome, Pulled, QueueLock, QueueRef,
    SendBack, ServiceError, ServiceErrorKind, TopicQueue, Whence, names,
};

use crate::backend::{Backend, Embedded};
use crate::client::{Client, SHORT, TIMEOUT, ids, plain};
use crate::restart::client_after_restart;

/// A topic with one queue, which is read by offset.
struct Reader {
    client: Client,
    broker: String,
}

impl Reader {
    async fn new<B: Backend>(backend: &B) -> Self {
        let reader = Self::of(Client::with_queues(backend.services(), 1).await).await;
        reader
            .client
            .services
            .metadata
            .group(&reader.client.group)
            .await
            .expect("a group created on first use");
        reader
    }

    async fn of(client: Client) -> Self {
        let route = client.services.routes.route(&client.topic).await.expect("a route");
        Self { broker: route.queues[0].broker.clone(), client }
    }

    fn from(&self, offset: i64) -> Pull {
        Pull {
            topic: self.client.topic.clone(),
            group: self.client.group.clone(),
            broker: self.broker.clone(),
            queue_id: 0,
            offset,
            max: 32,
            filter: Filter::All,
            deadline: Instant::now() + TIMEOUT,
        }
    }

    async fn try_pull(&self, pull: Pull) -> Result<Pulled, ServiceError> {
        self.client.services.offsets.pull(pull).await
    }

    async fn pull(&self, pull: Pull) -> (Vec<Delivery>, i64) {
        let Pulled { outcome, next_offset, .. } = self.try_pull(pull).await.expect("a pull");
        match outcome {
            PullOutcome::Messages(messages) => (messages, next_offset),
            PullOutcome::Nothing | PullOutcome::OffsetIllegal => {
                panic!("{outcome:?}, next offset {next_offset}")
            }
        }
    }

    fn queue(&self) -> QueueRef<'_> {
        let deadline = Instant::now() + TIMEOUT;
        QueueRef { topic: &self.client.topic, broker: &self.broker, id: 0, deadline }
    }

    /// A reader of the same group in another topic of the broker.
    fn elsewhere(&self, topic: String) -> Self {
        let Client { services, group, .. } = &self.client;
        let client = Client { services: services.clone(), topic, group: group.clone() };
        Self { client, broker: self.broker.clone() }
    }

    /// Reads the first message of a topic, and waits until the topic is created.
    async fn first(&self) -> Delivery {
        let until = Instant::now() + TIMEOUT;
        loop {
            match self.try_pull(self.from(0)).await {
                Ok(Pulled { outcome: PullOutcome::Messages(mut messages), .. }) => return messages.remove(0),
                Ok(pulled) => assert!(Instant::now() < until, "{pulled:?}"),
                Err(error) => assert!(
                    error.kind == ServiceErrorKind::TopicNotFound && Instant::now() < until,
                    "{error}"
                ),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn commit(&self, offset: i64) {
        let committed = self.client.services.offsets.commit(self.queue(), &self.client.group, offset).await;
        committed.expect("an offset inside the queue");
    }

    async fn committed(&self) -> Option<i64> {
        let committed = self.client.services.offsets.committed(self.queue(), &self.client.group).await;
        committed.expect("an answer")
    }

    async fn offset(&self, whence: Whence) -> i64 {
        self.client.services.offsets.offset(self.queue(), whence).await.expect("an offset")
    }
}

pub(crate) async fn messages_are_read_without_leases<B: Backend>(backend: B) {
    let reader = Reader::new(&backend).await;
    reader.client.send_ids(0..5).await;
    for _ in 0..2 {
        let (first, next) = reader.pull(Pull { max: 3, ..reader.from(0) }).await;
        assert_eq!((ids(&first), next), (vec!["0", "1", "2"], 3));
        let (rest, next) = reader.pull(reader.from(next)).await;
        assert_eq!((ids(&rest), next), (vec!["3", "4"], 5));
        assert_eq!((rest[0].queue_offset, rest[0].attempt), (3, 1));
    }
    assert_eq!(ids(&reader.client.receive_all(5).await), ["0", "1", "2", "3", "4"]);
}

pub(crate) async fn a_waiting_pull_gets_the_next_message<B: Backend>(backend: B) {
    let reader = Reader::new(&backend).await;
    reader.client.send_ids(["first"]).await;
    let ((late, next), ()) = tokio::join!(reader.pull(reader.from(1)), reader.client.send_ids(["late"]));
    assert_eq!((ids(&late), next), (vec!["late"], 2));
}

pub(crate) async fn a_pull_ends_at_its_deadline<B: Backend>(backend: B) {
    let reader = Reader::new(&backend).await;
    reader.client.send_ids(["a"]).await;
    let deadline = Instant::now() + SHORT;
    let Pulled { outcome, next_offset, range } =
        reader.try_pull(Pull { deadline, ..reader.from(1) }).await.expect("a pull");
    assert!(matches!(outcome, PullOutcome::Nothing), "{outcome:?}");
    assert_eq!((next_offset, range), (1, 0..1));
}

pub(crate) async fn an_offset_outside_the_queue_is_reported<B: Backend>(backend: B) {
    let reader = Reader::new(&backend).await;
    reader.client.send_ids(["a", "b"]).await;
    let Pulled { outcome, next_offset, range } = reader.try_pull(reader.from(9)).await.expect("a pull");
    assert!(matches!(outcome, PullOutcome::OffsetIllegal), "{outcome:?}");
    assert!((0..=2).contains(&next_offset), "{next_offset}");
    assert_eq!(range, 0..2);
}

pub(crate) async fn a_pull_may_filter<B: Backend>(backend: B) {
    let reader = Reader::new(&backend).await;
    for (id, tag) in [("g1", "green"), ("r1", "red"), ("g2", "green"), ("r2", "red")] {
        reader.client.send(vec![Message { tag: Some(tag.to_owned()), ..plain(id) }]).await;
    }
    let red = Filter::Tags(vec!["red".to_owned()]);
    let (found, next) = reader.pull(Pull { filter: red.clone(), ..reader.from(0) }).await;
    assert_eq!((ids(&found), next), (vec!["r1", "r2"], 4));
    let (found, _) = reader.pull(Pull { filter: red, max: 1, ..reader.from(0) }).await;
    assert_eq!(ids(&found), ["r1"]);
}

pub(crate) async fn a_queue_that_does_not_exist_is_refused<B: Backend>(backend: B) {
    let reader = Reader::new(&backend).await;
    let pull = Pull { broker: "nobody".to_owned(), ..reader.from(0) };
    assert_eq!(reader.try_pull(pull).await.expect_err("no such broker").kind, ServiceErrorKind::Rejected);
    reader.try_pull(Pull { queue_id: 7, ..reader.from(0) }).await.expect_err("no such queue");
}

pub(crate) async fn a_group_keeps_its_offset<B: Backend>(backend: B) {
    let reader = Reader::new(&backend).await;
    reader.client.send_ids(0..3).await;
    assert_eq!(reader.committed().await, None);
    reader.commit(2).await;
    assert_eq!(reader.committed().await, Some(2));
    let (client, _backend) = client_after_restart(reader.client, backend).await;
    let reader = Reader::of(client).await;
    assert_eq!(reader.committed().await, Some(2));
    let other = Reader::of(reader.client.other_group()).await;
    assert_eq!(other.committed().await, None);
}

pub(crate) async fn the_offsets_of_a_queue_are_returned<B: Backend>(backend: B) {
    // Longer than the error by rounding to milliseconds.
    const APART: Duration = Duration::from_millis(3);
    let before = SystemTime::now() - APART;
    let reader = Reader::new(&backend).await;
    reader.client.send_ids(["a", "b"]).await;
    let sent = SystemTime::now();
    while sent.elapsed().is_ok_and(|since| since < APART * 2) {
        tokio::task::yield_now().await;
    }
    reader.client.send_ids(["c"]).await;
    assert_eq!(reader.offset(Whence::Beginning).await, 0);
    assert_eq!(reader.offset(Whence::End).await, 3);
    assert_eq!(reader.offset(Whence::Time(before)).await, 0);
    assert_eq!(reader.offset(Whence::Time(sent + APART)).await, 2);
}

pub(crate) async fn a_message_that_was_sent_back_is_read_again<B: Backend>(backend: B) {
    let reader = Reader::new(&backend).await;
    reader.client.send(vec![Message { flag: -7, ..plain("a") }]).await;
    let back = |topic: &str, offset: i64, level: i32| SendBack {
        topic: topic.to_owned(),
        group: reader.client.group.clone(),
        broker: reader.broker.clone(),
        queue_id: 0,
        offset,
        message_id: "a".to_owned(),
        level,
        max_retries: Some(1),
        deadline: Instant::now() + TIMEOUT,
    };
    let offsets = &reader.client.services.offsets;
    offsets.send_back(back(&reader.client.topic, 0, 1)).await.expect("a copy");
    let retry = reader.elsewhere(names::retry_topic(&reader.client.group));
    let again = retry.first().await;
    assert_eq!((again.message.id.as_str(), again.message.flag, again.attempt), ("a", -7, 2));
    let from = again.message.system_properties.iter().find(|(key, _)| key == names::properties::RETRY_TOPIC);
    assert_eq!(from.map(|(_, topic)| topic), Some(&reader.client.topic));

    offsets.send_back(back(&retry.client.topic, again.queue_offset, 1)).await.expect("a dead letter");
    let dead = reader.elsewhere(names::dead_letter_topic(&reader.client.group)).first().await;
    assert_eq!((dead.message.id.as_str(), dead.attempt), ("a", 3));
    let unknown = offsets.send_back(back(&reader.client.topic, 9, 1)).await.expect_err("no such message");
    assert_eq!(unknown.kind, ServiceErrorKind::Rejected);
}

pub(crate) async fn one_client_of_a_group_locks_a_queue<B: Backend>(backend: B) {
    let reader = Reader::new(&backend).await;
    let queue = TopicQueue { topic: reader.client.topic.clone(), id: 0 };
    let lock = |group: &str, client_id: &str| QueueLock {
        group: group.to_owned(),
        client_id: client_id.to_owned(),
        host: "192.0.2.1".into(),
        broker: reader.broker.clone(),
        queues: vec![queue.clone()],
        deadline: Instant::now() + TIMEOUT,
    };
    let offsets = &reader.client.services.offsets;
    let group = reader.client.group.as_str();
    for (group, client, locked) in
        [(group, "a", true), (group, "a", true), (group, "b", false), ("another_group", "b", true)]
    {
        let had = offsets.lock(lock(group, client)).await.expect("an answer");
        assert_eq!(had == std::slice::from_ref(&queue), locked, "{group} {client}: {had:?}");
    }
    offsets.unlock(lock(group, "a")).await.expect("an answer");
    assert_eq!(offsets.lock(lock(group, "b")).await.expect("an answer"), std::slice::from_ref(&queue));
}

#[tokio::test]
async fn a_reader_of_dead_letters_has_its_own_attempts() {
    let backend = Embedded::start().await;
    let reader = Reader::new(&backend).await;
    reader.client.send_ids(["a"]).await;
    let group = GroupConfig { max_retries: 1, ..GroupConfig::named("reader") };
    reader.client.services.metadata.create_group(group, false).await.expect("a group");
    let back = |topic: String, group: &str, offset: i64, max_retries: i32| SendBack {
        topic,
        group: group.to_owned(),
        broker: reader.broker.clone(),
        queue_id: 0,
        offset,
        message_id: "a".to_owned(),
        level: 1,
        max_retries: Some(max_retries),
        deadline: Instant::now() + TIMEOUT,
    };
    let (failed, offsets) = (&reader.client.group, &reader.client.services.offsets);
    offsets.send_back(back(reader.client.topic.clone(), failed, 0, 0)).await.expect("a dead letter");
    let letters = names::dead_letter_topic(failed);
    assert_eq!(reader.elsewhere(letters.clone()).first().await.attempt, 2);
    offsets.send_back(back(letters, "reader", 0, 1)).await.expect("a copy");
    let again = reader.elsewhere(names::retry_topic("reader")).first().await;
    assert_eq!((again.message.id.as_str(), again.attempt), ("a", 2));
    let retry = names::retry_topic("reader");
    offsets.send_back(back(retry, "reader", again.queue_offset, 1)).await.expect("a dead letter");
    reader.elsewhere(names::dead_letter_topic("reader")).first().await;
}

#[tokio::test]
async fn a_group_continues_from_its_offset() {
    let backend = Embedded::start().await;
    let reader = Reader::new(&backend).await;
    let client = &reader.client;
    client.send_ids(["a", "b", "c", "d"]).await;
    let leased = client.receive_all(4).await;
    client.acknowledge(&leased[..1]).await;
    assert_eq!(reader.committed().await, Some(1), "everything before it is settled");
    let (again, ()) = tokio::join!(client.receive(client.request()), reader.commit(2));
    assert_eq!((ids(&again), again[0].attempt), (vec!["c", "d"], 1));
    assert_eq!(client.acknowledge(&leased[1..]).await, [const { AckOutcome::Done }; 3]);
    assert_eq!(reader.committed().await, Some(2), "earlier receipt handles settle nothing");
    reader.commit(4).await;
    client.expect_nothing().await;
    let offsets = &client.services.offsets;
    let beyond = offsets.commit(reader.queue(), &client.group, 5).await.expect_err("beyond the end");
    assert_eq!(beyond.kind, ServiceErrorKind::Rejected);
}

#[tokio::test]
async fn a_deleted_topic_ends_a_waiting_pull() {
    let backend = Embedded::start().await;
    let reader = Reader::new(&backend).await;
    let mut waiting = Box::pin(reader.try_pull(reader.from(0)));
    assert!(futures::poll!(&mut waiting).is_pending());
    reader.client.services.metadata.delete_topic(&reader.client.topic).await.expect("deleted");
    assert_eq!(waiting.await.expect_err("the topic is gone").kind, ServiceErrorKind::TopicNotFound);
}

#[tokio::test]
async fn old_messages_are_read_by_offset_from_the_disk() {
    let backend = Embedded::with(rocketmq_thin_proxy::backend::embedded::EmbeddedConfig {
        cache_bytes: 0,
        ..Default::default()
    })
    .await;
    let reader = Reader::new(&backend).await;
    for batch in 0..10 {
        reader.client.send((0..50).map(|n| plain(batch * 50 + n)).collect()).await;
    }
    let mut offset = 0;
    while offset < 500 {
        let (found, next) = reader.pull(reader.from(offset)).await;
        let expected: Vec<_> = (offset..next).map(|id| id.to_string()).collect();
        assert_eq!(ids(&found), expected);
        offset = next;
    }
}
