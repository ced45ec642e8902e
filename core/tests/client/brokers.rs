//! Brokers that are added while a consumer runs.

use std::sync::atomic::{AtomicBool, Ordering};

use rocketmq_thin::{PushConsumerOptions, SimpleConsumerOptions, StreamOptions};
use rocketmq_thin_proto::v2::{self, Code};

use crate::{
    client,
    server::{Script, TestServer, message},
};

fn broker(request: &v2::ReceiveMessageRequest) -> &str {
    &request.message_queue.as_ref().unwrap().broker.as_ref().unwrap().name
}

/// The first broker fails once, so that the route is queried again, and then has no messages. The second has messages.
fn second_has_messages() -> Script {
    let failed = AtomicBool::new(false);
    let receive = |request: &v2::ReceiveMessageRequest, before: usize| match broker(request) {
        "broker" => (Code::InternalServerError, "trouble", Vec::new()),
        _ => (Code::Ok, "OK", vec![message(&before.to_string(), "of another")]),
    };
    Script {
        receive: Box::new(receive),
        hang: Box::new(move |request| broker(request) == "broker" && failed.swap(true, Ordering::SeqCst)),
        ..Script::default()
    }
}

#[tokio::test]
async fn a_push_consumer_polls_an_added_broker() {
    let server = TestServer::start(second_has_messages());
    let options = PushConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.push_consumer(options).await.unwrap();
    server.add_broker();
    let tasks = consumer.next_tasks(1).await.unwrap();
    assert_eq!(&tasks[0].delivery.body[..], b"of another");
}

#[tokio::test]
async fn a_stream_polls_an_added_broker() {
    let server = TestServer::start(second_has_messages());
    let options = SimpleConsumerOptions::new("g", ["t"]);
    let consumer = client(&server).await.simple_consumer(options).await.unwrap();
    server.add_broker();
    let messages = consumer.messages(StreamOptions::default()).unwrap();
    let batch = messages.next_batch(1).await.unwrap().unwrap();
    assert_eq!(&batch[0].body[..], b"of another");
}
