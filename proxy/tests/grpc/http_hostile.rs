//! What HTTP clients get wrong, or do on purpose.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{call, post, proxy};
use crate::support::Proxy;

/// Writes these bytes and reads all that comes back, up to the end of the connection.
async fn raw(proxy: &Proxy, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_are_refused_with_their_reason() {
    let proxy = proxy().await;
    let end = json!({"transaction_id": "x", "message_id": "x", "decision": "commit"});
    for (path, body, expected) in [
        ("/v1/topics/t/messages", json!({}), (400, "InvalidArgument", 40000)),
        ("/v1/topics/t/messages", json!({"text": ""}), (400, "InvalidArgument", 41302)),
        ("/v1/topics/t/messages", json!({"body": "?"}), (400, "InvalidArgument", 40000)),
        ("/v1/topics/t/messages", json!({"txt": "a"}), (400, "InvalidArgument", 40000)),
        ("/v1/topics/t/messages", json!([]), (400, "InvalidArgument", 40016)),
        ("/v1/topics/t%21/messages", json!({"text": "a"}), (400, "InvalidArgument", 40002)),
        ("/v1/topics/t/messages", json!({"text": "a", "tag": "a|b"}), (400, "InvalidArgument", 40004)),
        ("/v1/topics/t/messages", json!({"text": "a", "delay": "100d"}), (400, "InvalidArgument", 40012)),
        ("/v1/topics/t/messages", json!({"text": "a".repeat(5 << 20)}), (413, "TooLarge", 41301)),
        ("/v1/topics/t/messages", json!({"text": "a", "delay": "1s"}), (400, "TypeMismatch", 40014)),
        ("/v1/topics/%FF/messages", json!({"text": "a"}), (400, "InvalidArgument", 40000)),
        ("/v1/groups/g/topics/t/receive?max=0", json!({}), (400, "InvalidArgument", 40000)),
        ("/v1/groups/g/topics/t/receive?max=1025", json!({}), (400, "InvalidArgument", 40000)),
        ("/v1/groups/g/topics/t/receive?max=x", json!({}), (400, "InvalidArgument", 40000)),
        ("/v1/groups/g/topics/t/receive?mux=1", json!({}), (400, "InvalidArgument", 40000)),
        ("/v1/groups/g/topics/t/receive?invisible=99d", json!({}), (400, "InvalidArgument", 40011)),
        ("/v1/groups/g/topics/t/receive?sql=a%20%3E", json!({}), (400, "InvalidArgument", 40010)),
        ("/v1/groups/g%21/topics/t/receive", json!({}), (400, "InvalidArgument", 40003)),
        ("/v1/groups/g/topics/t/ack", json!({"handles": []}), (400, "InvalidArgument", 40000)),
        ("/v1/groups/g/topics/t/ack", json!([["h"]]), (400, "InvalidArgument", 40000)),
        ("/v1/groups/g%21/topics/t/nack", json!({"handles": ["h"]}), (400, "InvalidArgument", 40003)),
        ("/v1/topics/t/transactions", end, (400, "InvalidArgument", 40008)),
        ("/v1/nothing", json!({}), (404, "NotFound", 40400)),
        ("/v1/topics/t/recall/", json!({}), (404, "NotFound", 40400)),
    ] {
        let (status, kind, code) = post(proxy.address, path, body.clone()).await.problem();
        assert_eq!((status, kind.as_str(), code), expected, "{path} {body:.50}");
    }
    let wrong = call(proxy.address, (Method::DELETE, "/v1/topics/t/recall"), &[], "").await;
    assert_eq!(wrong.problem(), (405, "InvalidArgument".to_owned(), 40500));
    assert_eq!(wrong.headers["allow"], "POST");
    let not_json = [("content-type", "application/json")];
    for body in ["{", "[{\"text\": \"a\"}", "\"a\"", "{\"text\": 1}", ""] {
        let answer = call(proxy.address, (Method::POST, "/v1/topics/t/messages"), &not_json, body).await;
        assert_eq!(answer.problem().0, 400, "{body}");
    }
}

#[tokio::test]
async fn a_body_is_bounded_before_it_arrives() {
    let proxy = Proxy::configured(|config| {
        config.http.enabled = true;
        config.transport.request_bytes = 1 << 20;
        config.transport.request_fields = 100;
    })
    .await;
    let announced = "POST /v1/topics/t/messages HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\
                     content-type: application/json\r\ncontent-length: 2000000\r\n\r\n";
    assert!(raw(&proxy, announced.as_bytes()).await.starts_with("HTTP/1.1 413"));
    let many = json!(vec![json!({"text": "a"}); 101]);
    let answer = post(proxy.address, "/v1/topics/t/messages", many).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_peer_that_stops_halfway_is_told_and_let_go() {
    let proxy = Proxy::configured(|config| {
        config.http.enabled = true;
        config.transport.request_timeout = Duration::from_millis(100);
    })
    .await;
    let half_body = "POST /v1/topics/t/messages HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\
                     content-type: application/json\r\ncontent-length: 20\r\n\r\n{\"text\"";
    assert!(raw(&proxy, half_body.as_bytes()).await.starts_with("HTTP/1.1 408"));
    // The end of the connection is all that counts for half a header.
    raw(&proxy, b"POST /v1/topics/t/messages HTTP/1.1\r\nhost: p\r\ncontent-").await;
    let many_headers = format!("GET / HTTP/1.1\r\nhost: p\r\nx: {}\r\n\r\n", "a".repeat(20_000));
    assert!(raw(&proxy, many_headers.as_bytes()).await.starts_with("HTTP/1.1 431"));
    assert!(raw(&proxy, b"GET /v1 HTTP/1.1\r\nbroken\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn too_many_connections_are_refused_in_http() {
    let proxy = Proxy::configured(|config| {
        config.http.enabled = true;
        config.transport.calls = 1;
    })
    .await;
    let mut waiting = TcpStream::connect(proxy.address).await.expect("a connection");
    let request = "POST /v1/groups/g/topics/t/receive HTTP/1.1\r\nhost: p\r\ncontent-length: 0\r\n\r\n";
    waiting.write_all(request.as_bytes()).await.expect("sent");
    loop {
        let answer = call(proxy.address, (Method::GET, "/openapi.json"), &[], "").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.headers["retry-after"], "1");
            assert_eq!(answer.problem(), (429, "Throttled".to_owned(), 42900));
            break;
        }
    }
}

#[tokio::test]
async fn http_is_off_unless_it_is_configured() {
    let proxy = Proxy::start().await;
    assert!(!raw(&proxy, b"GET / HTTP/1.1\r\nhost: p\r\n\r\n").await.starts_with("HTTP"));
}
