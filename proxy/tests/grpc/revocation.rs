//! A user who is disabled loses what they hold: streams, waiting requests and connections of every protocol.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::remoting::RemotingCommand;
use serde_json::json;

use crate::access::{Guarded, offline, signed, signed_command};
use crate::classic::{Classic, code as classic_code};
use crate::http::{call, open};
use crate::support::{code, receive_as, receive_request, request};
use crate::telemetry;

const BILLING: (&str, &[&[&str]]) = ("billing", &[&["Topic:orders", "sub,pub"], &["Group:billing", "sub"]]);

#[tokio::test]
async fn a_stream_and_a_waiting_receive_end() {
    let (guarded, secrets) = Guarded::start(&[BILLING]).await;
    let secret = secrets[0].as_str();
    let mut client = guarded.proxy.client().await;
    let opened = tokio_stream::wrappers::ReceiverStream::new({
        let (commands, requests) = tokio::sync::mpsc::channel(1);
        commands.send(telemetry::consumer("billing")).await.expect("sent");
        // The client's side stays open.
        std::mem::forget(commands);
        requests
    });
    let stream = client.telemetry(signed(request(opened), "billing", secret)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let settings = stream.message().await.expect("no failure").expect("settings");
    assert_eq!(code(settings.status), pb::Code::Ok);
    // It waits: there is no message.
    let mut waiting = client.clone();
    let wanted = signed(request(receive_request("orders", "billing")), "billing", secret);
    let waiting = tokio::spawn(async move { receive_as(&mut waiting, wanted).await.status });

    offline(&guarded.file, &["user", "disable", "billing"]);
    let ended = waiting.await.expect("an answer");
    assert_eq!((ended.code(), ended.message.as_str()), (pb::Code::Unauthorized, "User:billing is disabled."));
    let last = stream.message().await.expect("no failure").expect("a last command").status.expect("a status");
    assert_eq!((last.code(), last.message.as_str()), (pb::Code::Unauthorized, "User:billing is disabled."));
    assert!(stream.message().await.expect("no failure").is_none(), "the stream ends");
}

#[tokio::test]
async fn the_connection_of_a_registered_classic_client_is_closed() {
    let (guarded, secrets) = Guarded::start(&[BILLING]).await;
    let body = json!({
        "clientID": "c",
        "consumerDataSet": [{
            "groupName": "billing",
            "consumeType": "CONSUME_PASSIVELY",
            "subscriptionDataSet": [{"topic": "orders", "subString": "*"}],
        }],
    });
    let heartbeat = RemotingCommand::request(classic_code::HEART_BEAT).body(body.to_string());
    let mut client = Classic::connect(guarded.proxy.address).await;
    let answer = client.call(signed_command(heartbeat.clone(), "billing", &secrets[0])).await;
    assert_eq!(answer.code, classic_code::SUCCESS, "{:?}", answer.remark);

    offline(&guarded.file, &["user", "disable", "billing"]);
    client.closed().await;
    let mut again = Classic::connect(guarded.proxy.address).await;
    let refused = again.call(signed_command(heartbeat, "billing", &secrets[0])).await;
    assert_eq!(refused.remark.as_deref(), Some("User:billing is disabled."));
}

#[tokio::test]
async fn an_event_stream_ends_that_waits_for_acknowledgements() {
    let (guarded, secrets) = Guarded::start(&[BILLING]).await;
    let basic = format!("Basic {}", STANDARD.encode(format!("billing:{}", secrets[0])));
    let headers = [("authorization", basic.as_str()), ("content-type", "application/json")];
    let path = (Method::POST, "/v1/topics/orders/messages");
    let sent = call(guarded.proxy.address, path, &headers, r#"{"text": "a"}"#).await;
    assert_eq!(sent.status, StatusCode::OK);
    let stream = Request::get("/v1/groups/billing/topics/orders/receive?max=1&invisible=1h")
        .header("host", "proxy")
        .header("accept", "text/event-stream")
        .header("authorization", &basic)
        .body(Full::new(Bytes::new()));
    let mut events = open(guarded.proxy.address, stream.expect("a request")).await.into_body();
    let mut text = String::new();
    while let Some(frame) = events.frame().await {
        let data = frame.expect("a part").into_data().expect("data");
        text.push_str(std::str::from_utf8(&data).expect("UTF-8"));
        if text.contains("event: message") && !text.contains("event: problem") {
            offline(&guarded.file, &["user", "disable", "billing"]);
        }
    }
    assert!(text.contains("event: problem") && text.contains("User:billing is disabled."), "{text}");
}
