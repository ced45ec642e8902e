//! A shutdown: waiting receives and streams end in order.

use std::time::Duration;

use rocketmq_thin_proto::v2 as pb;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Proxy, duration, receive, receive_request, request};

#[tokio::test]
async fn a_shutdown_answers_waiting_receives_and_ends_streams() {
    let mut proxy = Proxy::start().await;
    let mut waiting = proxy.client().await;
    let mut also_waiting = waiting.clone();
    let mut wanted = receive_request("t", "g");
    wanted.long_polling_timeout = duration(Duration::from_secs(20));
    let mut open = proxy.client().await;
    let (_commands, requests) = tokio::sync::mpsc::channel::<pb::TelemetryCommand>(1);
    let stream = open.telemetry(request(ReceiverStream::new(requests))).await;
    let mut stream = stream.expect("a stream").into_inner();
    let mut health = HealthClient::new(proxy.channel().await);
    let watching = health.watch(HealthCheckRequest::default()).await.expect("an answer");
    let mut watching = watching.into_inner();
    watching.message().await.expect("an answer").expect("a status");
    let mut answered = Box::pin(receive(&mut waiting, wanted));
    assert!(futures::poll!(&mut answered).is_pending());
    // Calls of one connection arrive in order. When a later one is answered, the receive is in progress.
    let beat = pb::HeartbeatRequest::default();
    also_waiting.heartbeat(request(beat)).await.expect("an answer");

    proxy.ask_to_stop();
    let received = answered.await;
    assert_eq!(received.status.message, "no new message");
    assert!(stream.message().await.expect("an orderly end").is_none());
    assert_eq!(watching.message().await.expect_err("an orderly end").code(), Code::Unavailable);
    proxy.stop().await;
}

#[tokio::test]
async fn a_stopped_proxy_releases_its_data_directory() {
    let proxy = Proxy::start().await;
    let data = proxy.stop().await;
    let next = Proxy::in_directory(data, |_| {}).await;
    next.stop().await;
}
