//! Returned deliveries, dead letters, and leases that the client renews.

use std::{sync::Arc, time::Duration};

use rocketmq_thin::{
    Client, ClientOptions, Delivery, Error, ErrorKind, Interceptor, ReceiveOptions, Result, SettleInfo,
    Settlement, SimpleConsumer, SimpleConsumerOptions,
};
use rocketmq_thin_proto::v2::{self, Code};
use tokio::sync::{Notify, watch};

use crate::{
    client,
    server::{Script, TestServer, acked, message},
};

/// A consumer, and the deliveries of its first receive, leased for one second.
async fn receiving(server: &TestServer) -> (SimpleConsumer, Vec<Delivery>) {
    let consumer =
        client(server).await.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    let options = ReceiveOptions::default().invisible_duration(Duration::from_secs(1));
    let deliveries = consumer.receive(options).await.unwrap();
    (consumer, deliveries)
}

fn once(messages: &'static [&'static str]) -> Script {
    let receive = move |_: &_, before: usize| match before {
        0 => (Code::Ok, "OK", messages.iter().map(|id| message(id, "x")).collect()),
        _ => (Code::MessageNotFound, "no new message", Vec::new()),
    };
    Script { receive: Box::new(receive), ..Script::default() }
}

fn renewed(server: &TestServer) -> Vec<String> {
    server.seen.changed.lock().unwrap().iter().map(|it| it.message_id.clone()).collect()
}

#[tokio::test]
async fn a_returned_delivery_is_delivered_again_after_the_given_time() {
    let server = TestServer::start(once(&["1"]));
    let (consumer, deliveries) = receiving(&server).await;
    consumer.nack(&deliveries[0], Duration::from_secs(7)).await.unwrap();
    let changed = server.seen.changed.lock().unwrap().remove(0);
    assert_eq!(changed.invisible_duration, Some(prost_types::Duration { seconds: 7, nanos: 0 }));
    assert_eq!((changed.receipt_handle.as_str(), changed.suspend), ("handle of 1", None));
}

#[tokio::test]
async fn a_dead_letter_request_has_the_fields_that_servers_require() {
    let receive = |_: &_, _| {
        let mut dead = message("1", "x");
        let system = dead.system_properties.as_mut().unwrap();
        (system.delivery_attempt, system.lite_topic) = (Some(3), Some("l".to_owned()));
        (Code::Ok, "OK", vec![dead])
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let (consumer, deliveries) = receiving(&server).await;
    consumer.dead_letter(&deliveries[0]).await.unwrap();
    let forwarded = server.seen.forwarded.lock().unwrap().remove(0);
    assert_eq!((forwarded.message_id.as_str(), forwarded.receipt_handle.as_str()), ("1", "handle of 1"));
    // The test server returns the settings of the client, which allow 16 attempts.
    assert_eq!((forwarded.delivery_attempt, forwarded.max_delivery_attempts), (3, 16));
    assert_eq!((forwarded.lite_topic.as_deref(), forwarded.group.unwrap().name.as_str()), (Some("l"), "g"));
    let error = consumer.keep_lease(&deliveries[0], Duration::from_secs(60)).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidReceipt, "keep_lease"));
}

#[tokio::test]
async fn a_settled_delivery_can_only_be_acked_again() {
    let server = TestServer::start(once(&["1"]));
    let (consumer, deliveries) = receiving(&server).await;
    let delivery = &deliveries[0];
    consumer.ack(delivery).await.unwrap();
    consumer.ack(delivery).await.unwrap();
    let refused = [
        consumer.nack(delivery, Duration::ZERO).await,
        consumer.change_invisible(delivery, Duration::from_secs(60)).await,
        consumer.dead_letter(delivery).await,
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidReceipt);
    }
    assert!(server.seen.changed.lock().unwrap().is_empty());
    assert!(server.seen.forwarded.lock().unwrap().is_empty());
}

#[tokio::test]
async fn every_request_about_a_delivery_has_its_lite_topic() {
    let receive = |_: &_, _| {
        let mut lite = message("1", "x");
        lite.system_properties.as_mut().unwrap().lite_topic = Some("l".to_owned());
        (Code::Ok, "OK", vec![lite])
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let (consumer, deliveries) = receiving(&server).await;
    assert_eq!(deliveries[0].lite_topic.as_deref(), Some("l"));
    consumer.nack(&deliveries[0], Duration::ZERO).await.unwrap();
    consumer.ack(&deliveries[0]).await.unwrap();
    let changed = server.seen.changed.lock().unwrap().remove(0);
    assert_eq!((changed.lite_topic.as_deref(), changed.suspend), (Some("l"), Some(true)));
    assert_eq!(server.seen.acked.lock().unwrap()[0].entries[0].lite_topic.as_deref(), Some("l"));
}

#[tokio::test]
async fn a_lease_is_renewed_until_the_delivery_is_acknowledged_or_dropped_or_the_time_is_over() {
    let server = TestServer::start(once(&["kept", "acked", "dropped", "short", "not kept"]));
    let (consumer, mut deliveries) = receiving(&server).await;
    let long = Duration::from_secs(600);
    for delivery in &deliveries[..3] {
        consumer.keep_lease(delivery, long).unwrap();
    }
    consumer.keep_lease(&deliveries[3], Duration::from_millis(1)).unwrap();
    consumer.ack(&deliveries[1]).await.unwrap();
    drop(deliveries.remove(2));
    // Each renewal lasts for a second.
    server.seen.wait("change_invisible", 4).await;
    assert!(renewed(&server).iter().all(|id| id == "kept"), "{:?}", renewed(&server));
    consumer.ack(&deliveries[0]).await.unwrap();
    let handle = server.seen.acked.lock().unwrap().last().unwrap().entries[0].receipt_handle.clone();
    assert!(handle.starts_with("new new new new"), "{handle}");
}

#[tokio::test]
async fn a_lease_that_the_application_shortened_is_renewed_in_time() {
    let server = TestServer::start(once(&["a"]));
    let consumer =
        client(&server).await.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    let long = Duration::from_secs(600);
    let options = ReceiveOptions::default().invisible_duration(long);
    let delivery = consumer.receive(options).await.unwrap().remove(0);
    consumer.keep_lease(&delivery, long).unwrap();
    consumer.change_invisible(&delivery, Duration::from_secs(4)).await.unwrap();
    server.seen.wait("change_invisible", 2).await;
    assert!(!delivery.is_lease_lost());
}

/// Answers changes of an invisible time once `open` is true.
fn changed_once(open: &watch::Sender<bool>) -> Script {
    let open = open.clone();
    let change = move |_: &_, _| {
        let mut opened = open.subscribe();
        Box::pin(async move { opened.wait_for(|open| *open).await.map(|_| Code::Ok).unwrap() }) as _
    };
    Script { change: Box::new(change), ..once(&["1", "2"]) }
}

#[tokio::test]
async fn a_renewal_does_not_undo_a_change_of_the_application() {
    /// Sends `true` when a renewal begins, and notifies when it ends.
    struct Renewals(watch::Sender<bool>, Arc<Notify>);

    impl Interceptor for Renewals {
        fn before_settle(&self, settle: &SettleInfo<'_>) {
            if matches!(settle.settlement, Settlement::Renewal(_)) {
                self.0.send_replace(true);
            }
        }

        fn after_settle(&self, settle: &SettleInfo<'_>, _: Result<(), &Error>) {
            if matches!(settle.settlement, Settlement::Renewal(_)) {
                self.1.notify_one();
            }
        }
    }

    let (begun, ended) = (watch::Sender::new(false), Arc::new(Notify::new()));
    let server = TestServer::start(changed_once(&begun));
    let options =
        ClientOptions::new(server.endpoints()).interceptor(Arc::new(Renewals(begun, ended.clone())));
    let client = Client::connect(options).await.unwrap();
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    let options = ReceiveOptions::default().invisible_duration(Duration::from_secs(1));
    let deliveries = consumer.receive(options).await.unwrap();
    let long = Duration::from_secs(600);
    consumer.keep_lease(&deliveries[0], long).unwrap();
    // The server answers once the renewal waits for the answer.
    consumer.change_invisible(&deliveries[0], long).await.unwrap();
    ended.notified().await;
    let last = server.seen.changed.lock().unwrap().last().unwrap().invisible_duration;
    assert_eq!(last, Some(prost_types::Duration { seconds: 600, nanos: 0 }));
}

#[tokio::test]
async fn an_ack_does_not_wait_for_the_renewal_of_another_delivery() {
    let open = watch::Sender::new(false);
    let mut script = changed_once(&open);
    script.ack = Box::new(move |request, _| {
        open.send_replace(true);
        acked(request, |_| Code::Ok)
    });
    let server = TestServer::start(script);
    let (consumer, deliveries) = receiving(&server).await;
    consumer.keep_lease(&deliveries[0], Duration::from_secs(600)).unwrap();
    server.seen.wait("change_invisible", 1).await;
    let results = consumer.ack_all(&deliveries).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let acked: Vec<_> =
        server.seen.acked.lock().unwrap().iter().map(|it| it.entries[0].receipt_handle.clone()).collect();
    assert_eq!(acked, ["handle of 2", "new handle of 1"]);
}

#[tokio::test]
async fn a_lost_lease_shows_in_the_delivery() {
    let script =
        Script { change: Box::new(|_, _| Box::pin(async { Code::InvalidReceiptHandle })), ..once(&["1"]) };
    let server = TestServer::start(script);
    let (consumer, deliveries) = receiving(&server).await;
    let copy = deliveries[0].clone();
    assert!(!copy.is_lease_lost());
    consumer.keep_lease(&deliveries[0], Duration::from_secs(600)).unwrap();
    server.seen.wait("change_invisible", 1).await;
    while !copy.is_lease_lost() {
        tokio::task::yield_now().await;
    }
    let error = consumer.keep_lease(&copy, Duration::from_secs(600)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidReceipt);
}

#[tokio::test]
async fn one_task_renews_ten_thousand_leases() {
    let receive = |_: &_, before: usize| match before {
        0 => (Code::Ok, "OK", (0..10_000).map(|id| message(&id.to_string(), "x")).collect()),
        _ => (Code::MessageNotFound, "no new message", Vec::new()),
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let consumer =
        client(&server).await.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    let options = ReceiveOptions::default().max_messages(10_000);
    let deliveries = consumer.receive(options).await.unwrap();
    assert_eq!(deliveries.len(), 10_000);
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    for delivery in &deliveries {
        consumer.keep_lease(delivery, Duration::from_secs(600)).unwrap();
    }
    assert!(metrics.num_alive_tasks() <= before + 1);
}

#[tokio::test]
async fn settling_fails_for_another_group_and_after_the_close() {
    let server = TestServer::start(once(&["1"]));
    let (consumer, deliveries) = receiving(&server).await;
    let stranger =
        client(&server).await.simple_consumer(SimpleConsumerOptions::new("h", ["t"])).await.unwrap();
    let minute = Duration::from_secs(60);
    for error in [
        stranger.nack(&deliveries[0], minute).await.unwrap_err(),
        stranger.dead_letter(&deliveries[0]).await.unwrap_err(),
        stranger.keep_lease(&deliveries[0], minute).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    consumer.close(Duration::from_secs(5)).await;
    for error in [
        consumer.nack(&deliveries[0], minute).await.unwrap_err(),
        consumer.dead_letter(&deliveries[0]).await.unwrap_err(),
        consumer.keep_lease(&deliveries[0], minute).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    let none: Vec<v2::ForwardMessageToDeadLetterQueueRequest> = Vec::new();
    assert_eq!(*server.seen.forwarded.lock().unwrap(), none);
}
