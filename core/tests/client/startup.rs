//! How a client starts when its server is absent, or starts later.

use std::time::Duration;

use rocketmq_thin::{
    Client, ClientOptions, ErrorKind, Message, ProducerOptions, ReceiveOptions, RetryOptions,
    SimpleConsumerOptions, Startup, Status, StreamOptions, Tls,
};
use tokio::net::TcpListener;

use crate::{
    client,
    server::{Script, TestServer},
    unused_address,
};

/// Longer than any test runs.
const HOUR: Duration = Duration::from_secs(3600);

fn patient(endpoints: impl Into<String>) -> ClientOptions {
    ClientOptions::new(endpoints).startup_timeout(HOUR)
}

#[tokio::test]
async fn connect_does_not_wait_for_an_address_where_nothing_listens() {
    let address = unused_address().await;
    let error = Client::connect(patient(&address)).await.unwrap_err();
    assert_eq!((error.kind(), error.endpoint()), (ErrorKind::Unavailable, Some(address.as_str())));
    assert!(error.retryable() && error.message().contains("nothing listens"), "{error}");
    assert!(error.message().contains("refused"), "{error}");
    let several = format!("{address},{},no-such-host.invalid:1", unused_address().await);
    let error = Client::connect(patient(several)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn connect_does_not_wait_for_an_address_that_closes_connections_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let closing = tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    for (scheme, expected) in [("http", "closed the connection at once"), ("https", "in the TLS handshake")] {
        let error = Client::connect(patient(format!("{scheme}://{address}"))).await.unwrap_err();
        assert!(error.retryable() && error.message().contains(expected), "{error}");
    }
    closing.abort();
}

#[tokio::test]
async fn an_unknown_host_name_is_named() {
    let error = Client::connect(patient("no-such-host.invalid:1")).await.unwrap_err();
    assert_eq!((error.kind(), error.endpoint()), (ErrorKind::Unavailable, Some("no-such-host.invalid:1")));
    assert!(error.message().contains("can't be found"), "{error}");
}

#[tokio::test]
async fn connect_waits_for_a_server_that_starts_later_if_told_to() {
    let address = unused_address().await;
    let options = patient(&address).startup(Startup::Wait);
    let connecting = tokio::spawn(Client::connect(options));
    tokio::task::yield_now().await;
    let server = TestServer::at(address.parse().unwrap(), Script::default(), None);
    let client = connecting.await.unwrap().unwrap();
    client.producer(ProducerOptions::new(["t"])).await.unwrap();
    drop(server);
    let options = ClientOptions::new(address).startup(Startup::Wait);
    let error = Client::connect(options.startup_timeout(Duration::from_millis(300))).await.unwrap_err();
    assert!(error.message().contains("nothing listens"), "{error}");
}

#[tokio::test]
async fn a_lazy_client_starts_without_a_server_and_its_calls_name_the_cause() {
    let address = unused_address().await;
    let options = ClientOptions::new(&address)
        .startup(Startup::Lazy)
        .request_timeout(Duration::from_millis(300))
        .operation_timeout(Duration::from_millis(300));
    let client = Client::connect(options).await.unwrap();
    assert_eq!(client.health().status, Status::Connecting);
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();

    let error = producer.send(Message::new("t", "x")).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Unavailable, "send"), "{error}");
    assert!(error.retryable() && !error.maybe_delivered(), "{error}");
    assert!(error.message().contains("nothing listens"), "{error}");
    let options = ReceiveOptions::default().await_duration(Duration::from_millis(300));
    let error = consumer.receive(options).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Unavailable, "receive"), "{error}");
    assert!(error.message().contains("nothing listens"), "{error}");
    let health = client.health();
    assert_eq!(health.status, Status::Lost);
    assert_eq!(health.endpoints[0].endpoint, address);
    assert!(health.error.unwrap().message().contains("nothing listens"));
}

#[tokio::test]
async fn a_lazy_client_works_as_soon_as_there_is_a_server() {
    let address = unused_address().await;
    let options = ClientOptions::new(&address).startup(Startup::Lazy).operation_timeout(HOUR);
    let client = Client::connect(options).await.unwrap();
    let mut changes = client.status_changes();
    assert_eq!(changes.next().await.unwrap().status, Status::Connecting);
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let sending = tokio::spawn(async move { producer.send(Message::new("t", "x")).await });
    assert_eq!(changes.next().await.unwrap().status, Status::Lost);
    let server = TestServer::at(address.parse().unwrap(), Script::default(), None);
    sending.await.unwrap().unwrap();
    assert_eq!(server.seen.counted("send"), 1);
    while changes.next().await.unwrap().status != Status::Connected {}
}

#[tokio::test]
async fn invalid_options_fail_at_once_even_with_a_lazy_start() {
    for options in [
        ClientOptions::new("h:port"),
        ClientOptions::default().namespace("ü"),
        ClientOptions::default().tls(Tls::ca("no certificate")),
    ] {
        let error = Client::connect(options.startup(Startup::Lazy)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    }
}

#[tokio::test]
async fn a_start_that_is_cancelled_leaves_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = patient(listener.local_addr().unwrap().to_string()).request_timeout(HOUR);
    let connecting = tokio::spawn(Client::connect(options));
    let (mut stream, _) = listener.accept().await.unwrap();
    connecting.abort();
    let mut received = Vec::new();
    // The client may close the connection or reset it.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut received).await;
}

#[tokio::test]
async fn timeouts_of_zero_are_refused() {
    let options = || ClientOptions::new("127.0.0.1:1");
    for (options, named) in [
        (options().request_timeout(Duration::ZERO), "request timeout is 0"),
        (options().operation_timeout(Duration::ZERO), "operation timeout is 0"),
        (options().startup_timeout(Duration::ZERO), "startup timeout is 0"),
        (options().retry(RetryOptions::default().max_attempts(0)), "number of attempts is 0"),
    ] {
        let error = Client::connect(options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.message().contains(named), "{error}");
    }
}

#[tokio::test]
async fn limits_of_zero_are_refused() {
    let server = TestServer::start(Script::default());
    let client = client(&server).await;
    for options in [
        ProducerOptions::default().max_in_flight_messages(0),
        ProducerOptions::default().max_in_flight_bytes(0),
    ] {
        let error = client.producer(options).await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidOptions, "producer"));
    }
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("g", ["t"])).await.unwrap();
    for options in [StreamOptions::default().max_messages(0), StreamOptions::default().max_bytes(0)] {
        let error = consumer.messages(options).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidOptions, "messages"));
    }
}
