//! Metrics, interceptors and trace context.

use std::sync::{Arc, Mutex};

use rocketmq_thin::{
    Client, ClientOptions, Delivery, Error, Interceptor, Message, ProducerOptions, Receipt, ReceiveInfo,
    ReceiveOptions, Result, SettleInfo, SimpleConsumerOptions,
};
use rocketmq_thin_proto::v2::Code;

use crate::{
    client,
    server::{Script, TestServer, acked, message, status, stored},
};

const TRACE_PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Adds a trace to messages, records each call, and panics in it.
#[derive(Default)]
struct Recording(Mutex<Vec<String>>);

impl Recording {
    fn record(&self, what: String) {
        self.0.lock().unwrap().push(what);
        panic!("on purpose");
    }
}

impl Interceptor for Recording {
    fn before_send(&self, message: &mut Message) {
        message.properties.push(("traceparent".into(), TRACE_PARENT.into()));
        self.record(format!("sending to {}", message.topic));
    }

    fn after_send(&self, message: &Message, result: Result<&Receipt, &Error>) {
        self.record(format!("sent to {}: {}", message.topic, result.is_ok()));
    }

    fn before_receive(&self, receive: &ReceiveInfo<'_>) {
        self.record(format!("receiving from {} for {}", receive.topic, receive.group));
    }

    fn after_receive(&self, receive: &ReceiveInfo<'_>, result: Result<&[Delivery], &Error>) {
        self.record(format!("received from {}: {}", receive.topic, result.unwrap().len()));
    }

    fn before_settle(&self, settle: &SettleInfo<'_>) {
        self.record(format!("{:?} {}", settle.settlement, settle.message_id));
    }

    fn after_settle(&self, settle: &SettleInfo<'_>, result: Result<(), &Error>) {
        self.record(format!("{:?} {}: {}", settle.settlement, settle.message_id, result.is_ok()));
    }
}

fn one_message() -> Script {
    Script {
        receive: Box::new(|_, before| match before {
            0 => (Code::Ok, "OK", vec![message("1", "x")]),
            _ => (Code::MessageNotFound, "no new message", Vec::new()),
        }),
        ..Script::default()
    }
}

#[tokio::test]
async fn interceptors_are_called_for_every_operation_and_their_panics_are_harmless() {
    let server = TestServer::start(one_message());
    let recording = Arc::new(Recording::default());
    let options = ClientOptions::new(server.endpoints()).interceptor(recording.clone());
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    producer.send(Message::new("t", "x")).await.unwrap();
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    let deliveries = consumer.receive(ReceiveOptions::default()).await.unwrap();
    consumer.ack(&deliveries[0]).await.unwrap();

    let told = recording.0.lock().unwrap().clone();
    for expected in [
        "sending to t",
        "sent to t: true",
        "receiving from t for g",
        "received from t: 1",
        "Ack 1",
        "Ack 1: true",
    ] {
        assert!(told.iter().any(|it| it == expected), "{expected} in {told:?}");
    }
    let sent = server.seen.sent.lock().unwrap()[0].messages[0].clone();
    assert_eq!(sent.user_properties["traceparent"], TRACE_PARENT);
    assert_eq!(sent.system_properties.unwrap().trace_context(), TRACE_PARENT);
}

#[tokio::test]
async fn metrics_count_messages_and_failures() {
    let refuse_the_second = |request: &_, before| {
        let mut answer = stored(request);
        if before == 1 {
            answer.entries.clear();
            answer.status = status(Code::TopicNotFound, "gone");
        }
        answer
    };
    let script = Script {
        send: Box::new(refuse_the_second),
        ack: Box::new(|request, _| acked(request, |_| Code::InvalidReceiptHandle)),
        ..one_message()
    };
    let server = TestServer::start(script);
    let client = client(&server).await;
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    producer.send(Message::new("t", "x")).await.unwrap();
    producer.send(Message::new("t", "x")).await.unwrap_err();
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    let deliveries = consumer.receive(ReceiveOptions::default()).await.unwrap();
    consumer.ack(&deliveries[0]).await.unwrap_err();

    let metrics = client.metrics();
    let total = |name| metrics.get(name).unwrap().total();
    assert_eq!(total("rocketmq_send_cost_time"), 2);
    for (name, labels) in [
        ("rocketmq_send_cost_time", &[("topic", "t"), ("invocation_status", "success")][..]),
        ("rocketmq_send_cost_time", &[("topic", "t"), ("invocation_status", "failure")]),
        ("rocketmq_client_received_messages", &[("topic", "t"), ("consumer_group", "g")]),
        ("rocketmq_client_settled_messages", &[("operation", "ack"), ("invocation_status", "failure")]),
        ("rocketmq_client_errors", &[("operation", "send"), ("error_kind", "TopicNotFound")]),
        ("rocketmq_client_errors", &[("operation", "ack"), ("error_kind", "InvalidReceipt")]),
    ] {
        assert!(metrics.get(name).unwrap().point(labels).is_some(), "{name} with {labels:?}");
    }
    assert_eq!(total("rocketmq_client_in_flight"), 0);
    assert_eq!((total("rocketmq_client_connections"), total("rocketmq_client_connections_opened")), (1, 1));
}
