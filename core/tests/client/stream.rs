//! Streams of messages.

use std::{collections::HashSet, time::Duration};

use futures::StreamExt;
use rocketmq_thin::{
    Client, ClientOptions, Delivery, ErrorKind, ReceiveOptions, SimpleConsumer, SimpleConsumerOptions,
    StreamOptions,
};
use rocketmq_thin_proto::v2::{self, Code};

use crate::{
    client,
    relay::Relay,
    server::{Script, TestServer, message, topic},
};

async fn consumer(server: &TestServer, topics: &[&str]) -> SimpleConsumer {
    let options = SimpleConsumerOptions::new("g", topics.iter().copied());
    client(server).await.simple_consumer(options).await.unwrap()
}

/// A server that always returns as many messages as are requested.
fn plenty(body: &'static str) -> Script {
    let receive = move |request: &v2::ReceiveMessageRequest, before: usize| {
        let id = |at: i32| format!("{}-{before}-{at}", topic(request));
        (Code::Ok, "OK", (0..request.batch_size).map(|at| message(&id(at), body)).collect())
    };
    Script { receive: Box::new(receive), ..Script::default() }
}

fn asked_for(server: &TestServer) -> Vec<i32> {
    server.seen.received.lock().unwrap().iter().map(|request| request.batch_size).collect()
}

#[tokio::test]
async fn a_stream_fetches_when_there_is_room_for_messages() {
    let server = TestServer::start(plenty("x"));
    let consumer = consumer(&server, &["t"]).await;
    let mut messages = consumer.messages(StreamOptions::default().max_messages(4)).unwrap();
    for _ in 0..3 {
        messages.next().await.unwrap().unwrap();
        let fetched: i32 = asked_for(&server).iter().sum();
        assert!(fetched <= 4 + 3, "{fetched}");
    }
    server.seen.wait("receive", 2).await;
    assert_eq!(asked_for(&server)[0], 4);
}

#[tokio::test]
async fn a_stream_fetches_when_there_is_room_for_bytes() {
    let server = TestServer::start(plenty("ten bytes."));
    let consumer = consumer(&server, &["t"]).await;
    let mut messages = consumer.messages(StreamOptions::default().max_bytes(10)).unwrap();
    for taken in 1..=3 {
        messages.next().await.unwrap().unwrap();
        // Taking this message makes room to fetch the next one.
        assert!(asked_for(&server).len() <= taken + 1);
    }
    assert!(asked_for(&server).iter().all(|count| *count == 1));
}

#[tokio::test]
async fn topics_share_the_limits_of_a_stream() {
    let script = Script { hang: Box::new(|request| topic(request).starts_with("silent")), ..plenty("x") };
    let server = TestServer::start(script);
    let consumer = consumer(&server, &["silent 1", "silent 2", "silent 3", "busy"]).await;
    let mut messages = consumer.messages(StreamOptions::default().max_messages(8)).unwrap();
    // Polls of empty topics reserve only a part of the limit.
    for _ in 0..100 {
        assert_eq!(messages.next().await.unwrap().unwrap().topic, "busy");
    }
}

#[tokio::test]
async fn a_dropped_stream_gives_back_waiting_deliveries() {
    let receive = |_: &_, before: usize| match before {
        0 => (Code::Ok, "OK", (0..5).map(|id| message(&id.to_string(), "x")).collect()),
        _ => (Code::MessageNotFound, "no new message", Vec::new()),
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let consumer = consumer(&server, &["t"]).await;
    let messages = consumer.messages(StreamOptions::default()).unwrap();
    let copy = messages.clone();
    let batch = messages.next_batch(2).await.unwrap().unwrap();
    assert_eq!(batch.len(), 2);
    drop(messages);
    let third = copy.next_batch(1).await.unwrap().unwrap();
    drop(copy);
    server.seen.wait("change_invisible", 2).await;
    let given_back: HashSet<_> =
        server.seen.changed.lock().unwrap().iter().map(|it| (it.message_id.clone(), it.suspend)).collect();
    assert_eq!(given_back, [("3".to_owned(), Some(true)), ("4".to_owned(), Some(true))].into());
    // Deliveries that the application has received stay leased to it.
    consumer.ack(&batch[0]).await.unwrap();
    consumer.ack(&third[0]).await.unwrap();
}

#[tokio::test]
async fn a_close_that_is_cancelled_gives_back_all_waiting_deliveries() {
    // More than are given back at the same time.
    let receive = |_: &_, before: usize| match before {
        0 => (Code::Ok, "OK", (0..100).map(|id| message(&id.to_string(), "x")).collect()),
        _ => (Code::MessageNotFound, "no new message", Vec::new()),
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let consumer = consumer(&server, &["t"]).await;
    let messages = consumer.messages(StreamOptions::default()).unwrap();
    assert_eq!(messages.next_batch(1).await.unwrap().unwrap().len(), 1);
    let mut close = Box::pin(messages.close(Duration::from_secs(60)));
    assert!(futures::poll!(&mut close).is_pending());
    drop(close);
    server.seen.wait("change_invisible", 99).await;
}

#[tokio::test]
async fn a_close_does_not_wait_for_a_silent_server_beyond_its_deadline() {
    let server = TestServer::start(plenty("x"));
    let relay = Relay::start(server.address).await;
    server.route_to(relay.address);
    let hour = Duration::from_secs(3600);
    let options = ClientOptions::new(relay.address.to_string()).request_timeout(hour).operation_timeout(hour);
    let client = Client::connect(options).await.unwrap();
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    let messages = consumer.messages(StreamOptions::default().max_messages(4)).unwrap();
    messages.next_batch(1).await.unwrap().unwrap();
    relay.freeze(1).await;
    messages.close(Duration::from_millis(100)).await;
    assert!(messages.next_batch(1).await.is_none());
}

#[tokio::test]
async fn temporary_errors_are_hidden_and_a_refusal_does_not_end_the_stream() {
    let receive = |_: &_, before: usize| match before {
        0 => (Code::InternalServerError, "trouble", Vec::new()),
        1 | 2 => (Code::Forbidden, "not yours", Vec::new()),
        _ => (Code::Ok, "OK", vec![message("1", "x")]),
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let consumer = consumer(&server, &["t"]).await;
    let mut messages = consumer.messages(StreamOptions::default()).unwrap();
    let error = messages.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::PermissionDenied, "receive"));
    // The same refusal is reported once.
    assert_eq!(messages.next().await.unwrap().unwrap().message_id, "1");
}

#[tokio::test]
async fn a_stream_ends_with_its_consumer() {
    let server = TestServer::start(Script { hang: Box::new(|_| true), ..Script::default() });
    let consumer = consumer(&server, &["t"]).await;
    let mut messages = consumer.messages(StreamOptions::default()).unwrap();
    let waiting = tokio::spawn(async move { messages.next().await.is_none() });
    server.seen.wait("receive", 1).await;
    consumer.close(Duration::from_secs(5)).await;
    assert!(waiting.await.unwrap());
    assert_eq!(consumer.messages(StreamOptions::default()).unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_stream_keeps_its_consumer_and_follows_its_subscriptions() {
    let server =
        TestServer::start(Script { hang: Box::new(|request| topic(request) == "silent"), ..plenty("x") });
    let consumer = consumer(&server, &["silent"]).await;
    let messages = consumer.messages(StreamOptions::default()).unwrap();
    server.seen.wait("receive", 1).await;
    consumer.subscribe("new").await.unwrap();
    drop(consumer);
    assert_eq!(messages.next_batch(1).await.unwrap().unwrap()[0].topic, "new");
}

#[tokio::test]
async fn deliveries_that_are_put_back_are_handed_out_next_in_order() {
    let server = TestServer::start(plenty("x"));
    let consumer = consumer(&server, &["t"]).await;
    let messages = consumer.messages(StreamOptions::default().max_messages(8)).unwrap();
    let batch = messages.next_batch(8).await.unwrap().unwrap();
    let ids: Vec<_> = batch.iter().map(|delivery| delivery.message_id.clone()).collect();
    messages.put_back(batch);
    let again = messages.next_batch(ids.len()).await.unwrap().unwrap();
    assert_eq!(again.iter().map(|delivery| delivery.message_id.clone()).collect::<Vec<_>>(), ids);
    messages.close(Duration::from_secs(5)).await;
    assert!(messages.next_batch(1).await.is_none());
}

/// A server that returns `batch` messages for the first poll that requests as many, and none for other polls.
fn once(batch: i32) -> Script {
    let receive = move |_: &_, before: usize| match before {
        0 => (Code::Ok, "OK", (0..batch).map(|id| message(&format!("{batch}-{id}"), "x")).collect()),
        _ => (Code::MessageNotFound, "no new message", Vec::new()),
    };
    let hang = move |request: &v2::ReceiveMessageRequest| request.batch_size != batch;
    Script { receive: Box::new(receive), hang: Box::new(hang), ..Script::default() }
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message_id.as_str()).collect()
}

/// Starts a receive of up to two messages, and cancels it before a response can have arrived.
async fn give_up_a_receive(server: &TestServer, consumer: &SimpleConsumer) {
    let receive = consumer.receive(ReceiveOptions::default().max_messages(2));
    assert!(futures::poll!(std::pin::pin!(receive)).is_pending());
    server.seen.wait("receive", 1).await;
}

#[tokio::test]
async fn the_deliveries_of_a_cancelled_receive_go_to_a_stream() {
    let server = TestServer::start(once(2));
    let consumer = consumer(&server, &["t"]).await;
    give_up_a_receive(&server, &consumer).await;
    let messages = consumer.messages(StreamOptions::default().max_messages(4)).unwrap();
    assert_eq!(ids(&messages.next_batch(1).await.unwrap().unwrap()), ["2-0"]);
    assert_eq!(ids(&messages.next_batch(1).await.unwrap().unwrap()), ["2-1"]);
    assert_eq!(server.seen.counted("change_invisible"), 0);
}

#[tokio::test]
async fn the_deliveries_of_a_stream_go_to_a_receive_and_to_other_streams() {
    let server = TestServer::start(once(4));
    let consumer = consumer(&server, &["t"]).await;
    let fetching = consumer.messages(StreamOptions::default().max_messages(4)).unwrap();
    server.seen.wait("receive", 1).await;
    let received = consumer.receive(ReceiveOptions::default().max_messages(1)).await.unwrap();
    let other = consumer.messages(StreamOptions::default().max_messages(3)).unwrap();
    let taken = other.next_batch(2).await.unwrap().unwrap();
    let left = fetching.next_batch(4).await.unwrap().unwrap();
    assert_eq!([ids(&received), ids(&taken), ids(&left)].concat(), ["4-0", "4-1", "4-2", "4-3"]);
}

#[tokio::test]
async fn a_stream_gives_back_only_what_it_has_fetched() {
    let server = TestServer::start(once(2));
    let consumer = consumer(&server, &["t"]).await;
    give_up_a_receive(&server, &consumer).await;
    let first = consumer.messages(StreamOptions::default().max_messages(4)).unwrap();
    let second = consumer.messages(StreamOptions::default().max_messages(4)).unwrap();
    let batch = first.next_batch(2).await.unwrap().unwrap();
    let [returned, kept] = batch.try_into().unwrap();
    // The stream takes the delivery over.
    first.put_back(vec![returned]);
    consumer.put_back(vec![kept]);
    first.close(Duration::from_secs(5)).await;
    let given_back = server.seen.changed.lock().unwrap().clone();
    assert_eq!(given_back.iter().map(|it| it.message_id.as_str()).collect::<Vec<_>>(), ["2-0"]);
    assert_eq!(ids(&second.next_batch(2).await.unwrap().unwrap()), ["2-1"]);
}
