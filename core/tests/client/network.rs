//! Dead and full connections, servers of other protocols, and gateways.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::{join_all, try_join_all};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rocketmq_thin::{
    Client, ClientOptions, ErrorKind, Message, ProducerOptions, ReceiveOptions, SimpleConsumerOptions, Tls,
};
use rocketmq_thin_proto::v2::{Code, ReceiveMessageRequest};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::{
    codegen::http::StatusCode,
    transport::{Identity, ServerTlsConfig},
};

use crate::{
    client,
    relay::Relay,
    server::{Script, TestServer, message, topic},
};

fn is_ready(request: &ReceiveMessageRequest) -> bool {
    topic(request) == "ready"
}

#[tokio::test]
async fn a_connection_that_died_silently_is_replaced() {
    // The first receive waits on the dead connection. Only the second one gets a response.
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
    let hang = AtomicBool::new(true);
    let script = Script {
        receive: Box::new(receive),
        hang: Box::new(move |_| hang.swap(false, Ordering::SeqCst)),
        ..Script::default()
    };
    let server = TestServer::start(script);
    let relay = Relay::start(server.address).await;
    server.route_to(relay.address);
    let options = ClientOptions::new(relay.address.to_string())
        .request_timeout(Duration::from_millis(300))
        .operation_timeout(Duration::from_secs(60));
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    producer.send(Message::new("t", "before")).await.unwrap();
    let receiving = tokio::spawn(async move { consumer.receive(ReceiveOptions::default()).await });
    server.seen.wait("receive", 1).await;

    relay.freeze(1).await;
    producer.send(Message::new("t", "after")).await.unwrap();
    assert_eq!(receiving.await.unwrap().unwrap().len(), 1);
    relay.closed_by_client().await;
    assert!(format!("{client:?}").contains("connections: 1"), "{client:?}");
}

#[tokio::test]
async fn one_slow_call_does_not_replace_the_connection() {
    let server = TestServer::start(Script::default());
    let relay = Relay::start(server.address).await;
    server.route_to(relay.address);
    let options = ClientOptions::new(relay.address.to_string()).request_timeout(Duration::from_millis(300));
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    server.hold_sends(1);
    producer.send(Message::new("t", "x")).await.unwrap();
    assert_eq!(server.seen.counted("send"), 2);
    assert_eq!(server.seen.counted("stream ended"), 0);
}

#[tokio::test]
async fn long_polls_leave_streams_for_short_calls() {
    for (streams, consumers) in [(100, 60), (10, 60), (8, 60), (1, 20)] {
        let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
        let script = Script {
            receive: Box::new(receive),
            hang: Box::new(|request| !is_ready(request)),
            max_streams: Some(streams),
            ..Script::default()
        };
        let server = TestServer::start(script);
        let client = client(&server).await;
        let consumer = |topic: &'static str| client.simple_consumer(SimpleConsumerOptions::new("g", [topic]));
        let waiting = try_join_all((0..consumers).map(|_| consumer("t"))).await.unwrap();
        let polls: Vec<_> = waiting
            .into_iter()
            .map(|it| tokio::spawn(async move { it.receive(ReceiveOptions::default()).await }))
            .collect();
        server.seen.wait("receive", consumers).await;

        let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
        let sends = (0..100).map(|at| producer.send(Message::new("t", format!("{at}"))));
        assert!(join_all(sends).await.iter().all(Result::is_ok), "{streams} streams");
        let consumer = consumer("ready").await.unwrap();
        let delivery = consumer.receive(ReceiveOptions::default()).await.unwrap().remove(0);
        consumer.ack(&delivery).await.unwrap();
        polls.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// A server that sends `bytes` on each connection and closes it.
async fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 24];
                let _ = stream.read_exact(&mut request).await;
                let _ = stream.write_all(bytes).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_server_of_another_protocol_is_named_at_once() {
    for (bytes, text) in [
        (&b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..], "HTTP/1"),
        (b"<!DOCTYPE HTML>\n<html lang=\"en\">", "HTTP/1"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0"),
    ] {
        let error = Client::connect(ClientOptions::new(answering(bytes).await)).await.unwrap_err();
        assert_eq!((error.kind(), error.retryable()), (ErrorKind::Protocol, false), "{error}");
        assert!(error.message().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up_at_the_startup_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ClientOptions::new(listener.local_addr().unwrap().to_string())
        .startup_timeout(Duration::from_millis(300))
        .request_timeout(Duration::MAX);
    let error = Client::connect(options).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Unavailable, true), "{error}");
    assert!(error.message().contains("timed out"), "{error}");
}

fn identity(params: CertificateParams) -> (String, ServerTlsConfig) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let identity = Identity::from_pem(&certificate, key.serialize_pem());
    (certificate, ServerTlsConfig::new().identity(identity))
}

#[tokio::test]
async fn tls_on_one_side_only_is_named_at_once() {
    let (ca, own) = identity(CertificateParams::new(["localhost".to_owned()]).unwrap());
    let tls = TestServer::at("127.0.0.1:0".parse().unwrap(), Script::default(), Some(own));
    let error = Client::connect(ClientOptions::new(tls.endpoints())).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Tls, false), "{error}");
    assert!(error.message().contains("https://"), "{error}");

    let plain = TestServer::start(Script::default());
    let options = ClientOptions::new(plain.endpoints()).tls(Tls::ca(ca));
    let error = Client::connect(options).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Tls, false), "{error}");
    assert!(error.message().contains("http://"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_an_authority_is_explained() {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (ca, own) = identity(params);
    let server = TestServer::at("127.0.0.1:0".parse().unwrap(), Script::default(), Some(own));
    let endpoints = format!("localhost:{}", server.address.port());
    let options = ClientOptions::new(endpoints).tls(Tls::ca(ca));
    let error = Client::connect(options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(error.message().contains("CA:FALSE"), "{error}");
}

#[tokio::test]
async fn http_status_404_fails_at_once() {
    let script = Script { gateway: Some(Arc::new(|_| Some(StatusCode::NOT_FOUND))), ..Script::default() };
    let server = TestServer::start(script);
    let error = client(&server).await.producer(ProducerOptions::new(["t"])).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Unsupported, false), "{error}");
    assert!(error.message().contains("404"), "{error}");
}

#[tokio::test]
async fn temporary_http_errors_are_retried() {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let gateway = move |rpc: &str| {
            (rpc == "SendMessage" && count.fetch_add(1, Ordering::SeqCst) < 5).then_some(status)
        };
        let server = TestServer::start(Script { gateway: Some(Arc::new(gateway)), ..Script::default() });
        let producer = client(&server).await.producer(ProducerOptions::new(["t"])).await.unwrap();
        producer.send(Message::new("t", "x")).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 6, "{status}");
    }
}

#[tokio::test]
async fn requests_are_bounded_while_a_gateway_refuses_all() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let gateway = move |rpc: &str| {
        (rpc == "SendMessage").then(|| {
            count.fetch_add(1, Ordering::SeqCst);
            StatusCode::TOO_MANY_REQUESTS
        })
    };
    let server = TestServer::start(Script { gateway: Some(Arc::new(gateway)), ..Script::default() });
    let producer = client(&server).await.producer(ProducerOptions::new(["t"])).await.unwrap();
    let error = producer.send(Message::new("t", "x")).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Unavailable, true), "{error}");
    assert!(error.message().contains("429"), "{error}");
    assert!(asked.load(Ordering::SeqCst) <= 16);
}

#[tokio::test]
async fn receives_continue_while_a_gateway_refuses_telemetry() {
    let refuse = Arc::new(AtomicBool::new(false));
    let refusing = refuse.clone();
    let gateway = move |rpc: &str| {
        (rpc == "Telemetry" && refusing.load(Ordering::SeqCst)).then_some(StatusCode::SERVICE_UNAVAILABLE)
    };
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x")]);
    let script = Script { receive: Box::new(receive), gateway: Some(Arc::new(gateway)), ..Script::default() };
    let server = TestServer::start(script);
    let client = client(&server).await;
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    refuse.store(true, Ordering::SeqCst);
    server.seen.drop_streams();
    server.seen.wait("stream ended", 2).await;
    for _ in 0..3 {
        producer.send(Message::new("t", "x")).await.unwrap();
        let delivery = consumer.receive(ReceiveOptions::default()).await.unwrap().remove(0);
        consumer.change_invisible(&delivery, Duration::from_secs(30)).await.unwrap();
        consumer.ack(&delivery).await.unwrap();
    }
    refuse.store(false, Ordering::SeqCst);
    server.seen.wait("settings", 4).await;
}
