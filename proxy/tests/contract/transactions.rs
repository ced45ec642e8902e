//! Contract: transactions.

use std::time::{Duration, Instant, SystemTime};

use rocketmq_thin_proxy::service::{
    EndTransaction, Message, Resolution, ServiceError, ServiceErrorKind, StoreReceipt, TopicKind,
};

use crate::backend::Backend;
use crate::client::{Client, LONG, TIMEOUT, ids, plain};

/// A half message with an id and a body.
pub(crate) fn half(id: impl ToString) -> Message {
    Message { half: true, ..plain(id) }
}

impl Client {
    /// Sends a half message. Returns the coordinates of its transaction.
    pub(crate) async fn send_half(&self, message: Message) -> String {
        let sent: Vec<StoreReceipt> = self.send(vec![message]).await;
        sent.into_iter().next().and_then(|sent| sent.transaction).expect("coordinates")
    }

    pub(crate) async fn end(&self, coordinates: &str, resolution: Resolution) -> Result<(), ServiceError> {
        let end = EndTransaction {
            topic: self.topic.clone(),
            message_id: String::new(),
            coordinates: coordinates.to_owned(),
            resolution,
            answers_check: false,
            deadline: Instant::now() + TIMEOUT,
        };
        self.services.transactions.end(end).await
    }

    pub(crate) async fn commit(&self, coordinates: &str) {
        self.end(coordinates, Resolution::Commit).await.expect("a commit");
    }

    pub(crate) async fn roll_back(&self, coordinates: &str) {
        self.end(coordinates, Resolution::Rollback).await.expect("a rollback");
    }
}

pub(crate) async fn a_half_message_is_delivered_once_it_is_committed<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    let transaction = client.send_half(half("half")).await;
    assert!(transaction.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{transaction}");
    client.send_ids(["plain"]).await;
    assert_eq!(client.next(LONG).await.message.id, "plain");
    client.expect_nothing().await;
    client.commit(&transaction).await;
    assert_eq!(client.next(LONG).await.message.id, "half");
    client.expect_nothing().await;
}

pub(crate) async fn a_message_that_was_rolled_back_is_not_delivered<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    let dropped = client.send_half(half("dropped")).await;
    let kept = client.send_half(half("kept")).await;
    client.roll_back(&dropped).await;
    client.commit(&kept).await;
    assert_eq!(client.next(LONG).await.message.id, "kept");
    client.expect_nothing().await;
}

pub(crate) async fn a_committed_message_is_delivered_unchanged<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let message = Message {
        tag: Some("tag".to_owned()),
        keys: vec!["key-1".to_owned(), "key-2".to_owned()],
        properties: vec![("color".to_owned(), "red".to_owned())],
        group: Some("a message group".to_owned()),
        recovery: Some(Duration::from_secs(600)),
        // Apache's brokers count the recovery time from here.
        born_at: Some(SystemTime::now()),
        ..half("id")
    };
    let transaction = client.send_half(message.clone()).await;
    client.commit(&transaction).await;
    let delivery = client.next(LONG).await;
    let delivered = delivery.message;
    assert_eq!(
        (delivered.kind(), delivery.attempt, &delivery.topic),
        (TopicKind::Transaction, 1, &client.topic)
    );
    assert_eq!((delivered.tag, delivered.keys), (message.tag, message.keys));
    assert_eq!((delivered.group, delivered.body), (message.group, message.body));
    assert!(delivered.properties.contains(&("color".to_owned(), "red".to_owned())));
}

pub(crate) async fn half_messages_survive_a_restart<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    let kept = client.send_half(half("kept")).await;
    let dropped = client.send_half(half("dropped")).await;
    let (client, _backend) = crate::restart::client_after_restart(client, backend).await;
    client.expect_nothing().await;
    client.roll_back(&dropped).await;
    client.commit(&kept).await;
    assert_eq!(ids(&client.receive_all(1).await), ["kept"]);
    client.expect_nothing().await;
}

pub(crate) async fn coordinates_of_another_backend_are_invalid<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    for junk in ["", "x", "1.2.3.4", "a b"] {
        let error = client.end(junk, Resolution::Commit).await.expect_err("invalid");
        assert_eq!(error.kind, ServiceErrorKind::InvalidHandle, "{junk}");
    }
}
