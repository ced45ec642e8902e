//! Contract: acknowledging, changing the invisible time, and forwarding to the dead-letter topic.

use std::time::Duration;

use rocketmq_thin_proxy::service::{
    AckOutcome, ChangeInvisible, DeadLetterOrigin, InvisibleOutcome, NextAttempt, Receive, ServiceErrorKind,
    Settle,
};

use crate::backend::Backend;
use crate::client::{Client, LONG, SHORT, TIMEOUT, changed, ids, plain, settle};

pub(crate) async fn an_acknowledged_message_is_not_redelivered<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["first"]).await;
    let first = client.next(Duration::from_millis(300)).await;
    assert_eq!(client.acknowledge(&[first]).await, [AckOutcome::Done]);
    client.send_ids(["second"]).await;
    // The second lease expires after the first one would have expired, so the first message would be redelivered, too.
    assert_eq!(client.next(Duration::from_millis(600)).await.message.id, "second");
    assert_eq!(client.next(LONG).await.message.id, "second");
    client.expect_nothing().await;
}

pub(crate) async fn an_acknowledgement_may_be_repeated<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let delivery = client.next(LONG).await;
    assert_eq!(
        client.acknowledge(&[delivery.clone(), delivery.clone()]).await,
        [AckOutcome::Done, AckOutcome::Done]
    );
    assert_eq!(client.acknowledge(&[delivery]).await, [AckOutcome::Done]);
}

pub(crate) async fn deliveries_are_acknowledged_together<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    client.send_ids(0..12).await;
    let mut deliveries = Vec::new();
    while deliveries.len() < 12 {
        deliveries.extend(client.receive(Receive { invisible: SHORT * 8, ..client.request() }).await);
    }
    let kept = deliveries.remove(7);
    assert_eq!(client.acknowledge(&deliveries).await, [const { AckOutcome::Done }; 11]);
    assert_eq!(ids(&client.receive_all(1).await), [kept.message.id]);
    client.expect_nothing().await;
}

pub(crate) async fn an_expired_lease_settles_nothing<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let first = client.next(SHORT).await;
    let second = client.next(LONG).await;
    assert_eq!(second.attempt, 2);
    assert_eq!(client.acknowledge(std::slice::from_ref(&first)).await, [AckOutcome::Expired]);
    assert_eq!(client.change(&first, LONG, NextAttempt::Counts).await, InvisibleOutcome::Expired);
    // The second lease continues.
    assert_eq!(client.acknowledge(&[second]).await, [AckOutcome::Done]);
}

pub(crate) async fn another_group_settles_nothing<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let delivery = client.next(Duration::from_millis(200)).await;
    // Apache's brokers answer that it is done. The proxy refuses handles of other groups before it asks the backend.
    let outcomes = client.other_group().acknowledge(&[delivery]).await;
    assert!(matches!(outcomes[..], [AckOutcome::Done | AckOutcome::Invalid(_)]), "{outcomes:?}");
    assert_eq!(client.next(LONG).await.attempt, 2);
    assert_eq!(client.other_group().next(LONG).await.attempt, 1);
}

pub(crate) async fn foreign_coordinates_are_invalid<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let delivery = client.next(LONG).await;
    for coordinates in ["", " ", "1", "a.b.c", "not coordinates at all", "1 2 3 4 5 6 7 8 9"] {
        let entry = Settle { coordinates: coordinates.to_owned(), ..settle(&delivery) };
        let outcomes = client.acknowledge_entries(vec![entry.clone()]).await;
        assert!(matches!(outcomes[..], [AckOutcome::Invalid(_)]), "{coordinates:?}: {outcomes:?}");
        let change = ChangeInvisible {
            topic: client.topic.clone(),
            group: client.group.clone(),
            entry,
            invisible: LONG,
            next_attempt: NextAttempt::Counts,
            deadline: std::time::Instant::now() + TIMEOUT,
        };
        let error = client.services.messages.change_invisible(change).await.expect_err("foreign");
        assert_eq!(error.kind, ServiceErrorKind::InvalidHandle);
    }
}

pub(crate) async fn outcomes_are_in_the_order_of_the_entries<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let expired = client.next(SHORT).await;
    let good = client.next(LONG).await;
    let junk = Settle { coordinates: "junk".to_owned(), ..settle(&good) };
    let outcomes = client.acknowledge_entries(vec![settle(&expired), junk, settle(&good)]).await;
    assert!(
        matches!(outcomes[..], [AckOutcome::Expired, AckOutcome::Invalid(_), AckOutcome::Done]),
        "{outcomes:?}"
    );
}

pub(crate) async fn a_changed_lease_has_new_coordinates<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let old = client.next(LONG).await;
    let new = changed(
        &old,
        client.change(&old, Duration::from_millis(400), NextAttempt::Counts).await,
        Duration::from_millis(400),
    );
    assert_ne!(new.coordinates, old.coordinates);
    // Succeeds without effect, as with Apache's brokers.
    assert_eq!(client.acknowledge(&[old]).await, [AckOutcome::Done]);
    let again = client.next(LONG).await;
    assert_eq!(again.attempt, 2);
    assert_eq!(client.acknowledge(&[again]).await, [AckOutcome::Done]);
}

pub(crate) async fn a_lease_can_be_ended_at_once<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let delivery = client.next(LONG).await;
    client.change(&delivery, Duration::ZERO, NextAttempt::Counts).await;
    assert_eq!(client.next(LONG).await.attempt, 2);
}

pub(crate) async fn a_suspended_lease_does_not_count<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let first = client.next(LONG).await;
    client.change(&first, Duration::ZERO, NextAttempt::Suspended).await;
    let second = client.next(LONG).await;
    assert_eq!(second.attempt, 1);
    client.change(&second, Duration::ZERO, NextAttempt::Counts).await;
    assert_eq!(client.next(LONG).await.attempt, 2);
}

pub(crate) async fn changing_a_settled_lease_redelivers_nothing<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    let delivery = client.next(LONG).await;
    client.acknowledge(std::slice::from_ref(&delivery)).await;
    let outcome = client.change(&delivery, Duration::ZERO, NextAttempt::Counts).await;
    // Apache's brokers do not tell the two apart.
    let is_ok = matches!(outcome, InvisibleOutcome::Changed { .. } | InvisibleOutcome::Gone { .. });
    assert!(is_ok, "{outcome:?}");
    client.expect_nothing().await;
}

pub(crate) async fn a_dead_letter_moves_to_its_own_topic<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send(vec![plain("a")]).await;
    let delivery = client.next(LONG).await;
    client.forward(&delivery).await;
    client.expect_nothing().await;
    // A second time, after the message is settled: success without effect.
    client.forward(&delivery).await;
    let dead = Client {
        services: client.services.clone(),
        topic: format!("%DLQ%{}", client.group),
        group: format!("{}-dead", client.group),
    };
    let letters = dead.receive(Receive { max: 32, ..dead.request() }).await;
    assert_eq!(ids(&letters), ["a"]);
    assert_eq!(letters[0].message.body, delivery.message.body);
    assert_eq!(letters[0].attempt, 2, "earlier deliveries count");
    let route = client.services.routes.route(&dead.topic).await.expect("a route");
    assert_eq!((route.queues[0].read_queues, route.queues[0].write_queues), (1, 1));
}

pub(crate) async fn a_dead_letter_names_its_origin<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    client.send_ids(["a"]).await;
    client.forward(&client.next(LONG).await).await;
    let dead = Client {
        services: client.services.clone(),
        topic: format!("%DLQ%{}", client.group),
        group: format!("{}-dead", client.group),
    };
    let letter = dead.next(LONG).await;
    let origin = DeadLetterOrigin { topic: client.topic.clone(), message_id: "a".to_owned() };
    assert_eq!(letter.message.dead_letter_origin, Some(origin));
}

pub(crate) async fn receipt_handles_of_a_deleted_topic_are_invalid<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    client.send_ids(["old"]).await;
    let old = client.next(LONG).await;
    client.services.metadata.delete_topic(&client.topic).await.expect("deleted");
    client.services.metadata.create_topic(client.topic_config(1), false).await.expect("a new topic");
    client.send_ids(["new"]).await;
    let new = client.next(LONG).await;
    let outcomes = client.acknowledge(std::slice::from_ref(&old)).await;
    assert!(matches!(outcomes[..], [AckOutcome::Invalid(_)]), "{outcomes:?}");
    let deadline = std::time::Instant::now() + TIMEOUT;
    let change = ChangeInvisible::give_back(&client.topic, &client.group, &old, deadline);
    let error = client.services.messages.change_invisible(change).await.expect_err("of the old topic");
    assert_eq!(error.kind, ServiceErrorKind::InvalidHandle);
    assert_eq!(client.acknowledge(&[new]).await, [AckOutcome::Done]);
}
