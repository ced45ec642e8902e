//! Sends of NORMAL messages: metadata, batches, limits and retries.

use std::time::Duration;

use futures::future::join_all;
use rocketmq_thin::{Client, ClientOptions, Credentials, ErrorKind, Language, Message, ProducerOptions};
use rocketmq_thin_proto::v2::{Code, SendMessageResponse, SendResultEntry};
use tokio::sync::watch;

use crate::{
    client,
    server::{Script, TestServer, status, stored},
};

fn refusal(code: Code) -> SendMessageResponse {
    SendMessageResponse { status: status(code, "refused"), entries: Vec::new() }
}

#[tokio::test]
async fn every_request_carries_client_namespace_and_signature() {
    let server = TestServer::start(Script::default());
    let options = ClientOptions::new(server.endpoints())
        .namespace("prod")
        .credentials(Credentials::new("ak", "sk"))
        .language(Language::Python);
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["orders"])).await.unwrap();
    let receipt = producer.send(Message::new("orders", "hello")).await.unwrap();
    let sent = server.seen.sent.lock().unwrap().clone();
    let message = &sent[0].messages[0];
    assert_eq!(message.topic.as_ref().unwrap().resource_namespace, "prod");
    assert_eq!(message.system_properties.as_ref().unwrap().message_id, receipt.message_id);
    for rpc in ["query_route", "send", "stream"] {
        let metadata = server.seen.metadata.lock().unwrap()[rpc].clone();
        for (name, value) in
            [("x-mq-namespace", "prod"), ("x-mq-language", "PYTHON"), ("x-mq-protocol", "v2")]
        {
            assert_eq!(metadata.get(name).unwrap(), value, "{rpc}");
        }
        for name in ["x-mq-client-id", "x-mq-request-id", "x-mq-date-time"] {
            assert!(metadata.contains_key(name), "{rpc}: {name}");
        }
        let authorization = metadata.get("authorization").unwrap().to_str().unwrap();
        assert!(authorization.starts_with("MQv2-HMAC-SHA1 Credential=ak,"), "{rpc}");
    }
}

#[tokio::test]
async fn one_result_for_a_batch_gives_a_receipt_for_each_message() {
    let one_entry = |request: &_, _| {
        let SendMessageResponse { status, entries } = stored(request);
        let message_id = entries.iter().map(|entry| entry.message_id.as_str()).collect::<Vec<_>>().join(",");
        let entry = SendResultEntry { status: status.clone(), message_id, offset: 5, ..Default::default() };
        SendMessageResponse { status, entries: vec![entry] }
    };
    let server = TestServer::start(Script { send: Box::new(one_entry), ..Script::default() });
    let producer = client(&server).await.producer(ProducerOptions::default()).await.unwrap();
    let messages = (0..100).map(|at| Message::new("t", format!("{at}"))).collect();
    let results = producer.send_all(messages).await;
    let mut ids: Vec<_> = results.into_iter().map(|result| result.unwrap().message_id).collect();
    let sent = server.seen.sent.lock().unwrap().clone();
    assert!(sent.len() < 100 && sent.iter().all(|request| request.messages.len() <= 32));
    let mut stored: Vec<_> = sent
        .iter()
        .flat_map(|request| &request.messages)
        .map(|message| message.system_properties.as_ref().unwrap().message_id.clone())
        .collect();
    ids.sort();
    stored.sort();
    assert_eq!(ids, stored);
}

#[tokio::test]
async fn sends_beyond_the_limits_wait() {
    let server = TestServer::start(Script::default());
    for (messages, bytes) in [(1, 1 << 20), (100, 1), (2, 3)] {
        let options = ProducerOptions::new(["t"]).max_in_flight_messages(messages).max_in_flight_bytes(bytes);
        let producer = client(&server).await.producer(options).await.unwrap();
        let sends = (0..20).map(|_| producer.send(Message::new("t", "body")));
        assert!(join_all(sends).await.iter().all(Result::is_ok), "{messages} messages, {bytes} bytes");
    }
    assert!(server.seen.sent.lock().unwrap().iter().all(|request| request.messages.len() <= 2));
}

#[tokio::test]
async fn only_temporary_errors_are_retried() {
    for (codes, requests, kind) in [
        (vec![Code::TopicNotFound; 9], 1, Some(ErrorKind::TopicNotFound)),
        (vec![Code::Unauthorized; 9], 1, Some(ErrorKind::Unauthenticated)),
        (vec![Code::TooManyRequests, Code::TooManyRequests, Code::Ok], 3, None),
        (vec![Code::InternalServerError, Code::Ok], 2, None),
    ] {
        let answers = codes.clone();
        let send = move |request: &_, before: usize| match answers[before] {
            Code::Ok => stored(request),
            code => refusal(code),
        };
        let server = TestServer::start(Script { send: Box::new(send), ..Script::default() });
        let producer = client(&server).await.producer(ProducerOptions::new(["t"])).await.unwrap();
        let result = producer.send(Message::new("t", "x")).await;
        assert_eq!(result.as_ref().err().map(|error| error.kind()), kind, "{codes:?}: {result:?}");
        assert_eq!(server.seen.counted("send"), requests, "{codes:?}");
    }
}

#[tokio::test]
async fn properties_count_towards_the_size_of_a_batch() {
    let server = TestServer::start(Script::default());
    let producer = client(&server).await.producer(ProducerOptions::default()).await.unwrap();
    let large = "x".repeat(600 * 1024);
    let messages = (0..3).map(|_| Message::new("t", "body").property("name", large.as_str())).collect();
    producer.send_all(messages).await.into_iter().for_each(|result| drop(result.unwrap()));
    assert!(server.seen.sent.lock().unwrap().iter().all(|request| request.messages.len() == 1));
}

#[tokio::test]
async fn an_invalid_message_of_a_batch_does_not_fail_the_other_messages() {
    let send = |request: &rocketmq_thin_proto::v2::SendMessageRequest, _| {
        if request.messages.iter().any(|message| message.body == "bad") {
            refusal(Code::IllegalMessagePropertyKey)
        } else {
            stored(request)
        }
    };
    let server = TestServer::start(Script { send: Box::new(send), ..Script::default() });
    let producer = client(&server).await.producer(ProducerOptions::new(["t"])).await.unwrap();
    let bodies = ["good", "bad", "good"];
    let results = producer.send_all(bodies.map(|body| Message::new("t", body)).to_vec()).await;
    let fine: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [true, false, true]);
    assert_eq!(results[1].as_ref().unwrap_err().code(), Some(40007));
}

#[tokio::test]
async fn a_send_survives_a_restart_of_the_server() {
    let server = TestServer::start(Script::default());
    let producer = client(&server).await.producer(ProducerOptions::new(["t"])).await.unwrap();
    producer.send(Message::new("t", "before")).await.unwrap();
    let address = server.kill();
    let under_way = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(Message::new("t", "meanwhile")).await }
    });
    let server = TestServer::at(address, Script::default(), None);
    under_way.await.unwrap().unwrap();
    producer.send(Message::new("t", "after")).await.unwrap();
    server.seen.wait("settings", 1).await;
}

#[tokio::test]
async fn waiting_for_the_route_does_not_shorten_the_request() {
    // The timeout is longer than each of the two delays, and shorter than both together.
    let (timeout, delay) = (Duration::from_secs(4), Duration::from_millis(2500));
    let gate = watch::Sender::new(false);
    let slow = move |request: &_, _| {
        std::thread::sleep(delay);
        stored(request)
    };
    let server = TestServer::start(Script { gate: gate.clone(), send: Box::new(slow), ..Script::default() });
    let options =
        ClientOptions::new(server.endpoints()).request_timeout(timeout).operation_timeout(8 * timeout);
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::default()).await.unwrap();
    let (sent, ()) = tokio::join!(producer.send(Message::new("t", "x")), async {
        tokio::time::sleep(delay).await;
        gate.send_replace(true);
    });
    sent.unwrap();
    assert_eq!(server.seen.sent.lock().unwrap().len(), 1);
}
