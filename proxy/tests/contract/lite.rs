//! Contract: lite topics. Each is consumed in order by the clients that are subscribed to it.

use std::time::{Duration, Instant};

use futures::FutureExt;
use rocketmq_thin_proxy::service::{
    AckOutcome, Acknowledge, BrokerRequest, ChangeInvisible, Delivery, Forward, GroupConfig, GroupStart,
    InvisibleOutcome, LiteAction, LiteChange, LiteStart, Message, NextAttempt, Receive, RetryPolicy,
    ServiceErrorKind, Settle, TopicConfig, TopicKind, names,
};

use crate::backend::{Backend, Embedded};
use crate::client::{Client, LONG, SHORT, TIMEOUT, ids, is_flow_control, plain};

/// Creates a LITE topic and a group that is bound to it.
async fn lite<B: Backend>(backend: &B, lite_exclusive: bool) -> Client {
    let client = Client::new(backend.services());
    let topic = TopicConfig { kind: TopicKind::Lite, ..client.topic_config(4) };
    client.services.metadata.create_topic(topic, false).await.expect("a new topic");
    let group = GroupConfig {
        name: client.group.clone(),
        fifo: false,
        consume: true,
        max_retries: 16,
        retry: RetryPolicy::default(),
        lite_bind_topic: Some(client.topic.clone()),
        lite_quota: 2000,
        lite_exclusive,
        start: GroupStart::Default,
    };
    client.services.metadata.create_group(group, false).await.expect("a new group");
    client
}

impl Client {
    /// The id of the client with this name. No other case uses the id, because Apache's brokers know subscribers only
    /// by their ids.
    fn client_id(&self, name: &str) -> String {
        format!("{}-{name}", self.topic)
    }

    fn lite_change(&self, id: &str, action: LiteAction, names: &[&str]) -> LiteChange {
        LiteChange {
            client_id: self.client_id(id),
            topic: self.topic.clone(),
            group: self.group.clone(),
            action,
            lite_topics: names.iter().map(|name| (*name).to_owned()).collect(),
            quota: 2000,
            start: None,
            deadline: Instant::now() + TIMEOUT,
        }
    }

    async fn change_lite(&self, id: &str, action: LiteAction, names: &[&str]) {
        self.services.lite.sync(self.lite_change(id, action, names)).await.expect("a change");
    }

    /// Subscribes to one lite topic.
    async fn begin_lite(&self, id: &str, name: &str, start: LiteStart) {
        let change = self.lite_change(id, LiteAction::Add, &[name]);
        self.services.lite.sync(LiteChange { start: Some(start), ..change }).await.expect("a change");
    }

    async fn send_lite(&self, lite_topic: &str, ids: &[&str]) {
        for id in ids {
            let message = Message { lite_topic: Some(lite_topic.to_owned()), ..plain(id) };
            let deadline = Instant::now() + TIMEOUT;
            loop {
                let sent = self.services.messages.send(&self.topic, vec![message.clone()], deadline).await;
                let sent = sent.and_then(|mut sent| sent.remove(0));
                if !is_flow_control(&sent, deadline) {
                    sent.expect("it is stored");
                    break;
                }
            }
        }
    }

    fn lite_request(&self, id: &str) -> Receive {
        Receive { lite_client: Some(self.client_id(id)), ..self.request() }
    }

    async fn next_lite(&self, id: &str, invisible: Duration) -> Delivery {
        let request = Receive { max: 1, invisible, ..self.lite_request(id) };
        self.receive(request).await.into_iter().next().expect("a message")
    }

    async fn settle_lite(&self, delivery: &Delivery) -> AckOutcome {
        let request = Acknowledge {
            topic: self.topic.clone(),
            group: self.group.clone(),
            entries: vec![Settle::from(delivery)],
            deadline: Instant::now() + TIMEOUT,
        };
        self.services.messages.acknowledge(request).await.expect("an acknowledgement").remove(0)
    }

    async fn change_lite_lease(
        &self,
        delivery: &Delivery,
        invisible: Duration,
        next: NextAttempt,
    ) -> Delivery {
        let request = ChangeInvisible {
            topic: self.topic.clone(),
            group: self.group.clone(),
            entry: Settle::from(delivery),
            invisible,
            next_attempt: next,
            deadline: Instant::now() + TIMEOUT,
        };
        match self.services.messages.change_invisible(request).await.expect("a change") {
            InvisibleOutcome::Changed { coordinates, received_at } => {
                Delivery { coordinates, received_at, invisible, ..delivery.clone() }
            }
            ended => panic!("{ended:?}"),
        }
    }

    async fn expect_no_lite(&self, id: &str) {
        let found = self.now(self.lite_request(id)).await;
        assert!(found.is_empty(), "unexpected messages {:?}", ids(&found));
    }
}

pub(crate) async fn only_subscribed_lite_topics_are_delivered_each_in_order<B: Backend>(backend: B) {
    let client = lite(&backend, false).await;
    client.change_lite("c", LiteAction::Add, &["a"]).await;
    client.change_lite("c", LiteAction::Replace, &["a", "b"]).await;
    client.send_lite("a", &["a1", "a2"]).await;
    client.send_lite("other", &["x"]).await;
    client.send_lite("b", &["b1"]).await;
    client.send_lite("a", &["a3"]).await;
    let mut found = Vec::new();
    while found.len() < 4 {
        let delivery = client.next_lite("c", LONG).await;
        assert_eq!(client.settle_lite(&delivery).await, AckOutcome::Done);
        found.push(delivery);
    }
    for (lite_topic, expected) in [("a", &["a1", "a2", "a3"][..]), ("b", &["b1"])] {
        let of_one = found.iter().filter(|d| d.message.lite_topic.as_deref() == Some(lite_topic));
        let of_one: Vec<_> = of_one.cloned().collect();
        assert_eq!(ids(&of_one), expected);
        assert!(of_one.iter().all(|delivery| delivery.attempt == 1 && delivery.topic == client.topic));
    }
    client.expect_no_lite("c").await;
    client.change_lite("c", LiteAction::Remove, &["a"]).await;
    client.send_lite("a", &["a4"]).await;
    client.send_lite("b", &["b2"]).await;
    assert_eq!(client.next_lite("c", LONG).await.message.id, "b2");
    client.expect_no_lite("c").await;
}

pub(crate) async fn a_lite_topic_waits_until_its_messages_are_settled<B: Backend>(backend: B) {
    let client = lite(&backend, false).await;
    client.change_lite("c", LiteAction::Add, &["a", "b"]).await;
    client.send_lite("a", &["a1"]).await;
    let first = client.next_lite("c", LONG).await;
    client.send_lite("a", &["a2"]).await;
    client.send_lite("b", &["b1"]).await;
    assert_eq!(client.next_lite("c", LONG).await.message.id, "b1", "others don't wait");
    client.expect_no_lite("c").await;
    let (second, settled) = tokio::join!(client.next_lite("c", LONG), client.settle_lite(&first));
    assert_eq!((second.message.id.as_str(), settled), ("a2", AckOutcome::Done));
    assert_eq!(client.settle_lite(&first).await, AckOutcome::Done, "again");
}

pub(crate) async fn an_unsettled_message_is_redelivered_before_later_ones<B: Backend>(backend: B) {
    let client = lite(&backend, false).await;
    client.change_lite("c", LiteAction::Add, &["a"]).await;
    client.send_lite("a", &["a1", "a2"]).await;
    let first = client.next_lite("c", SHORT).await;
    let again = client.next_lite("c", LONG).await;
    assert_eq!((again.message.id.as_str(), again.attempt), ("a1", 2));
    // The lease has expired, so this has no effect.
    client.settle_lite(&first).await;
    client.expect_no_lite("c").await;
    let suspended = client.change_lite_lease(&again, SHORT, NextAttempt::Suspended).await;
    let third = client.next_lite("c", LONG).await;
    assert_eq!((third.message.id.as_str(), third.attempt), ("a1", 2), "a suspended one does not count");
    assert_ne!(suspended.coordinates, third.coordinates);
    let returned = client.change_lite_lease(&third, Duration::ZERO, NextAttempt::Counts).await;
    let fourth = client.next_lite("c", LONG).await;
    assert_eq!((fourth.message.id.as_str(), fourth.attempt), ("a1", 3));
    assert_ne!(returned.coordinates, fourth.coordinates);
    client.settle_lite(&fourth).await;
    assert_eq!(client.next_lite("c", LONG).await.message.id, "a2");
}

pub(crate) async fn a_waiting_receive_gets_the_first_message_of_a_lite_topic<B: Backend>(backend: B) {
    let client = lite(&backend, false).await;
    client.send_lite("before", &["x"]).await;
    client.change_lite("c", LiteAction::Add, &["new", "before"]).await;
    assert_eq!(client.next_lite("c", LONG).await.message.id, "x", "it was sent before the subscription");
    let (delivery, ()) = tokio::join!(client.next_lite("c", LONG), client.send_lite("new", &["y"]));
    assert_eq!(delivery.message.id, "y");
    // A subscription wakes a receive, too.
    client.send_lite("later", &["z"]).await;
    let subscribe = client.change_lite("c", LiteAction::Add, &["later"]);
    let (delivery, ()) = tokio::join!(client.next_lite("c", LONG), subscribe);
    assert_eq!(delivery.message.id, "z");
}

pub(crate) async fn subscribers_share_a_lite_topic<B: Backend>(backend: B) {
    let client = lite(&backend, false).await;
    for id in ["c", "d"] {
        client.change_lite(id, LiteAction::Add, &["a"]).await;
    }
    for id in ["1", "2", "3", "4"] {
        let waiting = async {
            tokio::select! { d = client.next_lite("c", LONG) => d, d = client.next_lite("d", LONG) => d }
        };
        let sent = [id];
        let (delivery, ()) = tokio::join!(waiting, client.send_lite("a", &sent));
        assert_eq!((delivery.message.id.as_str(), delivery.attempt), (id, 1));
        client.settle_lite(&delivery).await;
    }
    for id in ["c", "d"] {
        client.expect_no_lite(id).await;
    }
}

pub(crate) async fn an_exclusive_lite_topic_is_taken_over<B: Backend>(backend: B) {
    let client = lite(&backend, true).await;
    client.change_lite("first", LiteAction::Add, &["a"]).await;
    client.send_lite("a", &["a1"]).await;
    let delivery = client.next_lite("first", LONG).await;
    client.change_lite("second", LiteAction::Add, &["a"]).await;
    let request = client.services.broker_requests.next();
    let request = tokio::time::timeout(TIMEOUT, request).await.expect("a request");
    let BrokerRequest::LiteUnsubscribed { client_id, lite_topic } = request else { panic!("{request:?}") };
    assert_eq!((client_id, lite_topic.as_str()), (client.client_id("first"), "a"));
    client.settle_lite(&delivery).await;
    client.send_lite("a", &["a2"]).await;
    assert_eq!(client.next_lite("second", LONG).await.message.id, "a2");
    client.expect_no_lite("first").await;
}

pub(crate) async fn the_same_attempt_gets_its_messages_again<B: Backend>(backend: B) {
    let client = lite(&backend, false).await;
    client.change_lite("c", LiteAction::Add, &["a", "b"]).await;
    client.send_lite("a", &["a1"]).await;
    client.send_lite("b", &["b1"]).await;
    let request = Receive { attempt_id: Some("once".to_owned()), ..client.lite_request("c") };
    let first = client.receive(request.clone()).await;
    let again = client.now(request).await;
    assert_eq!(ids(&first), ids(&again));
    assert!(again.iter().all(|delivery| delivery.attempt == 1));
    client.expect_no_lite("c").await;
}

pub(crate) async fn a_lite_delivery_becomes_a_dead_letter<B: Backend>(backend: B) {
    let client = lite(&backend, false).await;
    client.change_lite("c", LiteAction::Add, &["a"]).await;
    client.send_lite("a", &["bad", "good"]).await;
    let delivery = client.next_lite("c", LONG).await;
    let request = Forward {
        topic: client.topic.clone(),
        group: client.group.clone(),
        entry: Settle::from(&delivery),
        deadline: Instant::now() + TIMEOUT,
    };
    client.services.messages.forward_to_dead_letter(request).await.expect("a forward");
    assert_eq!(client.next_lite("c", LONG).await.message.id, "good");
    let letters = Client {
        services: client.services.clone(),
        topic: names::dead_letter_topic(&client.group),
        group: format!("{}-letters", client.group),
    };
    assert_eq!(ids(&letters.receive_all(1).await), ["bad"]);
}

pub(crate) async fn a_client_chooses_where_its_group_starts<B: Backend>(backend: B) {
    let client = lite(&backend, false).await;
    for (start, expected) in [
        (LiteStart::Last, Some("1")),
        (LiteStart::Min, Some("1")),
        (LiteStart::Max, None),
        (LiteStart::Offset(2), Some("3")),
        (LiteStart::Timestamp(0), Some("1")),
        (LiteStart::Timestamp(i64::MAX), None),
    ] {
        let lite_topic = format!("{start:?}").replace(['(', ')'], "");
        client.send_lite(&lite_topic, &["1", "2", "3"]).await;
        client.begin_lite("c", &lite_topic, start).await;
        let found = client.now(Receive { max: 1, ..client.lite_request("c") }).await;
        assert_eq!(ids(&found).first().copied(), expected, "{start:?}");
        client.change_lite("c", LiteAction::Clear, &[]).await;
    }
    client.send_lite("tail", &["1", "2", "3"]).await;
    client.change_lite("c", LiteAction::Add, &["tail"]).await;
    for delivery in client.receive(client.lite_request("c")).await {
        client.settle_lite(&delivery).await;
    }
    client.change_lite("c", LiteAction::Clear, &[]).await;
    client.begin_lite("c", "tail", LiteStart::Tail(2)).await;
    assert_eq!(ids(&client.receive(client.lite_request("c")).await), ["2", "3"]);
    client.send_lite("awaited", &["1", "2", "3"]).await;
    let begin = client.begin_lite("c", "awaited", LiteStart::Offset(1));
    let (delivery, ()) = tokio::join!(client.next_lite("c", LONG), begin);
    assert_eq!(delivery.message.id, "2", "a receive that waits starts there, too");
}

pub(crate) async fn an_abandoned_lite_receive_loses_nothing<B: Backend>(backend: B) {
    let client = lite(&backend, false).await;
    client.change_lite("c", LiteAction::Add, &["a"]).await;
    for _ in 0..20 {
        let waiting = client.next_lite("c", LONG);
        assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
    }
    client.send_lite("a", &["a1"]).await;
    assert_eq!(client.next_lite("c", LONG).await.attempt, 1);
}

pub(crate) async fn a_deletion_ends_the_wait_for_lite_topics<B: Backend>(backend: B) {
    for (of_topic, kind) in
        [(true, ServiceErrorKind::TopicNotFound), (false, ServiceErrorKind::GroupNotFound)]
    {
        let client = lite(&backend, false).await;
        client.change_lite("c", LiteAction::Add, &["a"]).await;
        let metadata = client.services.metadata.clone();
        let delete = async {
            tokio::task::yield_now().await;
            match of_topic {
                true => metadata.delete_topic(&client.topic).await,
                false => metadata.delete_group(&client.group).await,
            }
        };
        let (received, deleted) = tokio::join!(client.try_receive(client.lite_request("c")), delete);
        deleted.expect("deleted");
        assert_eq!(received.expect_err("the end").kind, kind);
    }
}

pub(crate) async fn lite_topics_survive_a_restart<B: Backend>(backend: B) {
    let client = lite(&backend, false).await;
    client.change_lite("c", LiteAction::Add, &["a", "b"]).await;
    client.send_lite("a", &["a1", "a2", "a3"]).await;
    client.send_lite("b", &["b1"]).await;
    let mut found = Vec::new();
    while found.len() < 2 {
        found.push(client.next_lite("c", LONG).await);
    }
    for delivery in found.iter().filter(|delivery| delivery.message.id == "a1") {
        client.settle_lite(delivery).await;
    }
    let a2 = client.next_lite("c", LONG).await;
    assert_eq!(a2.message.id, "a2");
    let Client { topic, group, services } = client;
    drop(services);
    let backend = backend.restart().await;
    let client = Client { services: backend.services(), topic, group };
    client.expect_no_lite("c").await;
    client.change_lite("c", LiteAction::Replace, &["a", "b"]).await;
    client.expect_no_lite("c").await;
    // Its lease continues, and the next message waits.
    assert_eq!(client.settle_lite(&a2).await, AckOutcome::Done);
    assert_eq!(client.next_lite("c", LONG).await.message.id, "a3");
}

/// Tests of the embedded backend alone.
mod embedded_only {
    use super::*;

    #[tokio::test]
    async fn a_group_that_is_not_bound_is_refused() {
        let backend = Embedded::start().await;
        let client = lite(&backend, false).await;
        client.send_lite("a", &["a1"]).await;
        let other = client.other_group();
        for (request, kind) in [
            (other.request(), ServiceErrorKind::Unsupported),
            (other.lite_request("c"), ServiceErrorKind::Rejected),
        ] {
            assert_eq!(other.try_receive(request).await.expect_err("refused").kind, kind);
        }
    }

    #[tokio::test]
    async fn a_repeated_request_moves_the_group_once() {
        let backend = Embedded::start().await;
        let client = lite(&backend, false).await;
        client.send_lite("a", &["1", "2", "3", "4"]).await;
        client.change_lite("c", LiteAction::Add, &["a"]).await;
        for delivery in client.receive(client.lite_request("c")).await {
            client.settle_lite(&delivery).await;
        }
        client.change_lite("c", LiteAction::Clear, &[]).await;
        // The connection of the first request is cut, usually while the broker moves the group.
        let _: Option<()> = client.begin_lite("c", "a", LiteStart::Tail(1)).now_or_never();
        client.begin_lite("c", "a", LiteStart::Tail(1)).await;
        assert_eq!(ids(&client.receive(client.lite_request("c")).await), ["4"]);
    }

    #[tokio::test]
    async fn a_client_that_loses_an_exclusive_lite_topic_gets_nothing_from_its_new_start() {
        let backend = Embedded::start().await;
        let client = lite(&backend, true).await;
        client.change_lite("first", LiteAction::Add, &["a", "kept"]).await;
        client.send_lite("a", &["a1", "a2"]).await;
        for delivery in client.receive(client.lite_request("first")).await {
            client.settle_lite(&delivery).await;
        }
        let take_over = async {
            client.begin_lite("second", "a", LiteStart::Min).await;
            client.send_lite("kept", &["k1"]).await;
        };
        let (delivery, ()) = tokio::join!(client.next_lite("first", LONG), take_over);
        assert_eq!(delivery.message.id, "k1");
        assert_eq!(ids(&client.receive(client.lite_request("second")).await), ["a1", "a2"]);
    }

    #[tokio::test]
    async fn a_client_with_thousands_of_lite_topics_gets_messages_of_any() {
        let backend = Embedded::start().await;
        let client = lite(&backend, false).await;
        let names: Vec<_> = (0..2000).map(|number| format!("lite-{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        client.change_lite("c", LiteAction::Replace, &names).await;
        client.expect_no_lite("c").await;
        let waiting = async {
            let mut found = Vec::new();
            while found.len() < 3 {
                found.extend(client.receive(client.lite_request("c")).await);
            }
            found
        };
        let send = async {
            for name in [names[1999], names[0], names[1000]] {
                client.send_lite(name, &[name]).await;
            }
        };
        let (found, ()) = tokio::join!(waiting, send);
        assert_eq!(ids(&found), [names[1999], names[0], names[1000]]);
    }
}
