//! Receiving and settling.

use std::{
    collections::HashSet,
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use rocketmq_thin::{
    DecodeOptions, ErrorKind, ProducerOptions, PushConsumerOptions, ReceiveOptions, SimpleConsumer,
    SimpleConsumerOptions,
};
use rocketmq_thin_proto::v2::{self, Code};

use crate::{
    client,
    server::{Script, TestServer, acked, message, topic},
};

#[tokio::test]
async fn all_topics_are_received_from() {
    let receive = |request: &v2::ReceiveMessageRequest, before: usize| {
        (Code::Ok, "OK", vec![message(&format!("{}{before}", topic(request)), "x")])
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let options = SimpleConsumerOptions::new("g", ["a", "b"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    let mut topics = HashSet::new();
    while topics.len() < 2 {
        let deliveries = consumer.receive(ReceiveOptions::default()).await.unwrap();
        topics.extend(deliveries.into_iter().map(|delivery| delivery.topic));
    }
}

#[tokio::test]
async fn an_empty_queue_returns_an_empty_list() {
    let server = TestServer::start(Script::default());
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    assert!(consumer.receive(ReceiveOptions::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lost_server_returns_an_error_and_not_an_empty_list() {
    let server = TestServer::start(Script::default());
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    let address = server.kill();
    let options = ReceiveOptions::default().await_duration(Duration::from_millis(500));
    let error = consumer.receive(options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!((error.operation(), error.endpoint()), ("receive", Some(address.to_string().as_str())));
    assert!(error.retryable());
    let server = TestServer::at(address, Script::default(), None);
    assert!(consumer.receive(ReceiveOptions::default()).await.unwrap().is_empty());
    server.seen.wait("receive", 1).await;
}

#[tokio::test]
async fn a_receive_whose_only_answer_was_a_failure_returns_it() {
    let attempts = AtomicUsize::new(0);
    let server = TestServer::start(Script {
        receive: Box::new(|_, _| (Code::InternalServerError, "trouble", Vec::new())),
        // The wait ends during the second attempt.
        hang: Box::new(move |_| attempts.fetch_add(1, Ordering::SeqCst) > 0),
        ..Script::default()
    });
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    let options = ReceiveOptions::default().await_duration(Duration::from_millis(800));
    let error = consumer.receive(options).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "trouble"));
    server.seen.wait("receive", 2).await;
}

#[tokio::test]
async fn a_receive_that_waits_because_of_earlier_failures_returns_the_latest() {
    let trouble = |_: &_, _| (Code::InternalServerError, "trouble", Vec::new());
    let server = TestServer::start(Script { receive: Box::new(trouble), ..Script::default() });
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    let first = ReceiveOptions::default().await_duration(Duration::ZERO);
    // Empty, or already a failure. Its poll continues in both cases.
    drop(consumer.receive(first).await);
    server.seen.wait("receive", 5).await;
    // With another maximum, the receive does not take over the poll of the first one. Its own waits for longer than a
    // loaded machine takes until here.
    let second = first.max_messages(1).await_duration(Duration::from_millis(100));
    let error = consumer.receive(second).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "trouble"));
    assert!(error.retryable());
}

#[tokio::test]
async fn an_attempt_keeps_its_id_until_it_is_answered() {
    let receive = |_: &_, before: usize| match before {
        0 | 1 => (Code::InternalServerError, "trouble", Vec::new()),
        _ => (Code::Ok, "OK", vec![message("1", "x")]),
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    for _ in 0..2 {
        assert_eq!(consumer.receive(ReceiveOptions::default()).await.unwrap().len(), 1);
    }
    let attempts: Vec<_> =
        server.seen.received.lock().unwrap().iter().map(|request| request.attempt_id.clone()).collect();
    assert_eq!(attempts.len(), 4);
    assert!(attempts[0] == attempts[1] && attempts[1] == attempts[2] && attempts[2] != attempts[3]);
}

#[tokio::test]
async fn lost_settings_are_sent_again() {
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    server.seen.forget();
    assert_eq!(consumer.receive(ReceiveOptions::default()).await.unwrap().len(), 1);
    assert_eq!(server.seen.counted("settings"), 2);
}

#[tokio::test]
async fn one_expired_receipt_does_not_fail_other_acks() {
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x"), message("2", "x"), message("3", "x")]);
    let ack = |request: &_, _| {
        acked(request, |handle| if handle == "handle of 2" { Code::InvalidReceiptHandle } else { Code::Ok })
    };
    let script = Script { receive: Box::new(receive), ack: Box::new(ack), ..Script::default() };
    let server = TestServer::start(script);
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    let deliveries = consumer.receive(ReceiveOptions::default()).await.unwrap();
    let results = consumer.ack_all(&deliveries).await;
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::InvalidReceipt);
    let requests = server.seen.acked.lock().unwrap().clone();
    assert_eq!(requests.iter().map(|request| request.entries.len()).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn an_ack_after_a_change_uses_the_new_handle_in_every_clone() {
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    let delivery = consumer.receive(ReceiveOptions::default()).await.unwrap().remove(0);
    let copy = delivery.clone();
    consumer.change_invisible(&delivery, Duration::from_secs(60)).await.unwrap();
    consumer.ack(&copy).await.unwrap();
    let requests = server.seen.acked.lock().unwrap().clone();
    assert_eq!(requests[0].entries[0].receipt_handle, "new handle of 1");
}

#[tokio::test]
async fn deliveries_of_a_cancelled_receive_go_to_the_next() {
    let receive = |request: &v2::ReceiveMessageRequest, before: usize| match before {
        0 | 1 => (Code::Ok, "OK", vec![message(topic(request), "x")]),
        _ => (Code::MessageNotFound, "no new message", Vec::new()),
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let options = SimpleConsumerOptions::new("g", ["a", "b"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    {
        let receive = consumer.receive(ReceiveOptions::default());
        tokio::select! {
            biased;
            // Cancels the receive before a response can have arrived.
            _ = receive => panic!("an answer came too early"),
            () = std::future::ready(()) => {}
        }
    }
    server.seen.wait("receive", 2).await;
    let mut topics = Vec::new();
    while topics.len() < 2 {
        let deliveries = consumer.receive(ReceiveOptions::default()).await.unwrap();
        topics.extend(deliveries.into_iter().map(|delivery| delivery.message_id));
    }
    topics.sort();
    assert_eq!(topics, ["a", "b"]);
    consumer.close(Duration::from_secs(5)).await;
    assert_eq!(consumer.receive(ReceiveOptions::default()).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn deliveries_that_are_put_back_go_to_the_next_receive_in_order() {
    let receive = |_: &_, before: usize| match before {
        0 => (Code::Ok, "OK", vec![message("1", "x"), message("2", "x")]),
        _ => (Code::MessageNotFound, "no new message", Vec::new()),
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    let deliveries = consumer.receive(ReceiveOptions::default()).await.unwrap();
    // A binding's thread has no runtime.
    let binding = consumer.clone();
    std::thread::spawn(move || binding.put_back(deliveries)).join().unwrap();
    let again = consumer.receive(ReceiveOptions::default()).await.unwrap();
    let ids: Vec<_> = again.iter().map(|delivery| delivery.message_id.as_str()).collect();
    assert_eq!(ids, ["1", "2"]);
    consumer.ack(&again[0]).await.unwrap();
    assert_eq!(server.seen.counted("change_invisible"), 0);
}

#[tokio::test]
async fn deliveries_that_are_put_back_after_the_close_go_to_the_server() {
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    let deliveries = consumer.receive(ReceiveOptions::default()).await.unwrap();
    consumer.close(Duration::from_secs(5)).await;
    let before = server.seen.counted("change_invisible");
    consumer.put_back(deliveries);
    server.seen.wait("change_invisible", before + 1).await;
}

/// Receives from two topics. The message of the second one waits for the next receive.
async fn prefetching(server: &TestServer, invisible: Duration) -> (SimpleConsumer, ReceiveOptions, String) {
    let options = SimpleConsumerOptions::new("g", ["a", "b"]);
    let consumer = client(server).await.simple_consumer(options).await.unwrap();
    let options = ReceiveOptions::default().max_messages(1).invisible_duration(invisible);
    let first = consumer.receive(options).await.unwrap();
    assert_eq!(first.len(), 1);
    server.seen.wait("receive", 2).await;
    (consumer, options, first[0].message_id.clone())
}

fn once_per_topic(
    request: &v2::ReceiveMessageRequest,
    before: usize,
) -> (Code, &'static str, Vec<v2::Message>) {
    match before {
        0 | 1 => (Code::Ok, "OK", vec![message(topic(request), "x")]),
        _ => (Code::MessageNotFound, "no new message", Vec::new()),
    }
}

#[tokio::test]
async fn the_lease_of_a_waiting_delivery_is_renewed() {
    let script = Script { receive: Box::new(once_per_topic), ..Script::default() };
    let server = TestServer::start(script);
    let (consumer, options, first) = prefetching(&server, Duration::from_secs(1)).await;
    // The application does not receive meanwhile.
    server.seen.wait("change_invisible", 2).await;
    let second = consumer.receive(options).await.unwrap().remove(0);
    assert_ne!(second.message_id, first);
    consumer.ack(&second).await.unwrap();
    let acked = server.seen.acked.lock().unwrap()[0].entries[0].receipt_handle.clone();
    assert!(acked.starts_with("new new "), "{acked}");
}

#[tokio::test]
async fn a_waiting_delivery_is_given_back_at_the_close_without_counting_an_attempt() {
    let script = Script { receive: Box::new(once_per_topic), ..Script::default() };
    let server = TestServer::start(script);
    let (consumer, _, _) = prefetching(&server, Duration::from_secs(60)).await;
    // Receives the delivery and puts it back, to be sure that it has arrived.
    let waiting = consumer.receive(ReceiveOptions::default()).await.unwrap();
    consumer.put_back(waiting);
    consumer.close(Duration::from_secs(5)).await;
    let changed = server.seen.changed.lock().unwrap().clone();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].suspend, Some(true));
    // The delay is random, so that not all deliveries become visible at the same time.
    let invisible = Duration::try_from(changed[0].invisible_duration.unwrap()).unwrap();
    assert!(invisible <= Duration::from_secs(1), "{invisible:?}");
}

#[tokio::test]
async fn a_dropped_consumer_gives_back_what_waits_for_a_receive() {
    let script = Script { receive: Box::new(once_per_topic), ..Script::default() };
    let server = TestServer::start(script);
    let (consumer, _, _) = prefetching(&server, Duration::from_secs(60)).await;
    let waiting = consumer.receive(ReceiveOptions::default()).await.unwrap();
    consumer.put_back(waiting);
    drop(consumer);
    server.seen.wait("change_invisible", 1).await;
    assert_eq!(server.seen.changed.lock().unwrap()[0].suspend, Some(true));
}

#[tokio::test]
async fn what_a_stopped_poll_has_brought_is_given_back_within_the_close() {
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
    let server =
        TestServer::start(Script { receive: Box::new(receive), unfinished: |_| true, ..Script::default() });
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let client = client(&server).await;
    let consumer = client.simple_consumer(options).await.unwrap();
    let waiting = consumer.clone();
    let receive = tokio::spawn(async move { waiting.receive(ReceiveOptions::default()).await });
    server.seen.wait("given out", 1).await;
    // An answer on the same connection arrives after the message.
    client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let report = consumer.close(Duration::from_secs(20)).await;
    assert_eq!(report.given_back, 1);
    assert_eq!(server.seen.changed.lock().unwrap().len(), 1);
    assert_eq!(receive.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_lease_that_ended_while_waiting_is_not_handed_out() {
    let script = Script {
        receive: Box::new(once_per_topic),
        change: Box::new(|_, _| Box::pin(async { Code::InvalidReceiptHandle })),
        ..Script::default()
    };
    let server = TestServer::start(script);
    let (consumer, options, _) = prefetching(&server, Duration::from_secs(1)).await;
    server.seen.wait("change_invisible", 1).await;
    assert!(consumer.receive(options).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lease_shorter_than_the_receive_asks_for_is_renewed_before_it_is_handed_out() {
    let script = Script { receive: Box::new(once_per_topic), ..Script::default() };
    let server = TestServer::start(script);
    let (consumer, options, first) = prefetching(&server, Duration::from_secs(10)).await;
    let longer = options.invisible_duration(Duration::from_secs(300));
    let second = consumer.receive(longer).await.unwrap().remove(0);
    assert_ne!(second.message_id, first);
    let changed = server.seen.changed.lock().unwrap().clone();
    assert_eq!(changed[0].invisible_duration, Some(prost_types::Duration { seconds: 300, nanos: 0 }));
}

#[tokio::test]
async fn a_delivery_of_another_group_is_not_settled() {
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let client = client(&server).await;
    let consumer =
        async |group| client.simple_consumer(SimpleConsumerOptions::new(group, ["t"])).await.unwrap();
    let (owner, stranger, colleague) = (consumer("g").await, consumer("h").await, consumer("g").await);
    let delivery = owner.receive(ReceiveOptions::default()).await.unwrap().remove(0);
    let ack = stranger.ack(&delivery).await.unwrap_err();
    let all = stranger.ack_all(std::slice::from_ref(&delivery)).await.remove(0).unwrap_err();
    let change = stranger.change_invisible(&delivery, Duration::from_secs(60)).await.unwrap_err();
    for (error, operation) in [(ack, "ack"), (all, "ack"), (change, "change_invisible")] {
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidArgument, operation));
        assert!(error.message().contains("`g`") && error.message().contains("`h`"), "{error}");
    }
    assert_eq!((server.seen.counted("ack"), server.seen.counted("change_invisible")), (0, 0));
    colleague.ack(&delivery).await.unwrap();
}

#[tokio::test]
async fn bodies_that_are_too_large_together_are_decompressed_when_they_are_handed_out() {
    let plain = "x".repeat(1000);
    let body = plain.clone();
    let compressed = move |id| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body.as_bytes()).unwrap();
        let mut message = message(id, "");
        message.system_properties.as_mut().unwrap().body_encoding = v2::Encoding::Gzip.into();
        v2::Message { body: encoder.finish().unwrap().into(), ..message }
    };
    let receive = move |_: &_, before: usize| match before {
        0 | 1 => (Code::Ok, "OK", ["1", "2", "3"].map(&compressed).to_vec()),
        _ => (Code::MessageNotFound, "no new message", Vec::new()),
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let decode = DecodeOptions::default().max_body_size(1000);
    let options = SimpleConsumerOptions::new("g", ["t"]).decode(decode);
    let client = client(&server).await;
    let consumer = client.simple_consumer(options).await.unwrap();
    for id in ["1", "2", "3"] {
        let deliveries = consumer.receive(ReceiveOptions::default()).await.unwrap();
        let received: Vec<_> = deliveries.iter().map(|it| it.message_id.as_str()).collect();
        assert_eq!(received, [id]);
        assert!(deliveries[0].body == plain && !deliveries[0].corrupted);
    }
    let options = PushConsumerOptions::new("g", ["t"]).decode(decode);
    let consumer = client.push_consumer(options).await.unwrap();
    let tasks = consumer.next_tasks(3).await.unwrap();
    assert_eq!(tasks.len(), 3);
    assert!(tasks.iter().all(|task| task.delivery.body == plain && !task.delivery.corrupted));
}
