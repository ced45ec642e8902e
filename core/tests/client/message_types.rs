//! Sending messages of each type, and recalling DELAY messages.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, UNIX_EPOCH},
};

use futures::future::join_all;
use rocketmq_thin::{Client, ClientOptions, ErrorKind, Message, Producer, ProducerOptions};
use rocketmq_thin_proto::v2::{self, Code, Encoding, MessageType, SendMessageResponse};
use tokio::task::JoinHandle;

use crate::{
    client,
    server::{Script, TestServer, status, stored},
};

async fn producer(server: &TestServer) -> Producer {
    client(server).await.producer(ProducerOptions::new(["t"])).await.unwrap()
}

fn refusal(code: Code) -> SendMessageResponse {
    SendMessageResponse { status: status(code, "refused"), entries: Vec::new() }
}

fn system(message: &v2::Message) -> &v2::SystemProperties {
    message.system_properties.as_ref().unwrap()
}

fn body(request: &v2::SendMessageRequest) -> String {
    String::from_utf8(request.messages[0].body.to_vec()).unwrap()
}

#[tokio::test]
async fn each_type_is_sent_as_such_and_only_normal_messages_share_a_request() {
    let server = TestServer::start(Script::default());
    let producer = producer(&server).await;
    let message = || Message::new("t", "x");
    let at = UNIX_EPOCH + Duration::from_millis(1_234_567);
    let messages: Vec<_> = (0..4)
        .flat_map(|_| {
            [
                message(),
                message().message_group("g"),
                message().deliver_at(at),
                message().delay(Duration::from_secs(60)),
                message().priority(3),
                message().lite_topic("l"),
            ]
        })
        .collect();
    assert!(producer.send_all(messages).await.iter().all(Result::is_ok));
    let mut counts = HashMap::new();
    for request in &*server.seen.sent.lock().unwrap() {
        let system = system(&request.messages[0]);
        *counts.entry(system.message_type()).or_insert(0) += request.messages.len();
        assert!(request.messages.len() == 1 || system.message_type() == MessageType::Normal);
        match system.message_type() {
            MessageType::Fifo => assert_eq!(system.message_group.as_deref(), Some("g")),
            MessageType::Delay => assert!(system.delivery_timestamp.is_some()),
            MessageType::Priority => assert_eq!(system.priority, Some(3)),
            MessageType::Lite => assert_eq!(system.lite_topic.as_deref(), Some("l")),
            _ => assert_eq!(system.message_group, None),
        }
    }
    let expected = [
        (MessageType::Normal, 4),
        (MessageType::Fifo, 4),
        (MessageType::Delay, 8),
        (MessageType::Priority, 4),
        (MessageType::Lite, 4),
    ];
    assert_eq!(counts, HashMap::from(expected));
}

#[tokio::test]
async fn a_contradiction_is_refused_before_anything_is_sent() {
    let server = TestServer::start(Script::default());
    let producer = producer(&server).await;
    let message = || Message::new("t", "x");
    for message in [
        message().message_group("g").delay(Duration::from_secs(1)),
        message().message_group(""),
        message().lite_topic("l").message_group("g"),
        message().priority(-1),
        message().delay(Duration::MAX),
    ] {
        let error = producer.send(message.clone()).await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidArgument, "send"), "{message:?}");
        assert!(!error.retryable() && !error.maybe_delivered());
    }
    let transaction = producer.begin().unwrap();
    let error = transaction.send(message().priority(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    transaction.commit().await.unwrap();
    assert_eq!((server.seen.counted("send"), server.seen.counted("end")), (0, 0));
}

#[tokio::test]
async fn a_topic_s_types_are_checked_before_anything_is_sent() {
    let fifo = Message::new("t", "x").message_group("g");
    for (types, message, expected) in [
        (vec![MessageType::Normal], fifo.clone(), Err("takes messages of type NORMAL")),
        (vec![MessageType::Fifo], Message::new("t", "x"), Err("is of type NORMAL")),
        (vec![MessageType::Fifo], fifo.clone(), Ok(())),
        (vec![MessageType::Normal, MessageType::Fifo, MessageType::Delay], fifo, Ok(())),
    ] {
        let server = TestServer::start(Script { types, ..Script::default() });
        let result = producer(&server).await.send(message).await;
        match (result, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(text)) => {
                assert_eq!((error.kind(), error.retryable()), (ErrorKind::TypeMismatch, false));
                assert!(error.message().contains(text), "{error}");
                assert_eq!(server.seen.counted("send"), 0);
            }
            (result, expected) => panic!("{result:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test]
async fn messages_of_a_group_keep_their_order_when_one_is_retried() {
    let tried = Mutex::new(HashMap::<String, usize>::new());
    let send = move |request: &v2::SendMessageRequest, _| {
        let mut tried = tried.lock().unwrap();
        let times = tried.entry(body(request)).or_default();
        *times += 1;
        // Every third message fails twice, and one fails permanently.
        match body(request).as_str() {
            "a4" | "b4" => refusal(Code::MessageBodyTooLarge),
            text if text.ends_with(['0', '3', '6']) && *times <= 2 => refusal(Code::InternalServerError),
            _ => stored(request),
        }
    };
    let server = TestServer::start(Script { send: Box::new(send), queues: 8, ..Script::default() });
    let producer = producer(&server).await;
    let message = |at: usize, group: &str| Message::new("t", format!("{group}{at}")).message_group(group);
    let messages = (0..8).flat_map(|at| [message(at, "a"), message(at, "b")]).collect();
    let results = producer.send_all(messages).await;
    let failed: Vec<_> = (0..16).filter(|at| results[*at].is_err()).collect();
    assert_eq!(failed, [8, 9]);
    let sent = server.seen.sent.lock().unwrap().clone();
    for group in ["a", "b"] {
        let of_group = sent.iter().filter(|request| body(request).starts_with(group));
        let mut order: Vec<_> = of_group.clone().map(body).collect();
        order.dedup();
        assert_eq!(order, (0..8).map(|at| format!("{group}{at}")).collect::<Vec<_>>());
        let mut queues: Vec<_> = of_group.map(|request| system(&request.messages[0]).queue_id).collect();
        queues.dedup();
        assert_eq!(queues.len(), 1);
    }
}

/// A producer with this request timeout.
async fn producer_with(server: &TestServer, request_timeout: Duration) -> Producer {
    let options = ClientOptions::new(server.endpoints()).request_timeout(request_timeout);
    let client = Client::connect(options).await.unwrap();
    client.producer(ProducerOptions::new(["t"])).await.unwrap()
}

fn send_in_background(producer: &Producer, message: Message) -> JoinHandle<()> {
    let producer = producer.clone();
    tokio::spawn(async move { drop(producer.send(message).await) })
}

#[tokio::test]
async fn a_group_does_not_wait_for_another() {
    let server = TestServer::start(Script::default());
    let producer = producer_with(&server, Duration::from_secs(600)).await;
    server.hold_sends(1);
    let held = send_in_background(&producer, Message::new("t", "held").message_group("a"));
    server.seen.wait("send", 1).await;
    let mut next = Box::pin(producer.send(Message::new("t", "next").message_group("a")));
    assert!(futures::poll!(&mut next).is_pending());
    let others = (0..20).map(|at| producer.send(Message::new("t", "other").message_group(at.to_string())));
    assert!(join_all(others).await.iter().all(Result::is_ok));
    assert!(futures::poll!(&mut next).is_pending());
    held.abort();
}

#[tokio::test]
async fn a_group_keeps_its_order_when_a_send_is_cancelled() {
    let server = TestServer::start(Script::default());
    let producer = producer_with(&server, Duration::from_millis(300)).await;
    server.hold_sends(1);
    let held = send_in_background(&producer, Message::new("t", "held").message_group("a"));
    server.seen.wait("send", 1).await;
    let next = producer.send(Message::new("t", "next").message_group("a"));
    held.abort();
    next.await.unwrap();
    let order: Vec<_> = server.seen.sent.lock().unwrap().iter().map(body).collect();
    assert_eq!(order, ["held", "next"]);
}

#[tokio::test]
async fn messages_with_their_own_requests_are_limited_only_by_the_limits_in_flight() {
    let server = TestServer::start(Script::default());
    server.hold_sends(50);
    let producer = producer(&server).await;
    let sends: Vec<_> =
        (0..50).map(|_| send_in_background(&producer, Message::new("t", "x").priority(1))).collect();
    server.seen.wait("send", 50).await;
    sends.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_large_body_is_compressed_on_request() {
    let server = TestServer::start(Script::default());
    let options = ProducerOptions::new(["t"]).compress_above(1_000);
    let producer = client(&server).await.producer(options).await.unwrap();
    for (size, encoding) in
        [(1_000, Encoding::Identity), (1_001, Encoding::Gzip), (1_000_000, Encoding::Gzip)]
    {
        producer.send(Message::new("t", vec![7; size])).await.unwrap();
        let sent = server.seen.sent.lock().unwrap().pop().unwrap();
        assert_eq!(system(&sent.messages[0]).body_encoding(), encoding, "{size}");
        assert_eq!(sent.messages[0].body.len() < size, encoding == Encoding::Gzip);
    }
}

#[tokio::test]
async fn a_delayed_message_is_recalled_by_its_receipt() {
    let send = |request: &v2::SendMessageRequest, _| {
        let mut response = stored(request);
        if system(&request.messages[0]).delivery_timestamp.is_some() {
            response.entries[0].recall_handle = "handle".into();
        }
        response
    };
    let recall = |request: &v2::RecallMessageRequest, _| match request.recall_handle.as_str() {
        "handle" => Code::Ok,
        "unknown" => Code::InternalServerError,
        _ => Code::MessagePropertyConflictWithType,
    };
    let script = Script { send: Box::new(send), recall: Box::new(recall), ..Script::default() };
    let server = TestServer::start(script);
    let producer = producer(&server).await;
    let receipt = producer.send(Message::new("t", "x").delay(Duration::from_secs(60))).await.unwrap();
    assert_eq!(receipt.recall_handle.as_deref(), Some("handle"));
    assert_eq!(producer.recall(&receipt).await.unwrap(), "recalled");
    let recalled = server.seen.recalled.lock().unwrap().clone();
    assert_eq!(recalled[0].topic.as_ref().unwrap().name, "t");

    let normal = producer.send(Message::new("t", "x")).await.unwrap();
    let errors = [
        producer.recall(&normal).await.unwrap_err(),
        producer.recall_by_handle("t", "").await.unwrap_err(),
        producer.recall_by_handle("t", "other").await.unwrap_err(),
        producer.recall_by_handle("t", "unknown").await.unwrap_err(),
    ];
    let kinds = errors.each_ref().map(|error| (error.kind(), error.code()));
    assert_eq!(
        kinds,
        [
            (ErrorKind::InvalidArgument, None),
            (ErrorKind::InvalidArgument, None),
            (ErrorKind::TypeMismatch, Some(40014)),
            (ErrorKind::Unavailable, Some(50001)),
        ]
    );
    assert!(errors.iter().all(|error| error.operation() == "recall" && !error.retryable()));
    assert_eq!(errors[0].message(), errors[1].message());
    assert_eq!(server.seen.counted("recall"), 3);
}
