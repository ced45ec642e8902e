//! Contract: FIFO groups and message groups.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use rocketmq_thin_proxy::service::{AckOutcome, NextAttempt, Receive};

use crate::backend::Backend;
use crate::client::{Client, LONG, SHORT, changed, ids, of_group};
use crate::restart::client_after_restart;

/// Sends these ids in one message group, and so to one queue.
async fn send_in_order(client: &Client, ids: &[&str]) {
    for id in ids {
        client.send(vec![of_group(id, "order-1")]).await;
    }
}

pub(crate) async fn a_message_group_stays_in_one_queue<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 8).await;
    // The same queues as Apache's proxy chooses.
    for (group, queue) in [("order-1", 3), ("order-2", 2), ("order-3", 7), ("user:4711", 4), ("a", 0)] {
        let mut queues = BTreeSet::new();
        for id in 0..3 {
            queues.insert(client.send(vec![of_group(id, group)]).await[0].queue_id);
        }
        assert_eq!(queues, BTreeSet::from([queue]), "{group}");
    }
}

pub(crate) async fn the_next_message_waits_for_the_acknowledgement<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    send_in_order(&client, &["a", "b"]).await;
    let first = client.receive(Receive { max: 1, ..client.in_order() }).await;
    assert_eq!(ids(&first), ["a"]);
    assert!(client.now(client.in_order()).await.is_empty());
    // The acknowledgement wakes a waiting receive.
    let (next, outcomes) = tokio::join!(client.receive(client.in_order()), client.acknowledge(&first));
    assert_eq!(outcomes, [AckOutcome::Done]);
    assert_eq!(ids(&next), ["b"]);
}

pub(crate) async fn a_batch_may_be_acknowledged_in_any_order<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    send_in_order(&client, &["a", "b", "c", "d"]).await;
    let batch = client.receive(Receive { max: 3, ..client.in_order() }).await;
    assert_eq!(ids(&batch), ["a", "b", "c"]);
    for settled in [2, 0] {
        client.acknowledge(&batch[settled..=settled]).await;
        assert!(client.now(client.in_order()).await.is_empty());
    }
    client.acknowledge(&batch[1..2]).await;
    assert_eq!(ids(&client.receive(client.in_order()).await), ["d"]);
}

pub(crate) async fn a_changed_lease_begins_with_the_change<B: Backend>(backend: B) {
    const APART: Duration = Duration::from_millis(50);
    let client = Client::new(backend.services());
    send_in_order(&client, &["a"]).await;
    let delivery = client.receive(client.in_order()).await.remove(0);
    while delivery.received_at.elapsed().is_ok_and(|since| since < APART) {
        tokio::task::yield_now().await;
    }
    let asked = SystemTime::now();
    let outcome = client.change(&delivery, LONG, NextAttempt::Counts).await;
    let delivery = changed(&delivery, outcome, LONG);
    // Brokers round to milliseconds.
    assert!(delivery.received_at + Duration::from_millis(1) >= asked, "{:?}", delivery.received_at);
    assert_eq!(client.acknowledge(&[delivery]).await, [AckOutcome::Done]);
}

pub(crate) async fn the_same_attempt_gets_its_batch_again<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    send_in_order(&client, &["a", "b", "c"]).await;
    let named = |name: &str| Receive { max: 2, attempt_id: Some(name.to_owned()), ..client.in_order() };
    let lost = client.receive(named("one")).await;
    assert!(client.now(named("two")).await.is_empty());
    let again = client.receive(named("one")).await;
    assert_eq!(ids(&again), ["a", "b"]);
    assert!(again.iter().all(|delivery| delivery.attempt == 1));
    // The coordinates of the lost response no longer settle anything.
    client.acknowledge(&lost).await;
    assert!(client.now(named("two")).await.is_empty());
    client.acknowledge(&again).await;
    assert_eq!(ids(&client.receive(named("two")).await), ["c"]);
}

pub(crate) async fn an_unsettled_batch_is_redelivered_in_order<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    send_in_order(&client, &["a", "b", "c", "d"]).await;
    let batch =
        client.receive(Receive { max: 3, invisible: Duration::from_millis(300), ..client.in_order() }).await;
    client.acknowledge(&batch[1..2]).await;
    let again = client.receive(Receive { max: 3, ..client.in_order() }).await;
    assert_eq!(ids(&again), ["a", "c"]);
    assert!(again.iter().all(|delivery| delivery.attempt == 2));
    let offsets = |of: &[usize]| of.iter().map(|i| batch[*i].queue_offset).collect::<Vec<_>>();
    assert_eq!(again.iter().map(|d| d.queue_offset).collect::<Vec<_>>(), offsets(&[0, 2]));
    client.acknowledge(&again).await;
    let last = client.receive(client.in_order()).await;
    assert_eq!((ids(&last), last[0].attempt), (vec!["d"], 1));
}

pub(crate) async fn a_suspended_lease_counts<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    send_in_order(&client, &["a"]).await;
    let first = client.receive(client.in_order()).await;
    client.change(&first[0], SHORT, NextAttempt::Suspended).await;
    assert_eq!(client.receive(client.in_order()).await[0].attempt, 2);
}

/// Creates a client with one queue, and sends these messages of message groups to it.
async fn with_messages<B: Backend>(backend: &B, messages: &[(&str, &str)]) -> Client {
    let client = Client::with_queues(backend.services(), 1).await;
    for (id, group) in messages {
        client.send(vec![of_group(id, group)]).await;
    }
    client
}

const TWO_GROUPS: [(&str, &str); 4] = [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b")];

pub(crate) async fn a_batch_may_have_several_message_groups<B: Backend>(backend: B) {
    let client = with_messages(&backend, &TWO_GROUPS).await;
    let batch = client.receive(client.in_order()).await;
    assert_eq!(ids(&batch), ["a1", "b1", "a2", "b2"]);
    client.acknowledge(&batch).await;
    assert!(client.now(client.in_order()).await.is_empty());
}

pub(crate) async fn message_groups_do_not_block_each_other<B: Backend>(backend: B) {
    let client = with_messages(&backend, &TWO_GROUPS).await;
    let a1 = client.receive(Receive { max: 1, ..client.in_order() }).await;
    let b = client.now(client.in_order()).await;
    assert_eq!((ids(&a1), ids(&b)), (vec!["a1"], vec!["b1", "b2"]));
    client.send(vec![of_group("a3", "a")]).await;
    assert!(client.now(client.in_order()).await.is_empty());
    // The message that was passed over is delivered before the later one.
    let (a, outcomes) = tokio::join!(client.receive(client.in_order()), client.acknowledge(&a1));
    assert_eq!((ids(&a), outcomes), (vec!["a2", "a3"], vec![AckOutcome::Done]));
    client.acknowledge(&b).await;
    assert!(client.now(client.in_order()).await.is_empty());
}

pub(crate) async fn blocked_messages_survive_a_restart<B: Backend>(backend: B) {
    let client = with_messages(&backend, &TWO_GROUPS).await;
    let a1 = client.receive(Receive { max: 1, ..client.in_order() }).await;
    let b = client.now(client.in_order()).await;
    client.acknowledge(&b).await;
    let (client, _backend) = client_after_restart(client, backend).await;
    assert!(client.now(client.in_order()).await.is_empty());
    client.acknowledge(&a1).await;
    let a2 = client.now(client.in_order()).await;
    assert_eq!((ids(&b), ids(&a2), a2[0].attempt), (vec!["b1", "b2"], vec!["a2"], 1));
}

pub(crate) async fn a_message_group_is_unblocked_when_no_message_has_a_lease<B: Backend>(backend: B) {
    let client = with_messages(&backend, &[("a1", "a"), ("a2", "a"), ("b1", "b")]).await;
    let batch = client.receive(Receive { max: 2, ..client.in_order() }).await;
    assert_eq!(ids(&batch), ["a1", "a2"]);
    client.change(&batch[0], Duration::ZERO, NextAttempt::Counts).await;
    // The second message of the group still has a running lease.
    assert_eq!(ids(&client.now(client.in_order()).await), ["b1"]);
    let (again, _) = tokio::join!(
        client.receive(client.in_order()),
        client.change(&batch[1], Duration::ZERO, NextAttempt::Counts)
    );
    assert_eq!(ids(&again), ["a1", "a2"]);
    assert!(again.iter().all(|delivery| delivery.attempt == 2));
}

pub(crate) async fn the_same_attempt_gets_several_message_groups_again<B: Backend>(backend: B) {
    let client = with_messages(&backend, &TWO_GROUPS).await;
    let named = || Receive { max: 4, attempt_id: Some("one".to_owned()), ..client.in_order() };
    client.receive(named()).await;
    let again = client.receive(named()).await;
    assert_eq!(ids(&again), ["a1", "b1", "a2", "b2"]);
    assert!(again.iter().all(|delivery| delivery.attempt == 1));
    assert_eq!(client.acknowledge(&again).await, [const { AckOutcome::Done }; 4]);
}

pub(crate) async fn a_dead_letter_unblocks_its_message_group<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    send_in_order(&client, &["a", "b"]).await;
    let first = client.receive(Receive { max: 1, ..client.in_order() }).await;
    let (next, ()) = tokio::join!(client.receive(client.in_order()), client.forward(&first[0]));
    assert_eq!(ids(&next), ["b"]);
}

pub(crate) async fn messages_without_a_message_group_wait_for_each_other<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    client.send_ids(["a", "b"]).await;
    let first = client.receive(Receive { max: 1, ..client.in_order() }).await;
    assert!(client.now(client.in_order()).await.is_empty());
    client.acknowledge(&first).await;
    assert_eq!(ids(&client.receive(client.in_order()).await), ["b"]);
}

pub(crate) async fn queues_do_not_block_each_other<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 8).await;
    client.send(vec![of_group("in queue 3", "order-1")]).await;
    let blocking = client.receive(Receive { invisible: LONG, ..client.in_order() }).await;
    assert_eq!(blocking.len(), 1);
    client.send(vec![of_group("behind", "order-1")]).await;
    client.send(vec![of_group("in queue 7", "order-3")]).await;
    assert_eq!(ids(&client.receive(client.in_order()).await), ["in queue 7"]);
}
