//! The HTTP front end: messages are sent, received and settled, also together with gRPC clients.

use std::net::SocketAddr;

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{Proxy, ack, handle, is_empty, message, receive, receive_request, send, system};

/// What a request brought.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The status, kind and code of a problem.
    pub(crate) fn problem(&self) -> (u16, String, i64) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16(), "{json}");
        let kind = json["kind"].as_str().expect("a kind").to_owned();
        (self.status.as_u16(), kind, json["code"].as_i64().expect("a code"))
    }
}

/// A proxy that serves HTTP.
pub(crate) async fn proxy() -> Proxy {
    Proxy::configured(|config| config.http.enabled = true).await
}

/// Sends a request on a connection of its own, and leaves its answer to be read.
pub(crate) async fn open(address: SocketAddr, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1");
    tokio::spawn(connection);
    sender.send_request(request).await.expect("an answer")
}

/// Sends a request with these headers.
pub(crate) async fn call(
    address: SocketAddr,
    (method, path): (Method, &str),
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = open(address, request.body(Full::new(body.into())).expect("a request")).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Posts JSON.
pub(crate) async fn post(address: SocketAddr, path: &str, body: Value) -> Answer {
    call(address, (Method::POST, path), &[("content-type", "application/json")], body.to_string()).await
}

/// Receives what is there.
async fn receive_http(proxy: &Proxy, query: &str) -> Vec<Value> {
    let path = format!("/v1/groups/g/topics/t/receive?{query}");
    let answer = call(proxy.address, (Method::POST, &path), &[], "").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["messages"].as_array().expect("messages").clone()
}

#[tokio::test]
async fn a_message_is_sent_received_and_settled() {
    let proxy = proxy().await;
    let order = json!({
        "text": "hello", "tag": "new", "keys": ["k1", "k2"], "properties": {"price": "10"},
        "message_id": "M1", "trace_parent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    });
    let sent = post(proxy.address, "/v1/topics/t/messages", order).await;
    assert_eq!((sent.status, &sent.json()["message_id"]), (StatusCode::OK, &json!("M1")));

    let received = receive_http(&proxy, "max=10&invisible=60s&filter=new").await;
    let [message] = &received[..] else { panic!("{received:?}") };
    for (field, expected) in [
        ("text", json!("hello")),
        ("tag", json!("new")),
        ("keys", json!(["k1", "k2"])),
        ("properties", json!({"price": "10"})),
        ("message_id", json!("M1")),
        ("attempt", json!(1)),
        ("trace_parent", json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
    ] {
        assert_eq!(message[field], expected, "{field}");
    }
    let handles = json!({"handles": [message["handle"], "bad"]});
    let acked = post(proxy.address, "/v1/groups/g/topics/t/ack", handles).await;
    let results = acked.json()["results"].clone();
    assert_eq!((acked.status, &results[0]["done"]), (StatusCode::OK, &json!(true)));
    assert_eq!(
        (&results[1]["done"], &results[1]["error"]["kind"]),
        (&json!(false), &json!("InvalidReceipt"))
    );
    assert_eq!(receive_http(&proxy, "wait=1ms").await.len(), 0);
}

#[tokio::test]
async fn clients_of_http_and_grpc_share_topics_and_groups() {
    let proxy = proxy().await;
    let mut client = proxy.client().await;
    let sent = post(proxy.address, "/v1/topics/t/messages", json!({"body": "/wA=", "tag": "x"})).await;
    assert_eq!(sent.status, StatusCode::OK, "{sent:?}");
    let received = receive(&mut client, receive_request("t", "g")).await.messages;
    let [from_http] = &received[..] else { panic!("{received:?}") };
    assert_eq!((&from_http.body[..], system(from_http).tag.as_deref()), (&[255, 0][..], Some("x")));
    // A handle is settled by whichever protocol.
    let handles = json!({"handles": [handle(from_http)]});
    assert_eq!(
        post(proxy.address, "/v1/groups/g/topics/t/ack", handles).await.json()["results"][0]["done"],
        true
    );

    send(&mut client, vec![message("t", "2", "from gRPC")]).await;
    let received = receive_http(&proxy, "").await;
    assert_eq!(received[0]["text"], "from gRPC");
    ack(&mut client, ["t", "g"], &[received[0]["handle"].as_str().expect("a handle")]).await;
    assert!(is_empty(&mut client, "t", "g").await);
}

#[tokio::test]
async fn a_batch_has_results_of_its_messages() {
    let proxy = proxy().await;
    let batch = json!([{"text": "1"}, {"text": "2"}]);
    let sent = post(proxy.address, "/v1/topics/t/messages", batch).await.json();
    assert!(
        sent["results"]
            .as_array()
            .expect("results")
            .iter()
            .all(|result| result["receipt"]["offset"].is_i64())
    );
    assert_eq!(receive_http(&proxy, "").await.len(), 2);
}

#[tokio::test]
async fn a_body_may_be_the_payload() {
    let proxy = proxy().await;
    let headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("x-rocketmq-tag", "raw"),
        ("x-rocketmq-keys", "a b"),
        ("x-rocketmq-property-colour", "grün"),
    ];
    let sent = call(proxy.address, (Method::POST, "/v1/topics/t/messages"), &headers, "plain").await;
    assert_eq!(sent.status, StatusCode::OK, "{sent:?}");
    let received = receive_http(&proxy, "bodies=base64").await;
    assert_eq!(received[0]["body"], "cGxhaW4=");
    assert_eq!((&received[0]["tag"], &received[0]["keys"]), (&json!("raw"), &json!(["a", "b"])));
    assert_eq!(received[0]["properties"], json!({"colour": "grün"}));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let refused = call(proxy.address, (Method::POST, "/v1/topics/t/messages"), &form, "a=b").await;
    assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn cloud_events_come_back_as_they_were() {
    let proxy = proxy().await;
    let event = json!({
        "specversion": "1.0", "id": "e1", "source": "/shop", "type": "order.made", "subject": "7",
        "datacontenttype": "application/json", "data": {"price": 10},
    });
    let structured = [("content-type", "application/cloudevents+json")];
    let sent =
        call(proxy.address, (Method::POST, "/v1/topics/t/messages"), &structured, event.to_string()).await;
    assert_eq!(sent.status, StatusCode::OK, "{sent:?}");
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "e2"),
        ("ce-source", "/shop"),
        ("ce-type", "order.made"),
        ("ce-subject", "caf%C3%A9"),
        ("content-type", "text/plain"),
    ];
    let sent = call(proxy.address, (Method::POST, "/v1/topics/t/messages"), &binary, "two").await;
    assert_eq!(sent.status, StatusCode::OK, "{sent:?}");

    let accept = [("accept", "application/cloudevents-batch+json")];
    let mut events = Vec::new();
    while events.len() < 2 {
        let path = "/v1/groups/g/topics/t/receive";
        let received = call(proxy.address, (Method::POST, path), &accept, "").await.json();
        events.extend(received.as_array().expect("events").clone());
    }
    events.sort_by_key(|event| event["id"].to_string());
    assert!(events[0]["rocketmqhandle"].is_string());
    assert_eq!(events[0]["rocketmqattempt"], 1);
    for (name, value) in event.as_object().expect("an event") {
        assert_eq!(&events[0][name], value, "{name}");
    }
    assert_eq!((&events[1]["subject"], &events[1]["data"]), (&json!("café"), &json!("two")));
    let no_event = json!({"specversion": "1.0", "id": "e1"}).to_string();
    let refused = call(proxy.address, (Method::POST, "/v1/topics/t/messages"), &structured, no_event).await;
    assert_eq!(refused.problem(), (400, "InvalidArgument".to_owned(), 40000));
}

#[tokio::test]
async fn a_received_event_that_is_sent_again_has_each_member_once() {
    let proxy = proxy().await;
    let event = json!({
        "specversion": "1.0", "id": "e1", "source": "/shop", "type": "order.made",
        "rocketmqhandle": "of an earlier delivery", "rocketmqattempt": 7, "data": {},
    });
    let structured = [("content-type", "application/cloudevents+json")];
    let sent =
        call(proxy.address, (Method::POST, "/v1/topics/t/messages"), &structured, event.to_string()).await;
    assert_eq!(sent.status, StatusCode::OK, "{sent:?}");
    let accept = [("accept", "application/cloudevents-batch+json")];
    let path = "/v1/groups/g/topics/t/receive";
    let received = call(proxy.address, (Method::POST, path), &accept, "").await;
    let text = std::str::from_utf8(&received.body).expect("text");
    for member in ["rocketmqhandle", "rocketmqattempt"] {
        assert_eq!(text.matches(member).count(), 1, "{text}");
    }
}

#[tokio::test]
async fn deliveries_are_given_back_extended_and_buried() {
    let proxy = proxy().await;
    post(proxy.address, "/v1/topics/t/messages", json!({"text": "a"})).await;
    let first = receive_http(&proxy, "").await.remove(0);
    let nack = json!({"handles": [first["handle"]]});
    assert_eq!(
        post(proxy.address, "/v1/groups/g/topics/t/nack", nack).await.json()["results"][0]["done"],
        true
    );
    let second = receive_http(&proxy, "").await.remove(0);
    assert_eq!(second["attempt"], 2);
    let extend = json!({"handles": [second["handle"]], "invisible": "5m"});
    let extended = post(proxy.address, "/v1/groups/g/topics/t/extend", extend).await.json();
    let renewed = &extended["results"][0]["new_handle"];
    assert!(renewed.is_string() && *renewed != second["handle"], "{extended}");
    let bury = json!({"handles": [renewed]});
    let buried = post(proxy.address, "/v1/groups/g/topics/t/dead-letter", bury).await.json();
    assert_eq!(buried["results"][0]["done"], true, "{buried}");
    let letters =
        call(proxy.address, (Method::POST, "/v1/groups/h/topics/%25DLQ%25g/receive"), &[], "").await;
    assert_eq!(letters.json()["messages"][0]["text"], "a");
}

#[tokio::test]
async fn a_delayed_message_is_recalled_and_a_transaction_ends() {
    let proxy = Proxy::configured(|config| {
        config.http.enabled = true;
        let catalog: rocketmq_thin_proxy::config::Catalog = toml::from_str(
            "[[topics]]\nname = 'd'\ntype = 'delay'\n[[topics]]\nname = 't'\ntype = 'transaction'\n",
        )
        .expect("a catalog");
        config.topics = catalog.topics;
    })
    .await;
    let delayed = json!({"text": "a", "delay": "1h"});
    let sent = post(proxy.address, "/v1/topics/d/messages", delayed).await.json();
    let recall = json!({"recall_handle": sent["recall_handle"]});
    let recalled = post(proxy.address, "/v1/topics/d/recall", recall).await.json();
    assert_eq!(recalled["message_id"], sent["message_id"]);

    for (decision, messages) in [("rollback", 0), ("commit", 1)] {
        let half = json!({"text": decision, "transaction": true});
        let sent = post(proxy.address, "/v1/topics/t/messages", half).await.json();
        let end = json!({
            "transaction_id": sent["transaction_id"], "message_id": sent["message_id"], "decision": decision,
        });
        let ended = post(proxy.address, "/v1/topics/t/transactions", end).await;
        assert_eq!(ended.status, StatusCode::NO_CONTENT, "{ended:?}");
        assert_eq!(receive_http(&proxy, "wait=1ms").await.len(), messages, "{decision}");
    }
}

#[tokio::test]
async fn http2_is_served_beside_grpc() {
    let proxy = proxy().await;
    let stream = TokioIo::new(TcpStream::connect(proxy.address).await.expect("a connection"));
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::post(format!("http://{}/v1/topics/t/messages", proxy.address))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(br#"{"text": "a"}"#)))
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let receipt = answer.into_body().collect().await.expect("a body").to_bytes();
    assert!(serde_json::from_slice::<Value>(&receipt).expect("JSON")["message_id"].is_string());
}
