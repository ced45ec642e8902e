//! The embedded backend: guarantees for transactions and recalls that Apache's brokers do not give.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use rocketmq_thin_proxy::backend::embedded::EmbeddedConfig;
use rocketmq_thin_proxy::service::{
    BrokerRequest, CheckOutcome, Delivery, Message, Resolution, ServiceErrorKind,
};

use crate::backend::{Backend, Embedded};
use crate::client::{Client, LONG, TIMEOUT, delayed, ids, plain};
use crate::restart::client_after_restart;
use crate::transactions::half;

/// A broker with short times before and between orphan checks.
async fn impatient() -> (Client, Embedded) {
    let backend = Embedded::with(EmbeddedConfig {
        transaction_timeout: Duration::from_millis(20),
        transaction_check_interval: Duration::from_millis(20),
        transaction_check_max: 2,
        ..EmbeddedConfig::default()
    })
    .await;
    let client = Client::with_queues(backend.services(), 1).await;
    (client, backend)
}

impl Client {
    /// Announces a producer of the topic.
    async fn announce(&self) {
        self.services.broker_requests.announce_producers(std::slice::from_ref(&self.topic)).await;
    }

    /// Takes the next check, and reports that a producer was asked.
    async fn asked(&self) -> Delivery {
        let check = self.checked().await;
        self.services.broker_requests.checked(&check.coordinates, CheckOutcome::Sent).await;
        check
    }

    /// Takes the next check.
    async fn checked(&self) -> Delivery {
        let next = tokio::time::timeout(TIMEOUT, self.services.broker_requests.next());
        match next.await.expect("a check") {
            BrokerRequest::Check(check) => *check,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_first_decision_counts() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    let (kept, dropped) = (client.send_half(half("kept")).await, client.send_half(half("dropped")).await);
    for _ in 0..2 {
        client.commit(&kept).await;
        client.roll_back(&dropped).await;
    }
    let (client, _backend) = client_after_restart(client, backend).await;
    for _ in 0..2 {
        client.roll_back(&kept).await;
        client.commit(&dropped).await;
    }
    assert_eq!(ids(&client.receive_all(1).await), ["kept"]);
    client.expect_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_concurrent_contradicting_decisions_counts() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    let mut transactions = Vec::new();
    for id in 0..20 {
        transactions.push(client.send_half(half(id)).await);
    }
    let both = [Resolution::Commit, Resolution::Rollback, Resolution::Commit];
    let ends = transactions
        .iter()
        .flat_map(|transaction| both.map(|resolution| client.end(transaction, resolution)));
    assert!(join_all(ends).await.iter().all(Result::is_ok));
    client.send_ids(["last"]).await;
    let mut seen = BTreeSet::new();
    while !seen.contains("last") {
        for delivery in client.receive(client.request()).await {
            assert!(seen.insert(delivery.message.id.clone()), "{} was delivered twice", delivery.message.id);
        }
    }
    client.expect_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_transactions_are_decided_once_while_producers_are_asked() {
    const COUNT: usize = 2_000;
    let config = EmbeddedConfig {
        transaction_timeout: Duration::from_millis(20),
        transaction_check_interval: Duration::from_millis(20),
        transaction_check_max: u32::MAX,
        ..EmbeddedConfig::default()
    };
    let backend = Embedded::with(config).await;
    let client = Client::with_queues(backend.services(), 4).await;
    client.announce().await;
    let mut open = Vec::new();
    for first in (0..COUNT).step_by(50) {
        let sends = (first..first + 50).map(|id| client.send_half(half(id)));
        open.extend(join_all(sends).await.into_iter().enumerate().map(|(index, at)| (first + index, at)));
    }
    let asking = async {
        loop {
            client.asked().await;
        }
    };
    let deciding = join_all((0..4).map(|producer| {
        let (client, open) = (&client, &open);
        async move {
            for (id, transaction) in open.iter().filter(|(id, _)| id % 4 == producer) {
                if id % 3 == 0 {
                    client.commit(transaction).await
                } else {
                    client.roll_back(transaction).await
                }
            }
        }
    }));
    tokio::select! { () = asking => {}, _ = deciding => {} }
    let expected: BTreeSet<_> = (0..COUNT).step_by(3).map(|id| id.to_string()).collect();
    let deliveries = client.receive_all(expected.len()).await;
    let seen: BTreeSet<_> = ids(&deliveries).into_iter().map(str::to_owned).collect();
    assert_eq!(seen, expected);
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_producer_is_asked_about_an_undecided_message() {
    let (client, _backend) = impatient().await;
    let message = Message { tag: Some("tag".to_owned()), recovery: Some(LONG), ..half("patient") };
    let patient = client.send_half(message).await;
    client.send_half(half("undecided")).await;
    client.announce().await;
    let first = client.asked().await;
    assert_eq!((first.message.id.as_str(), &first.topic), ("undecided", &client.topic));
    let second = client.asked().await;
    assert_eq!(second.message, first.message);
    // Both coordinates name the same transaction.
    client.commit(&first.coordinates).await;
    client.roll_back(&second.coordinates).await;
    assert_eq!(ids(&client.receive_all(1).await), ["undecided"]);
    client.commit(&patient).await;
    assert_eq!(client.next(LONG).await.message.tag.as_deref(), Some("tag"));
}

#[tokio::test]
async fn checks_continue_after_a_restart() {
    let (client, backend) = impatient().await;
    client.send_half(half("undecided")).await;
    client.announce().await;
    client.asked().await;
    let (client, _backend) = client_after_restart(client, backend).await;
    client.announce().await;
    let check = client.asked().await;
    client.commit(&check.coordinates).await;
    assert_eq!(ids(&client.receive_all(1).await), ["undecided"]);
}

#[tokio::test]
async fn after_the_last_check_a_message_is_discarded() {
    let (client, backend) = impatient().await;
    let undecided = client.send_half(half("undecided")).await;
    client.announce().await;
    client.asked().await;
    let (client, _backend) = client_after_restart(client, backend).await;
    client.announce().await;
    assert_eq!(client.asked().await.message.id, "undecided");
    let other = client.send_half(half("other")).await;
    // These checks are later than a third check of the first message would be.
    for _ in 0..2 {
        assert_eq!(client.asked().await.message.id, "other");
    }
    let error = client.end(&undecided, Resolution::Commit).await.expect_err("discarded");
    assert_eq!(error.kind, ServiceErrorKind::Rejected);
    client.commit(&other).await;
    assert_eq!(ids(&client.receive_all(1).await), ["other"]);
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_check_without_a_producer_does_not_count() {
    let (client, _backend) = impatient().await;
    let undecided = client.send_half(half("undecided")).await;
    client.announce().await;
    for _ in 0..3 {
        let check = client.checked().await;
        client.services.broker_requests.checked(&check.coordinates, CheckOutcome::NotSent).await;
    }
    for _ in 0..2 {
        assert_eq!(client.asked().await.message.id, "undecided");
    }
    client.commit(&undecided).await;
}

#[tokio::test]
async fn only_topics_with_a_producer_are_checked() {
    let (client, _backend) = impatient().await;
    let other = Client::with_queues(client.services.clone(), 1).await;
    client.send_half(half("first")).await;
    other.send_half(half("second")).await;
    other.announce().await;
    assert_eq!(other.asked().await.message.id, "second");
    assert_eq!(other.asked().await.message.id, "second");
    client.announce().await;
    assert_eq!(client.asked().await.message.id, "first");
}

#[tokio::test]
async fn half_messages_and_delayed_messages_are_deleted_with_their_topic() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    let transaction = client.send_half(half("half")).await;
    let handle = client.send_later(delayed("later", LONG)).await;
    client.services.metadata.delete_topic(&client.topic).await.expect("deleted");
    let error = client.end(&transaction, Resolution::Commit).await.expect_err("no topic");
    assert_eq!(error.kind, ServiceErrorKind::TopicNotFound);
    assert_eq!(client.recall(&handle).await.expect_err("no topic").kind, ServiceErrorKind::TopicNotFound);
    client.services.metadata.create_topic(client.topic_config(1), false).await.expect("a new topic");
    let error = client.end(&transaction, Resolution::Commit).await.expect_err("another topic");
    assert_eq!(error.kind, ServiceErrorKind::Rejected);
    assert_eq!(client.recall(&handle).await.expect_err("another topic").kind, ServiceErrorKind::Rejected);
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_forged_handle_recalls_nothing() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    let handle = client.send_later(delayed("message", LONG)).await;
    let genuine = String::from_utf8(URL_SAFE_NO_PAD.decode(&handle).expect("base64")).expect("text");
    for forged in
        [genuine.replace("message", "massage"), genuine.replace("message", ""), format!("{genuine}x")]
    {
        let error = client.recall(&URL_SAFE_NO_PAD.encode(&forged)).await.expect_err("forged");
        assert_eq!(error.kind, ServiceErrorKind::Rejected, "{forged}");
    }
    assert_eq!(client.recall(&handle).await.expect("genuine"), "message");
}

#[tokio::test]
async fn a_recall_survives_a_restart() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    let early = client.send_later(delayed("recalled before", Duration::from_millis(1_500))).await;
    let late = client.send_later(delayed("recalled after", LONG)).await;
    assert_eq!(client.recall(&early).await.expect("in time"), "recalled before");
    let (client, _backend) = client_after_restart(client, backend).await;
    assert_eq!(client.recall(&late).await.expect("in time"), "recalled after");
    client.send(vec![delayed("later", Duration::from_millis(1_600))]).await;
    assert_eq!(client.next(LONG).await.message.id, "later");
    client.expect_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_recalled_or_delivered() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    let due = Instant::now() + Duration::from_millis(300);
    let mut handles = Vec::new();
    for id in 0..100 {
        let delay = due.saturating_duration_since(Instant::now()) + Duration::from_millis(id);
        handles.push(client.send_later(delayed(id, delay)).await);
    }
    client.send(vec![delayed("last", Duration::from_millis(800))]).await;
    let (recalled, delivered) = tokio::join!(
        async {
            let mut recalled = BTreeSet::new();
            // The latest first, so that recalls and deliveries meet half-way.
            for handle in handles.iter().rev() {
                if let Ok(id) = client.recall(handle).await {
                    recalled.insert(id);
                }
            }
            recalled
        },
        async {
            let mut delivered = BTreeSet::new();
            while !delivered.contains("last") {
                for delivery in client.receive(client.request()).await {
                    assert!(delivered.insert(delivery.message.id), "a message was delivered twice");
                }
            }
            delivered
        }
    );
    assert!(recalled.is_disjoint(&delivered));
    assert_eq!(recalled.len() + delivered.len(), 101);
}

#[tokio::test]
async fn a_batch_may_have_half_messages() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    let sent =
        client.send(vec![plain("plain"), half("half"), delayed("later", Duration::from_millis(50))]).await;
    assert_eq!(ids(&client.receive_all(2).await), ["plain", "later"]);
    client.commit(sent[1].transaction.as_ref().expect("coordinates")).await;
    assert_eq!(client.next(LONG).await.message.id, "half");
}
