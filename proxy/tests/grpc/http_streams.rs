//! Streams of server-sent events, and clients that go away.

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http::{call, open, post, proxy};
use crate::support::{Proxy, receive, receive_request, system};

/// A stream of events.
struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    async fn open(proxy: &Proxy, query: &str) -> Self {
        let request = Request::get(format!("/v1/groups/g/topics/t/receive?{query}"))
            .header("host", "proxy")
            .header("accept", "text/event-stream")
            .body(Full::new(Bytes::new()))
            .expect("a request");
        let response = open(proxy.address, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next message.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let data = data.map(|data| serde_json::from_str(data).expect("JSON"));
                self.text = rest.to_owned();
                match data {
                    Some(data) => return Some(data),
                    None => continue,
                }
            }
            let frame = self.body.frame().await?.expect("a part");
            self.text.push_str(std::str::from_utf8(&frame.into_data().expect("data")).expect("UTF-8"));
        }
    }
}

async fn send_three(proxy: &Proxy) {
    let batch = json!([{"text": "1"}, {"text": "2"}, {"text": "3"}]);
    assert_eq!(post(proxy.address, "/v1/topics/t/messages", batch).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stream_has_as_many_messages_open_as_it_asked_for() {
    let proxy = proxy().await;
    send_three(&proxy).await;
    let mut events = Events::open(&proxy, "max=2").await;
    let (first, _second) = (events.next().await.expect("one"), events.next().await.expect("another"));
    // The third one is left to others.
    let mut client = proxy.client().await;
    let others = receive(&mut client, receive_request("t", "g")).await.messages;
    assert_eq!(others.len(), 1);
    // A message that is settled makes room for the next one.
    let settled = json!({"handles": [first["handle"]]});
    assert_eq!(
        post(proxy.address, "/v1/groups/g/topics/t/ack", settled).await.json()["results"][0]["done"],
        true
    );
    post(proxy.address, "/v1/topics/t/messages", json!({"text": "4"})).await;
    assert_eq!(events.next().await.expect("a third one")["text"], "4");
}

#[tokio::test]
async fn what_a_stream_has_not_settled_goes_to_others_when_it_ends() {
    let proxy = proxy().await;
    send_three(&proxy).await;
    let mut events = Events::open(&proxy, "max=3&invisible=1h").await;
    for _ in 0..3 {
        events.next().await.expect("a message");
    }
    drop(events);
    let mut client = proxy.client().await;
    let mut attempts = Vec::new();
    while attempts.len() < 3 {
        let received = receive(&mut client, receive_request("t", "g")).await.messages;
        attempts.extend(received.iter().map(|message| system(message).delivery_attempt));
    }
    assert_eq!(attempts, [Some(2); 3]);
}

#[tokio::test]
async fn a_stream_ends_when_the_proxy_drains() {
    let mut proxy = proxy().await;
    let mut events = Events::open(&proxy, "").await;
    proxy.ask_to_stop();
    assert_eq!(events.next().await, None);
    proxy.stop().await;
}

#[tokio::test]
async fn a_stream_must_be_asked_for() {
    let proxy = proxy().await;
    let refused = call(proxy.address, (Method::GET, "/v1/groups/g/topics/t/receive"), &[], "").await;
    assert_eq!(refused.status, StatusCode::NOT_ACCEPTABLE);
    let bad = [("accept", "text/event-stream")];
    let refused = call(proxy.address, (Method::GET, "/v1/groups/g/topics/t%21/receive"), &bad, "").await;
    assert_eq!(refused.problem(), (400, "InvalidArgument".to_owned(), 40002));
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_takes_no_message() {
    let proxy = proxy().await;
    let mut waiting = TcpStream::connect(proxy.address).await.expect("a connection");
    let request = "POST /v1/groups/g/topics/t/receive?invisible=1h HTTP/1.1\r\nhost: proxy\r\ncontent-length: 0\r\n\r\n";
    waiting.write_all(request.as_bytes()).await.expect("sent");

    let mut client = proxy.client().await;
    drop(waiting);
    post(proxy.address, "/v1/topics/t/messages", json!({"text": "1"})).await;
    let received = receive(&mut client, receive_request("t", "g")).await.messages;
    assert_eq!(received.len(), 1);
}
