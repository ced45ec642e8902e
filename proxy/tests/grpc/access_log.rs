//! The access log.

use std::time::Duration;

use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::config::Config;
use serde_json::Value;

use crate::access::{offline, signed};
use crate::classic::{Classic, send as classic_send};
use crate::support::{Proxy, code, message, receive, receive_request, request, send};

/// A proxy whose access log is in its data directory.
async fn logging(change: impl FnOnce(&mut Config)) -> Proxy {
    Proxy::configured(|config| {
        config.access_log.file = Some(config.backend.embedded.data_dir.join("access.log"));
        change(config);
    })
    .await
}

/// Stops the proxy, and reads its access log.
async fn lines(proxy: Proxy) -> Vec<Value> {
    let data = proxy.stop().await;
    let text = std::fs::read_to_string(data.path().join("access.log")).expect("an access log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn a_line_says_who_has_asked_for_what_and_what_came_of_it() {
    let proxy = logging(|_| {}).await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("orders", "1", "four"), message("orders", "2", "five!")]).await;
    let received = receive(&mut client, receive_request("orders", "billing")).await.messages.len();
    let mut classic = Classic::connect(proxy.address).await;
    classic.call(classic_send("orders", 0, &[], "classic")).await;
    // What strangers send can't end a line, or fill the disk.
    let hostile = format!("no \"topic\"\n{}", "é".repeat(1000));
    let refused = send(&mut client, vec![message(&hostile, "3", "x")]).await;
    assert_eq!(code(refused.status), pb::Code::IllegalTopic);

    let lines = lines(proxy).await;
    let [sent, receive, classic, refused] = &lines[..] else { panic!("four lines: {lines:#?}") };
    for (field, expected) in [
        ("operation", "send".into()),
        ("protocol", "grpc".into()),
        ("client", "client".into()),
        ("topics", serde_json::json!(["orders"])),
        ("code", "ok".into()),
        ("messages", 2.into()),
        ("bytes", 9.into()),
    ] {
        assert_eq!(sent[field], expected, "{field}");
    }
    assert!(sent["peer"].as_str().expect("an address").starts_with("127.0.0.1:"));
    assert!(humantime::parse_rfc3339(sent["time"].as_str().expect("a time")).is_ok());
    assert!(sent["duration_ms"].as_f64().expect("a number") > 0.0);
    assert_eq!((&receive["groups"][0], &receive["answer_messages"]), (&"billing".into(), &received.into()));
    assert_eq!((&classic["protocol"], &classic["bytes"]), (&"remoting".into(), &7.into()));
    assert_eq!(refused["code"], "illegal_topic");
    let topic = refused["topics"][0].as_str().expect("a name");
    assert!(topic.starts_with("no \"topic\"\né") && topic.len() <= 255, "{topic}");
    assert!(refused["error"].as_str().is_some_and(|error| error.len() <= 255));
}

#[tokio::test]
async fn slow_requests_are_logged_though_others_are_not() {
    let proxy = logging(|config| {
        config.access_log.sample = 0.0;
        config.access_log.slow = Some(Duration::ZERO);
    })
    .await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("orders", "1", "x")]).await;
    receive(&mut client, receive_request("orders", "billing")).await;
    let lines = lines(proxy).await;
    let [sent] = &lines[..] else { panic!("receives wait by nature: {lines:#?}") };
    assert_eq!((&sent["operation"], &sent["slow"]), (&"send".into(), &true.into()));
}

#[tokio::test]
async fn a_user_who_has_signed_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.toml");
    let added = offline(&file, &["user", "add", "shop"]);
    offline(&file, &["acl", "add", "shop", "Topic:*", "all"]);
    let proxy = logging(|config| config.access.file = Some(file)).await;
    let mut client = proxy.client().await;
    let messages = pb::SendMessageRequest { messages: vec![message("orders", "1", "x")] };
    let secret = added["secret"].as_str().expect("a secret");
    let sent = client.send_message(signed(request(messages), "shop", secret)).await.expect("an answer");
    assert_eq!(code(sent.into_inner().status), pb::Code::Ok);
    let lines = lines(proxy).await;
    assert_eq!(lines[0]["user"], "shop", "{lines:#?}");
    assert!(!format!("{lines:?}").contains("Signature"), "{lines:#?}");
}
