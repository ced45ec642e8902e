//! Contract: receives that wait for messages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::poll;
use parking_lot::Mutex;
use rocketmq_thin_proxy::service::{Delivered, NextAttempt, Receive, ServiceErrorKind};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backend::Backend;
use crate::client::{Client, LONG, SHORT, TIMEOUT, plain, sorted_ids};

pub(crate) async fn a_waiting_receive_gets_the_next_message<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let (deliveries, _) = tokio::join!(client.receive(client.request()), client.send(vec![plain("late")]));
    assert_eq!(sorted_ids(&deliveries), ["late"]);
}

pub(crate) async fn waiting_receives_share_new_messages<B: Backend>(backend: B) {
    let client = Arc::new(Client::new(backend.services()));
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.receive(Receive { max: 1, ..client.request() }).await })
        })
        .collect();
    client.send((0..8).map(plain).collect()).await;
    let deliveries: Vec<_> =
        join_all(waiting).await.into_iter().flat_map(|d| d.expect("a receive")).collect();
    assert_eq!(sorted_ids(&deliveries), ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

pub(crate) async fn a_waiting_receive_gets_messages_that_become_visible<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let delivery = client.next(LONG).await;
    // A receive waits while the lease is shortened, and then while it is ended.
    let (again, _) = tokio::join!(
        client.next(LONG),
        client.change(&delivery, Duration::from_millis(30), NextAttempt::Counts)
    );
    assert_eq!(again.attempt, 2);
    let (again, _) =
        tokio::join!(client.next(LONG), client.change(&again, Duration::ZERO, NextAttempt::Counts));
    assert_eq!(again.attempt, 3);
}

pub(crate) async fn a_dropped_receive_loses_nothing<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    for id in 0..20 {
        let mut dropped = Box::pin(client.receive(client.request()));
        let waits = poll!(&mut dropped).is_pending();
        let mut stays = Box::pin(client.receive(client.request()));
        let _ = poll!(&mut stays);
        client.send(vec![plain(id)]).await;
        assert!(waits);
        drop(dropped);
        assert_eq!(stays.await.len(), 1, "message {id}");
    }
}

pub(crate) async fn many_producers_and_impatient_consumers_lose_nothing<B: Backend>(backend: B) {
    const PRODUCERS: usize = 8;
    const EACH: usize = 60;
    let client = Arc::new(Client::with_queues(backend.services(), 3).await);
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let done = CancellationToken::new();
    let consumers: Vec<_> = (0..8)
        .map(|patience| {
            let (client, seen, done) = (client.clone(), seen.clone(), done.clone());
            tokio::spawn(async move {
                while !done.is_cancelled() {
                    let deliveries = tokio::select! {
                        deliveries = client.receive(Receive { max: 3, ..client.request() }) => deliveries,
                        () = yield_often(patience) => continue,
                        () = done.cancelled() => break,
                    };
                    client.acknowledge(&deliveries).await;
                    let mut seen = seen.lock();
                    for delivery in deliveries {
                        assert!(seen.insert(delivery.message.id), "delivered twice");
                    }
                    if seen.len() == PRODUCERS * EACH {
                        done.cancel();
                    }
                }
            })
        })
        .collect();
    let producers = (0..PRODUCERS).map(|producer| {
        let client = client.clone();
        async move { client.send_ids((0..EACH).map(|n| format!("{producer}-{n}"))).await }
    });
    join_all(producers).await;
    timeout(TIMEOUT, join_all(consumers))
        .await
        .expect("all messages come")
        .into_iter()
        .for_each(|c| c.expect("no panic"));
    client.expect_nothing().await;
}

pub(crate) async fn a_stuck_consumer_blocks_only_its_own_messages<B: Backend>(backend: B) {
    const OTHERS: usize = 7;
    const MESSAGES: usize = 200;
    let client = Arc::new(Client::with_queues(backend.services(), 4).await);
    for first in (0..MESSAGES).step_by(20) {
        client.send((first..first + 20).map(plain).collect()).await;
    }
    // This consumer settles nothing.
    let stuck = client.receive(client.request()).await;
    let left = Arc::new(Mutex::new((0..MESSAGES).map(|id| id.to_string()).collect::<BTreeSet<_>>()));
    left.lock().retain(|id| stuck.iter().all(|delivery| delivery.message.id != *id));
    let drain = async || {
        let done = CancellationToken::new();
        let others = (0..OTHERS).map(|_| async {
            while !left.lock().is_empty() {
                let deliveries = tokio::select! {
                    deliveries = client.receive(Receive { max: 3, ..client.request() }) => deliveries,
                    () = done.cancelled() => break,
                };
                client.acknowledge(&deliveries).await;
                let mut left = left.lock();
                for delivery in deliveries {
                    assert!(left.remove(&delivery.message.id), "{} is unexpected", delivery.message.id);
                }
                if left.is_empty() {
                    done.cancel();
                }
            }
        });
        timeout(TIMEOUT, join_all(others)).await.expect("the others get everything");
    };
    drain().await;
    left.lock().extend(stuck.iter().map(|delivery| delivery.message.id.clone()));
    // Once its leases have expired, the others get its messages, too.
    for delivery in &stuck {
        client.change(delivery, SHORT, NextAttempt::Counts).await;
    }
    drain().await;
    client.expect_nothing().await;
}

/// Yields a number of times, or never ends if `patience` is even.
async fn yield_often(patience: usize) {
    if patience.is_multiple_of(2) {
        std::future::pending::<()>().await;
    }
    for _ in 0..patience * 5 {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn a_receive_without_messages_succeeds_at_its_deadline<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let deadline = Instant::now() + Duration::from_millis(20);
    let delivered = client.services.messages.receive(Receive { deadline, ..client.request() }).await;
    assert!(matches!(delivered, Ok(Delivered::Nothing)), "{delivered:?}");
    assert!(Instant::now() >= deadline);
}

pub(crate) async fn a_deleted_topic_ends_the_wait<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 2).await;
    let mut waiting = Box::pin(client.try_receive(client.request()));
    // The receive ends, whether it waits already or not.
    let _ = poll!(&mut waiting);
    client.services.metadata.delete_topic(&client.topic).await.expect("deleted");
    assert_eq!(waiting.await.expect_err("the topic is gone").kind, ServiceErrorKind::TopicNotFound);
}

pub(crate) async fn a_deleted_group_ends_the_wait<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 2).await;
    client.services.metadata.group(&client.group).await.expect("a group created on first use");
    client.expect_nothing().await;
    let mut waiting = Box::pin(client.try_receive(client.request()));
    assert!(poll!(&mut waiting).is_pending());
    client.services.metadata.delete_group(&client.group).await.expect("deleted");
    assert_eq!(waiting.await.expect_err("the group is gone").kind, ServiceErrorKind::GroupNotFound);
}
