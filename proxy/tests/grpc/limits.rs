//! Limits on what hostile, broken or slow peers can make the proxy hold. Other clients are served meanwhile.

use std::io::Write;
use std::time::Duration;

use futures::future::select_all;
use h2::client::Builder;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::raw::{Raw, encoded, frame};
use crate::support::{Proxy, code, message, receive, receive_request, request, send};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const SHORT_TIMEOUT: Duration = Duration::from_millis(50);

fn body_of(bytes: usize) -> pb::Message {
    pb::Message { body: vec![7; bytes].into(), ..message("t", "m", "") }
}

async fn serves(proxy: &Proxy) {
    let sent = send(&mut proxy.client().await, vec![message("t", "m", "body")]).await;
    assert_eq!(code(sent.status), pb::Code::Ok);
}

/// Connects, writes these bytes, and reads until the proxy closes the connection.
async fn exchange(proxy: &Proxy, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    stream.write_all(bytes).await.expect("written");
    let mut answer = Vec::new();
    // The proxy may also reset the connection.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn connections_without_a_recognized_protocol_are_closed() {
    let proxy = Proxy::configured(|config| config.transport.handshake_timeout = SHORT_TIMEOUT).await;
    for beginning in
        [&b""[..], b"P", b"PRI ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n", b"\x16", b"\x16\x03\x01\x02\x00"]
    {
        assert!(exchange(&proxy, beginning).await.is_empty(), "{beginning:?}");
    }
    for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXIMA", b"\x01\0\0\x10"] {
        let answer = exchange(&proxy, other).await;
        assert!(String::from_utf8_lossy(&answer).ends_with("this port speaks gRPC (HTTP/2)"), "{other:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let proxy = Proxy::configured(|config| config.transport.idle_timeout = SHORT_TIMEOUT).await;
    let idle = Raw::connect(proxy.address, &Builder::new()).await;
    idle.ended.await.expect("no panic").expect("an orderly end");
    serves(&proxy).await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_incomplete_requests() {
    let proxy = Proxy::configured(|config| config.drain = Duration::from_secs(3600)).await;
    let mut silent = Vec::new();
    for beginning in [&b""[..], b"PRI ", PREFACE, &[PREFACE, &SETTINGS].concat(), b"\x16\x03"] {
        let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
        stream.write_all(beginning).await.expect("written");
        silent.push(stream);
    }
    let mut stopped = Raw::connect(proxy.address, &Builder::new()).await;
    let mut call = stopped.call("SendMessage", &[]).await;
    call.request.send_data(frame(&[0; 100], false).slice(..50), false).expect("sent");
    // Connections are accepted in order. When this one is served, those before it are accepted.
    serves(&proxy).await;
    proxy.stop().await;
}

#[tokio::test]
async fn incomplete_requests_are_evicted_to_make_room() {
    let proxy = Proxy::configured(|config| {
        config.transport.bytes = 1 << 20;
        config.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    })
    .await;
    let (mut peers, mut statuses) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut peer = Raw::connect_for(proxy.address, "192.0.2.1").await;
        let mut call = peer.call("SendMessage", &[]).await;
        call.request.send_data(frame(&vec![0; 250 << 10], false).slice(..200 << 10), false).expect("sent");
        peers.push(peer);
        statuses.push(Box::pin(call.status()));
    }
    // One host can't hold all four.
    let (first, _, others) = select_all(statuses).await;
    assert_eq!(first, Some(Code::ResourceExhausted));
    let sent = send(&mut proxy.client().await, vec![body_of(600 << 10)]).await;
    assert_eq!(code(sent.status), pb::Code::Ok);
    assert_eq!(select_all(others).await.0, Some(Code::ResourceExhausted));
}

#[tokio::test]
async fn a_request_has_limited_time_to_arrive() {
    let proxy = Proxy::configured(|config| config.transport.request_timeout = SHORT_TIMEOUT).await;
    let mut peer = Raw::connect(proxy.address, &Builder::new()).await;
    for part in [0, 3, 50] {
        let mut call = peer.call("AckMessage", &[]).await;
        call.request.send_data(frame(&[0; 100], false).slice(..part), false).expect("sent");
        assert_eq!(call.status().await, Some(Code::DeadlineExceeded), "after {part} bytes");
    }
    let mut telemetry = peer.call("Telemetry", &[]).await;
    telemetry.request.send_data(frame(&[0; 100], false).slice(..50), false).expect("sent");
    assert_eq!(telemetry.status().await, Some(Code::DeadlineExceeded));
    serves(&proxy).await;
}

#[tokio::test]
async fn the_size_of_requests_is_bounded_compressed_or_not() {
    let proxy = Proxy::start().await;
    let mut peer = Raw::connect(proxy.address, &Builder::new()).await;
    let mut announced = peer.call("SendMessage", &[]).await;
    announced
        .request
        .send_data([&[0][..], &(130u32 << 20).to_be_bytes()].concat().into(), false)
        .expect("sent");
    assert_eq!(announced.status().await, None);
    let gzip = |length: usize| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&vec![0; length]).expect("written");
        frame(&encoder.finish().expect("finished"), true)
    };
    for (method, length) in [("SendMessage", 65 << 20), ("AckMessage", 5 << 20), ("Telemetry", 5 << 20)] {
        let mut bomb = peer.call(method, &[("grpc-encoding", "gzip")]).await;
        bomb.send(gzip(length));
        assert_eq!(bomb.status().await, None, "{method}");
    }
    // Each message has two bytes, and hundreds when decoded.
    let mut many = peer.call("SendMessage", &[]).await;
    many.send(frame(&[10, 0].repeat(100_000), false));
    assert_eq!(many.status().await, Some(Code::ResourceExhausted));
    serves(&proxy).await;
}

#[tokio::test]
async fn compressed_requests_are_served() {
    let proxy = Proxy::start().await;
    let mut peer = Raw::connect(proxy.address, &Builder::new()).await;
    let mut call = peer.call("SendMessage", &[("grpc-encoding", "gzip")]).await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let sent = pb::SendMessageRequest { messages: vec![body_of(3 << 20)] };
    encoder.write_all(&prost::Message::encode_to_vec(&sent)).expect("written");
    call.send(frame(&encoder.finish().expect("finished"), true));
    assert_eq!(call.status().await, Some(Code::Ok));
    let received = receive(&mut proxy.client().await, receive_request("t", "g")).await;
    assert_eq!(received.messages[0].body.len(), 3 << 20);
}

fn few_connections(config: &mut Config) {
    config.transport.connections = 2;
}

#[tokio::test]
async fn a_new_connection_replaces_one_that_is_idle() {
    let proxy = Proxy::configured(few_connections).await;
    let mut first = TcpStream::connect(proxy.address).await.expect("a connection");
    let mut busy = proxy.client().await;
    send(&mut busy, vec![message("t", "m", "body")]).await;
    let mut waiting = Box::pin(receive(&mut busy, receive_request("other", "g")));
    assert!(futures::poll!(&mut waiting).is_pending());
    serves(&proxy).await;
    assert_eq!(first.read(&mut [0]).await.ok().unwrap_or_default(), 0);
}

#[tokio::test]
async fn a_refused_connection_is_sent_the_reason() {
    let proxy = Proxy::configured(|config| {
        few_connections(config);
        config.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    })
    .await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut peer = Raw::connect(proxy.address, &Builder::new()).await;
        let mut call = peer.call("ReceiveMessage", &[]).await;
        call.send(encoded(&receive_request("t", "g")));
        // Calls of one connection arrive in order. When a later one is answered, the receive is in progress.
        let mut later = peer.call("Heartbeat", &[]).await;
        later.send(encoded(&pb::HeartbeatRequest::default()));
        assert_eq!(later.status().await, Some(Code::Ok));
        busy.push((peer, call));
    }
    let reason = "too many connections";
    for header in ["", "PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n"] {
        let answer = exchange(&proxy, &[header.as_bytes(), PREFACE].concat()).await;
        assert!(String::from_utf8_lossy(&answer).contains(reason), "{answer:?}");
    }
    // A client that uses TLS can't read a reason in plain text.
    assert!(exchange(&proxy, b"\x16\x03\x01\x02\x00").await.is_empty());
    drop(busy);
}

#[tokio::test]
async fn calls_of_one_connection_are_bounded_and_a_thousand_receives_wait_at_once() {
    let proxy = Proxy::start().await;
    let mut peer = Raw::connect(proxy.address, &Builder::new()).await;
    let mut calls = Vec::new();
    for _ in 0..1000 {
        let mut call = peer.call("ReceiveMessage", &[]).await;
        call.send(encoded(&receive_request("nothing", "g")));
        calls.push(call);
    }
    let mut heartbeat = peer.call("Heartbeat", &[]).await;
    heartbeat.send(encoded(&pb::HeartbeatRequest::default()));
    assert_eq!(heartbeat.status().await, Some(Code::Ok));
    assert_eq!(peer.max_streams(), Config::default().transport.streams_per_connection as usize);
}

#[tokio::test]
async fn calls_of_all_connections_are_bounded() {
    let proxy = Proxy::configured(|config| config.transport.calls = 1).await;
    let mut peer = Raw::connect(proxy.address, &Builder::new()).await;
    let waiting = peer.call("SendMessage", &[]).await;
    let mut refused = peer.call("Heartbeat", &[]).await;
    refused.send(encoded(&pb::HeartbeatRequest::default()));
    assert_eq!(refused.status().await, Some(Code::ResourceExhausted));
    drop(waiting);
}

#[tokio::test]
async fn one_host_cannot_take_all_calls() {
    let proxy = Proxy::configured(|config| {
        config.transport.calls = 8;
        config.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    })
    .await;
    let mut greedy = Raw::connect_for(proxy.address, "192.0.2.1").await;
    let mut waiting = Vec::new();
    for _ in 0..7 {
        waiting.push(greedy.call("SendMessage", &[]).await);
    }
    let mut other = Raw::connect_for(proxy.address, "192.0.2.2").await;
    for (peer, expected) in [(&mut greedy, Code::ResourceExhausted), (&mut other, Code::Ok)] {
        let mut beat = peer.call("Heartbeat", &[]).await;
        beat.send(encoded(&pb::HeartbeatRequest::default()));
        assert_eq!(beat.status().await, Some(expected));
    }
    drop(waiting);
}

#[tokio::test]
async fn a_health_watch_counts_as_a_call_until_it_ends() {
    let proxy = Proxy::configured(|config| config.transport.calls = 1).await;
    let mut health = HealthClient::new(proxy.channel().await);
    let watching = health.watch(HealthCheckRequest::default()).await.expect("an answer");
    let mut watching = watching.into_inner();
    watching.message().await.expect("an answer").expect("a status");
    let refused = health.check(HealthCheckRequest::default()).await.expect_err("a refusal");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(watching);
    // The proxy learns of the end by a frame on the same connection.
    while let Err(refused) = health.check(HealthCheckRequest::default()).await {
        assert_eq!(refused.code(), Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_cancelled_and_its_messages_are_given_back() {
    let proxy = Proxy::configured(|config| config.transport.answer_timeout = SHORT_TIMEOUT).await;
    let mut client = proxy.client().await;
    send(&mut client, (0..4).map(|_| body_of(200 << 10)).collect()).await;
    let mut peer = Raw::connect(proxy.address, Builder::new().initial_window_size(0)).await;
    let mut call = peer.call("ReceiveMessage", &[]).await;
    call.send(encoded(&receive_request("t", "g")));
    let mut body = call.body().await;
    // The client grants no window, so the stream ends without data.
    assert!(body.data().await.expect("an end").is_err());
    // The first message was passed to the connection and stays leased. The others are given back one by one.
    let mut again = 0;
    while again < 3 {
        again += receive(&mut client, receive_request("t", "g")).await.messages.len();
    }
    assert_eq!(again, 3);
}

#[tokio::test]
async fn floods_end_their_connection_only() {
    let proxy = Proxy::start().await;
    let client = proxy.client().await;
    // HEADERS with the beginning of a name, then CONTINUATION frames without an end.
    let headers = [&[0, 0, 1, 1, 0, 0, 0, 0, 1][..], &[0x40]].concat();
    let continuation = [&[0, 0, 1, 9, 0, 0, 0, 0, 1][..], &[0x40]].concat();
    let flood = [PREFACE, &SETTINGS, &headers, &continuation.repeat(10_000)].concat();
    exchange(&proxy, &flood).await;
    // Requests that are cancelled before the proxy has accepted them.
    let reset = |id: u32| [&[0, 0, 4, 3, 0][..], &id.to_be_bytes(), &[0, 0, 0, 8]].concat();
    let request = |id: u32| [&[0, 0, 3, 1, 4][..], &id.to_be_bytes(), &[0x83, 0x86, 0x84]].concat();
    let resets = (0..20_000).flat_map(|call| [request(2 * call + 1), reset(2 * call + 1)]).flatten();
    let flood: Vec<u8> = [PREFACE, &SETTINGS].concat().into_iter().chain(resets).collect();
    exchange(&proxy, &flood).await;
    let sent = send(&mut client.clone(), vec![message("t", "m", "body")]).await;
    assert_eq!(code(sent.status), pb::Code::Ok);
}

#[tokio::test]
async fn many_settings_on_one_stream_are_answered_one_by_one() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let commands = (0..500).map(|_| crate::telemetry::consumer("g"));
    let mut answers = client
        .telemetry(request(tokio_stream::iter(commands.collect::<Vec<_>>())))
        .await
        .expect("a stream")
        .into_inner();
    let mut count = 0;
    while answers.message().await.expect("no failure").is_some() {
        count += 1;
    }
    assert_eq!(count, 500);
}
