//! The embedded backend: guarantees for redelivery and wake-ups beyond the contract.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::poll;
use rocketmq_thin_proxy::backend::embedded::EmbeddedConfig;
use rocketmq_thin_proxy::service::{
    AckOutcome, ChangeInvisible, Delivery, Forward, GroupConfig, GroupStart, Message, NextAttempt, Receive,
    ServiceErrorKind, TopicConfig,
};

use crate::backend::{Backend, Embedded};
use crate::client::{
    Client, LONG, SHORT, TIMEOUT, changed, delayed, ids, of_group, plain, settle, sorted_ids,
};
use crate::restart::client_after_restart;

/// A backend that keeps no recent messages in memory.
async fn without_cache() -> Embedded {
    Embedded::with(EmbeddedConfig { cache_bytes: 0, ..EmbeddedConfig::default() }).await
}

/// Waits until the lease of a delivery has expired.
async fn expiry_of(delivery: &Delivery) {
    // A margin for rounding to milliseconds.
    let length = delivery.invisible + Duration::from_millis(2);
    while delivery.received_at.elapsed().is_ok_and(|since| since < length) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn messages_with_expired_leases_are_delivered_before_a_backlog() {
    for queues in [1, 3] {
        let backend = without_cache().await;
        let client = Client::with_queues(backend.services(), queues).await;
        client.send_ids(["first", "second"]).await;
        let first = client.next(SHORT * 20).await;
        let second = client.next(SHORT * 22).await;
        for batch in 0..20 {
            client.send((0..50).map(|n| plain(batch * 50 + n)).collect()).await;
        }
        // Drops the messages that were read into memory for the first deliveries.
        let (client, _backend) = client_after_restart(client, backend).await;
        expiry_of(&first).await;
        expiry_of(&second).await;
        for earlier in [first, second] {
            let again = client.next(LONG).await;
            assert_eq!((again.message.id, again.attempt), (earlier.message.id, 2), "{queues} queues");
        }
    }
}

#[tokio::test]
async fn a_lagging_queue_is_read_although_another_one_is_busy() {
    let backend = Embedded::with(EmbeddedConfig { cache_bytes: 50_000, ..EmbeddedConfig::default() }).await;
    let client = Client::with_queues(backend.services(), 8).await;
    client.send(vec![of_group("behind", "order-1")]).await;
    // Other messages replace it in memory.
    let filler = Client::new(backend.services());
    filler.send(vec![Message { body: vec![7u8; 100_000].into(), ..plain("filler") }]).await;
    filler.send_ids(["last"]).await;
    let mut before = 0;
    loop {
        client.send(vec![of_group(before, "order-2")]).await;
        if client.next(LONG).await.message.id == "behind" {
            break;
        }
        before += 1;
        assert!(before < 9, "messages of the busy queue are always delivered first");
    }
}

#[tokio::test]
async fn a_leased_message_that_retention_has_removed_is_passed_over() {
    let config = EmbeddedConfig { retention: Duration::from_millis(1), ..EmbeddedConfig::default() };
    let backend = Embedded::with(config).await;
    for fifo in [false, true] {
        let client = Client::with_queues(backend.services(), 1).await;
        let request = || Receive { max: 1, invisible: SHORT, fifo, ..client.request() };
        client.send_ids(["removed"]).await;
        let removed = client.receive(request()).await.remove(0);
        expiry_of(&removed).await;
        // The message is redelivered with a short lease until it is removed. The last chunk of a queue always stays.
        let mut number = 0;
        loop {
            client.send_ids([number]).await;
            number += 1;
            // The new message may be removed at once.
            let Some(next) = client.now(request()).await.into_iter().next() else { continue };
            if next.queue_offset > removed.queue_offset {
                break;
            }
            expiry_of(&next).await;
        }
    }
}

#[tokio::test]
async fn a_waiting_receive_continues_when_its_queue_is_unblocked() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    client.send(vec![of_group("a", "order-1"), of_group("b", "order-1")]).await;
    let batch = client.receive(Receive { invisible: SHORT * 4, ..client.in_order() }).await;
    assert_eq!(ids(&batch), ["a", "b"]);
    let b = changed(&batch[1], client.change(&batch[1], LONG, NextAttempt::Counts).await, LONG);
    let mut waiting = Box::pin(client.receive(client.in_order()));
    assert!(poll!(&mut waiting).is_pending());
    expiry_of(&batch[0]).await;
    // The expiry of the first lease may wake the receive, but the second lease still blocks the queue.
    assert!(poll!(&mut waiting).is_pending());
    client.acknowledge(&[b]).await;
    let again = waiting.await;
    assert_eq!((ids(&again), again[0].attempt), (vec!["a"], 2));
}

#[tokio::test]
async fn a_long_backlog_of_a_blocked_message_group_hides_nothing_and_stays_in_order() {
    const COUNT: usize = 6000;
    let backend = without_cache().await;
    let client = Client::with_queues(backend.services(), 1).await;
    let of_a = |from: usize| (from..from + 1000).map(|id| of_group(id, "a")).collect();
    for from in (0..COUNT).step_by(1000) {
        client.send(of_a(from)).await;
    }
    client.send(vec![of_group("b", "b")]).await;
    let mut batch = client.receive(Receive { max: 1, ..client.in_order() }).await;
    assert_eq!(ids(&client.receive(client.in_order()).await), ["b"]);
    let (client, _backend) = client_after_restart(client, backend).await;
    assert!(client.now(client.in_order()).await.is_empty());
    let mut received = Vec::new();
    loop {
        client.acknowledge(&batch).await;
        received.extend(batch.into_iter().map(|delivery| delivery.message.id));
        if received.len() == COUNT {
            break;
        }
        batch = client.receive(client.in_order()).await;
        assert!(!batch.is_empty(), "lost after {}", received.len());
    }
    assert!(received.iter().eq((0..COUNT).map(|id| id.to_string()).collect::<Vec<_>>().iter()));
}

#[tokio::test]
async fn a_lease_of_an_unordered_receive_blocks_the_whole_queue() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    client.send(vec![of_group("a", "a"), of_group("b", "b")]).await;
    let a = [client.next(LONG).await];
    assert!(client.now(client.in_order()).await.is_empty());
    let (b, _) = tokio::join!(client.receive(client.in_order()), client.acknowledge(&a));
    assert_eq!(ids(&b), ["b"]);
}

#[tokio::test]
async fn a_delivery_that_is_given_back_does_not_count_as_an_attempt() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    client.send(vec![of_group("a", "order-1")]).await;
    for request in [client.in_order(), client.request()] {
        let mut attempts = Vec::new();
        for _ in 0..3 {
            let delivery = client.receive(request.clone()).await.remove(0);
            attempts.push(delivery.attempt);
            let deadline = Instant::now() + TIMEOUT;
            let change = ChangeInvisible::give_back(&client.topic, &client.group, &delivery, deadline);
            client.services.messages.change_invisible(change).await.expect("a change");
        }
        assert_eq!(attempts, [1, 1, 1], "in order: {}", request.fifo);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_moves_write_one_dead_letter() {
    let backend = Embedded::start().await;
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let delivery = client.next(LONG).await;
    join_all((0..20).map(|_| client.forward(&delivery))).await;
    let topic = format!("%DLQ%{}", client.group);
    let dead = Client { services: client.services.clone(), topic, group: client.group.clone() };
    assert_eq!(ids(&dead.receive_all(1).await), ["a"]);
    dead.expect_nothing().await;
    client.expect_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_whose_caller_gives_up_writes_one_dead_letter() {
    let backend = Embedded::start().await;
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let delivery = client.next(LONG).await;
    let topic = format!("%DLQ%{}", client.group);
    let dead = Client { services: client.services.clone(), topic, group: client.group.clone() };
    for _ in 0..5 {
        let mut given_up = Box::pin(client.forward(&delivery));
        let _ = poll!(&mut given_up);
        drop(given_up);
    }
    client.forward(&delivery).await;
    assert_eq!(ids(&dead.receive_all(1).await), ["a"]);
    dead.expect_nothing().await;
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_receive_that_is_dropped_while_it_reads_passes_its_wake_up_on() {
    let backend = without_cache().await;
    let client = Client::with_queues(backend.services(), 1).await;
    client.expect_nothing().await;
    let mut passed_on = 0;
    for id in 0..20 {
        let mut dropped = Box::pin(client.receive(client.request()));
        assert!(poll!(&mut dropped).is_pending());
        let mut stays = Box::pin(client.receive(client.request()));
        assert!(poll!(&mut stays).is_pending());
        client.send(vec![plain(id)]).await;
        // The first receive was woken and waits for the disk now, unless the disk has answered already.
        if poll!(&mut dropped).is_ready() {
            continue;
        }
        drop(dropped);
        assert_eq!(stays.await.len(), 1, "message {id}");
        passed_on += 1;
    }
    assert!(passed_on > 0, "the disk always answered at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_waiting_receives_share_one_batch() {
    const COUNT: usize = 500;
    let backend = Embedded::start().await;
    let client = Arc::new(Client::new(backend.services()));
    client.expect_nothing().await;
    let mut waiting: Vec<_> =
        (0..COUNT).map(|_| Box::pin(client.receive(Receive { max: 1, ..client.request() }))).collect();
    for receive in &mut waiting {
        assert!(poll!(receive).is_pending());
    }
    let send = client.send((0..COUNT).map(plain).collect());
    let (received, _) = tokio::join!(join_all(waiting), send);
    let received: Vec<_> = received.into_iter().flatten().collect();
    let mut expected: Vec<_> = (0..COUNT).map(|id| id.to_string()).collect();
    expected.sort();
    assert_eq!(sorted_ids(&received), expected);
}

#[tokio::test]
async fn a_waiting_receive_gets_messages_of_added_queues() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    let mut waiting = Box::pin(client.receive(client.request()));
    assert!(poll!(&mut waiting).is_pending());
    let config = TopicConfig { read_queues: 64, write_queues: 64, ..client.topic_config(64) };
    client.services.metadata.create_topic(config, true).await.expect("more queues");
    // Nearly all of these message groups are in the added queues.
    let group = ["a", "b", "c", "d"];
    client.send(group.map(|group| of_group(group, group)).into()).await;
    let mut received = waiting.await;
    received.extend(client.receive_all(4 - received.len()).await);
    assert_eq!(sorted_ids(&received), group);
}

#[tokio::test]
async fn a_deletion_ends_all_waiting_receives() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    client.expect_nothing().await;
    let mut waiting: Vec<_> = (0..1000).map(|_| Box::pin(client.try_receive(client.request()))).collect();
    for receive in &mut waiting {
        assert!(poll!(receive).is_pending());
    }
    client.services.metadata.delete_topic(&client.topic).await.expect("deleted");
    for receive in waiting {
        receive.await.expect_err("the topic is gone");
    }
}

#[tokio::test]
async fn large_messages_that_are_due_together_are_all_delivered() {
    let backend = without_cache().await;
    let client = Client::with_queues(backend.services(), 2).await;
    let body = bytes::Bytes::from(vec![7u8; 3 << 20]);
    for id in 0..8 {
        let message = delayed(id, Duration::from_millis(500));
        client.send(vec![Message { body: body.clone(), ..message }]).await;
    }
    let deliveries = client.receive_all(8).await;
    assert_eq!(sorted_ids(&deliveries), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_repeated_attempt_gets_its_batch_again_whichever_queue_it_is_in() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 8).await;
    // In five different queues.
    for group in ["order-1", "order-2", "order-3", "user:4711", "a"] {
        client.send(vec![of_group(group, group)]).await;
    }
    for attempt in 0..5 {
        let repeated = Receive { max: 1, attempt_id: Some(attempt.to_string()), ..client.in_order() };
        let lost = client.receive(repeated.clone()).await;
        let again = client.receive(repeated).await;
        assert_eq!((ids(&again), again[0].attempt), (ids(&lost), 1));
    }
}

#[tokio::test]
async fn receipt_handles_of_a_deleted_group_or_topic_are_invalid() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    client.send_ids(["a"]).await;
    let old = client.next(LONG).await;
    client.services.metadata.delete_group(&client.group).await.expect("deleted");
    expect_invalid(&client, &old).await;
    let new = client.next(LONG).await;
    // The group was created again.
    expect_invalid(&client, &old).await;
    client.services.metadata.delete_topic(&client.topic).await.expect("deleted");
    expect_invalid(&client, &new).await;
}

/// The receipt handle can't settle anything.
async fn expect_invalid(client: &Client, delivery: &Delivery) {
    let messages = &client.services.messages;
    let outcomes = client.acknowledge(std::slice::from_ref(delivery)).await;
    assert!(matches!(outcomes[..], [AckOutcome::Invalid(_)]), "{outcomes:?}");
    let deadline = Instant::now() + TIMEOUT;
    let change = ChangeInvisible::give_back(&client.topic, &client.group, delivery, deadline);
    let error = messages.change_invisible(change).await.expect_err("an invalid handle");
    assert_eq!(error.kind, ServiceErrorKind::InvalidHandle);
    let (topic, group) = (client.topic.clone(), client.group.clone());
    let forward = Forward { topic, group, entry: settle(delivery), deadline };
    let error = messages.forward_to_dead_letter(forward).await.expect_err("an invalid handle");
    assert_eq!(error.kind, ServiceErrorKind::InvalidHandle);
}

#[tokio::test]
async fn an_absent_group_gets_all_messages_of_queues_that_were_added() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 1).await;
    let group = GroupConfig { start: GroupStart::Latest, ..GroupConfig::named(client.group.clone()) };
    client.services.metadata.create_group(group, false).await.expect("a group");
    client.send_ids(["before the group began"]).await;
    client.expect_nothing().await;
    let (client, _backend) = client_after_restart(client, backend).await;
    let config = TopicConfig { read_queues: 4, write_queues: 4, ..client.topic_config(4) };
    client.services.metadata.create_topic(config, true).await.expect("more queues");
    client.send_ids(["a", "b", "c", "d"]).await;
    assert_eq!(sorted_ids(&client.receive_all(4).await), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_delayed_message_whose_queue_was_removed_is_delivered() {
    let backend = Embedded::start().await;
    let client = Client::with_queues(backend.services(), 4).await;
    let sent = client.send((0..4).map(|id| delayed(id, Duration::from_secs(5))).collect()).await;
    assert_eq!(sent.len(), 4);
    let other = client.send(vec![delayed(4, Duration::from_secs(5))]).await;
    assert_ne!(sent[0].queue_id, other[0].queue_id);
    let config = TopicConfig { read_queues: 1, write_queues: 1, ..client.topic_config(1) };
    client.services.metadata.create_topic(config, true).await.expect("fewer queues");
    assert_eq!(sorted_ids(&client.receive_all(5).await), ["0", "1", "2", "3", "4"]);
}
