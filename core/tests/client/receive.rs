//! Receiving and settling.

use std::{collections::HashSet, time::Duration};

use rocketmq_thin::{ErrorKind, ReceiveOptions, SimpleConsumerOptions};
use rocketmq_thin_proto::v2::{self, Code};

use crate::{
    client,
    server::{Script, TestServer, acked, message},
};

fn topic(request: &v2::ReceiveMessageRequest) -> &str {
    &request.message_queue.as_ref().unwrap().topic.as_ref().unwrap().name
}

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
async fn nothing_there_is_an_empty_list() {
    let server = TestServer::start(Script::default());
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    assert!(consumer.receive(ReceiveOptions::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_went_away_is_no_empty_list() {
    let server = TestServer::start(Script::default());
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    let address = server.kill();
    let options = ReceiveOptions { await_duration: Duration::from_millis(500), ..ReceiveOptions::default() };
    let error = consumer.receive(options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!((error.operation(), error.endpoint()), ("receive", Some(address.to_string().as_str())));
    assert!(error.retryable());
    let server = TestServer::at(address, Script::default(), None);
    assert!(consumer.receive(ReceiveOptions::default()).await.unwrap().is_empty());
    server.seen.wait("receive", 1).await;
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
async fn a_server_that_forgot_us_is_told_again() {
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    server.seen.forget();
    assert_eq!(consumer.receive(ReceiveOptions::default()).await.unwrap().len(), 1);
    assert_eq!(server.seen.counted("settings"), 2);
}

#[tokio::test]
async fn one_dead_receipt_fails_no_other_ack() {
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
async fn what_came_for_a_cancelled_receive_is_there_for_the_next() {
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
            // Started, and given up before an answer can have come.
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
