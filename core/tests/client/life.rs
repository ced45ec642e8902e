//! The life cycle of a client: starting, losing its server, and closing.

use std::time::Duration;

use rocketmq_thin::{
    Client, ClientOptions, ErrorKind, Message, ProducerOptions, ReceiveOptions, RetryOptions,
    SimpleConsumerOptions,
};
use rocketmq_thin_proto::v2::{Code, SendMessageResponse};

use crate::{
    client,
    server::{Script, TestServer, message, status},
    unused_address,
};

/// Options with a short startup timeout.
fn impatient(endpoints: impl Into<String>) -> ClientOptions {
    ClientOptions::new(endpoints).startup_timeout(Duration::from_millis(300))
}

#[tokio::test]
async fn one_endpoint_that_works_is_enough() {
    let server = TestServer::start(Script::default());
    let endpoints = format!("{};{}", unused_address().await, server.endpoints());
    let client = Client::connect(ClientOptions::new(endpoints)).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    producer.send(Message::new("t", "x")).await.unwrap();
}

#[tokio::test]
async fn an_address_that_only_the_route_names_is_explained() {
    let elsewhere = unused_address().await;
    let script = Script { broker: Some(elsewhere.parse().unwrap()), ..Script::default() };
    let server = TestServer::start(script);
    let options = ClientOptions::new(server.endpoints()).operation_timeout(Duration::from_millis(300));
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let error = producer.send(Message::new("t", "x")).await.unwrap_err();
    assert_eq!((error.kind(), error.endpoint()), (ErrorKind::Unavailable, Some(elsewhere.as_str())));
    assert!(error.message().contains(&format!("the server at {} names", server.address)), "{error}");
    assert!(!error.maybe_delivered());
}

#[tokio::test]
async fn an_unknown_topic_fails_the_start() {
    let script = Script { route: Box::new(|_, _| Code::TopicNotFound), ..Script::default() };
    let server = TestServer::start(script);
    let client = client(&server).await;
    let error = client.producer(ProducerOptions::new(["t"])).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::TopicNotFound, Some(40402)));
    let options = SimpleConsumerOptions::new("g", ["t"]);
    assert_eq!(client.simple_consumer(options).await.unwrap_err().kind(), ErrorKind::TopicNotFound);
    assert_eq!(server.seen.counted("query_route"), 2);
}

#[tokio::test]
async fn a_server_without_settings_is_a_timeout_that_says_so() {
    let server = TestServer::start(Script { settings: false, ..Script::default() });
    let client = Client::connect(impatient(server.endpoints())).await.unwrap();
    let error = client.producer(ProducerOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("settings"), "{error}");
}

#[tokio::test]
async fn a_cancelled_wait_for_a_route_does_not_affect_other_callers() {
    let script = Script::default();
    script.gate.send_replace(false);
    let gate = script.gate.clone();
    let server = TestServer::start(script);
    let producer = client(&server).await.producer(ProducerOptions::default()).await.unwrap();
    let first = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(Message::new("t", "first")).await }
    });
    server.seen.wait("query_route", 1).await;
    first.abort();
    let second = tokio::spawn(async move { producer.send(Message::new("t", "second")).await });
    gate.send_replace(true);
    second.await.unwrap().unwrap();
    assert_eq!(server.seen.counted("query_route"), 1);
}

#[tokio::test]
async fn a_lost_stream_is_reopened_with_settings() {
    let server = TestServer::start(Script::default());
    let _producer = client(&server).await.producer(ProducerOptions::new(["t"])).await.unwrap();
    server.seen.drop_streams();
    server.seen.wait("settings", 2).await;
    assert_eq!(server.seen.counted("stream"), 2);
}

#[tokio::test]
async fn a_close_notifies_the_server_and_ends_the_streams() {
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let client = client(&server).await;
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    let delivery = consumer.receive(ReceiveOptions::default()).await.unwrap().remove(0);
    let report = client.close(Duration::from_secs(5)).await;
    assert_eq!((report.flushed, report.abandoned), (0, 0));
    server.seen.wait("termination", 2).await;
    server.seen.wait("stream ended", 2).await;
    let kinds = [
        producer.send(Message::new("t", "x")).await.unwrap_err().kind(),
        consumer.receive(ReceiveOptions::default()).await.unwrap_err().kind(),
        consumer.ack(&delivery).await.unwrap_err().kind(),
        consumer.change_invisible(&delivery, Duration::ZERO).await.unwrap_err().kind(),
        client.producer(ProducerOptions::default()).await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Closed; 5]);
    assert_eq!(server.seen.counted("stream"), 2);
}

#[tokio::test]
async fn a_send_in_flight_is_flushed() {
    let server = TestServer::start(Script::default());
    let producer = client(&server).await.producer(ProducerOptions::new(["t"])).await.unwrap();
    let mut send = Box::pin(producer.send(Message::new("t", "x")));
    // After the first poll, the message is in flight.
    assert!(futures::poll!(&mut send).is_pending());
    let report = producer.close(Duration::from_secs(5)).await;
    assert_eq!((report.flushed, report.abandoned), (1, 0));
    send.await.unwrap();
}

#[tokio::test]
async fn a_close_completes_though_nobody_waits_for_it() {
    let server = TestServer::start(Script::default());
    server.hold_sends(1);
    let client = client(&server).await;
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let mut send = Box::pin(producer.send(Message::new("t", "x")));
    assert!(futures::poll!(&mut send).is_pending());
    let mut close = Box::pin(client.close(Duration::from_millis(100)));
    assert!(futures::poll!(&mut close).is_pending());
    drop(close);
    server.seen.wait("termination", 1).await;
    server.seen.wait("stream ended", 1).await;
    assert_eq!(send.await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_second_close_waits_for_the_first() {
    let server = TestServer::start(Script::default());
    let client = client(&server).await;
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let mut send = Box::pin(producer.send(Message::new("t", "x")));
    assert!(futures::poll!(&mut send).is_pending());
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.close(Duration::from_secs(5)).await }
    });
    tokio::task::yield_now().await;
    client.close(Duration::from_secs(5)).await;
    assert_eq!(server.seen.counted("termination"), 1);
    send.await.unwrap();
    assert_eq!(first.await.unwrap().flushed, 1);
}

#[tokio::test]
async fn a_failed_send_is_not_flushed() {
    let refuse =
        |_: &_, _| SendMessageResponse { status: status(Code::Forbidden, "no"), entries: Vec::new() };
    let server = TestServer::start(Script { send: Box::new(refuse), ..Script::default() });
    let producer = client(&server).await.producer(ProducerOptions::new(["t"])).await.unwrap();
    let mut send = Box::pin(producer.send(Message::new("t", "x")));
    assert!(futures::poll!(&mut send).is_pending());
    let report = producer.close(Duration::from_secs(5)).await;
    assert_eq!((report.flushed, report.abandoned), (0, 0));
    assert_eq!(send.await.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn the_longest_durations_work() {
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let options = ClientOptions::new(server.endpoints())
        .request_timeout(Duration::MAX)
        .operation_timeout(Duration::MAX)
        .startup_timeout(Duration::MAX)
        .retry(RetryOptions::default().initial(Duration::MAX).max(Duration::MAX));
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    producer.send(Message::new("t", "x")).await.unwrap();
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    let options = ReceiveOptions::default().invisible_duration(Duration::MAX).await_duration(Duration::MAX);
    let delivery = consumer.receive(options).await.unwrap().remove(0);
    consumer.change_invisible(&delivery, Duration::MAX).await.unwrap();
    consumer.ack(&delivery).await.unwrap();
    let report = client.close(Duration::MAX).await;
    assert_eq!(report.abandoned, 0);
}

#[tokio::test]
async fn dropping_a_client_and_its_producers_ends_the_streams() {
    let server = TestServer::start(Script::default());
    let client = client(&server).await;
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    drop((client, producer, consumer));
    server.seen.wait("stream ended", 2).await;
}

#[tokio::test]
async fn dropping_a_consumer_ends_its_polls() {
    let server = TestServer::start(Script { hang: Box::new(|_| true), ..Script::default() });
    let client = client(&server).await;
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    let options = ReceiveOptions::default().await_duration(Duration::ZERO);
    assert!(consumer.receive(options).await.unwrap().is_empty());
    server.seen.wait("receive", 1).await;
    assert_eq!(server.seen.counted("poll ended"), 0);
    drop(consumer);
    server.seen.wait("poll ended", 1).await;
    assert_eq!(server.seen.counted("receive"), 1);
}
