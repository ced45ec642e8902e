//! Statistics, stored messages and clients, as the subcommands show them.

use serde_json::Value;

use crate::admin::{run, text};
use crate::support::{self, Client, Proxy, ack, handle, receive, receive_request, send};
use crate::telemetry;

pub(crate) async fn json(proxy: &Proxy, arguments: &[&str]) -> Value {
    let output = run(proxy, &[arguments, &["--json"]].concat(), "").await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

async fn refusal(proxy: &Proxy, arguments: &[&str]) -> String {
    let output = run(proxy, arguments, "").await;
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
    text(&output.stderr).to_owned()
}

/// Sends messages m0, m1, … with the keys k0, k1, k2, k0, …
pub(crate) async fn send_keyed(client: &mut Client, topic: &str, count: usize) {
    for index in 0..count {
        let mut message = support::message(topic, &format!("m{index}"), &format!("body {index}"));
        message.system_properties.as_mut().expect("properties").keys = vec![format!("k{}", index % 3)];
        send(client, vec![message]).await;
    }
}

pub(crate) fn ids(found: &Value) -> Vec<&str> {
    let messages = found["messages"].as_array().expect("messages");
    messages.iter().map(|message| message["id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn statistics_tell_what_is_stored_and_what_is_not_settled() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", 10).await;
    let mut received = Vec::new();
    while received.len() < 10 {
        received.extend(receive(&mut client, receive_request("t", "g")).await.messages);
    }
    let handles: Vec<_> = received.iter().take(4).map(handle).collect();
    ack(&mut client, ["t", "g"], &handles.iter().map(String::as_str).collect::<Vec<_>>()).await;
    send_keyed(&mut client, "t", 1).await;

    let topic = json(&proxy, &["topic", "stats", "t"]).await;
    assert_eq!(topic["messages"], 11);
    assert!(topic["bytes"]["count"].as_u64().expect("bytes") > 100);
    assert!(topic["rate_in"].as_f64().expect("a rate") > 0.0);
    let next: i64 = topic["queues"]
        .as_array()
        .expect("queues")
        .iter()
        .map(|q| q["next_offset"].as_i64().expect("an offset"))
        .sum();
    assert_eq!(next, 11);

    let group = json(&proxy, &["group", "stats", "g"]).await;
    let topic = &group["topics"][0];
    assert_eq!([&topic["lag"], &topic["in_flight"], &topic["retry"], &topic["blocked"]], [7, 6, 0, 0]);
    assert!(topic["oldest_unsettled"].is_string());
    let queues = run(&proxy, &["group", "stats", "g", "--queues"], "").await;
    assert!(text(&queues.stdout).contains("SETTLED TO"), "{}", text(&queues.stdout));
    assert!(refusal(&proxy, &["group", "stats", "absent"]).await.contains("group list"));
    assert!(refusal(&proxy, &["topic", "stats", "absent"]).await.contains("topic list"));
}

#[tokio::test]
async fn messages_are_found_by_id_key_and_time_and_shown() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", 30).await;
    assert_eq!(ids(&json(&proxy, &["message", "peek", "t", "--count", "2"]).await), ["m0", "m1"]);
    assert_eq!(
        ids(&json(&proxy, &["message", "peek", "t", "--newest", "--count", "2"]).await),
        ["m28", "m29"]
    );
    let found = json(&proxy, &["message", "find", "t", "--key", "k1", "--count", "100"]).await;
    assert_eq!(ids(&found), ["m1", "m4", "m7", "m10", "m13", "m16", "m19", "m22", "m25", "m28"]);
    assert_eq!(found["complete"], true);
    assert_eq!(ids(&json(&proxy, &["message", "find", "t", "--id", "m17"]).await), ["m17"]);
    let all = json(&proxy, &["message", "find", "t", "--from", "1h", "--count", "100"]).await;
    assert_eq!(ids(&all).len(), 30);
    assert!(ids(&json(&proxy, &["message", "find", "t", "--to", "1h"]).await).is_empty());
    let shown = json(&proxy, &["message", "show", "t", "--id", "m17"]).await;
    assert_eq!((&shown["body"], &shown["keys"][0]), (&"body 17".into(), &"k2".into()));
    let position = [&shown["queue"], &shown["offset"]].map(ToString::to_string);
    let same = ["message", "show", "t", "--queue", &position[0], "--offset", &position[1]];
    assert_eq!(json(&proxy, &same).await, shown);
    let missing = refusal(&proxy, &["message", "show", "t", "--queue", "0", "--offset", "99"]).await;
    assert!(missing.contains("offsets 0 to"), "{missing}");
    // None of this has consumed a message.
    assert_eq!(receive(&mut client, receive_request("t", "g")).await.messages.len(), 30);
}

#[tokio::test]
async fn a_search_stops_at_its_limits_and_says_so() {
    let proxy = Proxy::configured(|config| config.backend.embedded.default_queues = 1).await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", 300).await;
    let found = json(&proxy, &["message", "find", "t", "--key", "k0", "--count", "3"]).await;
    assert_eq!(ids(&found), ["m0", "m3", "m6"]);
    assert_eq!(found["complete"], false);
    let limited = run(&proxy, &["message", "find", "t", "--id", "absent", "--limit", "1"], "").await;
    assert!(text(&limited.stdout).contains("no messages"), "{}", text(&limited.stdout));
    // More messages than fit in one answer.
    let all = json(&proxy, &["message", "peek", "t", "--count", "300"]).await;
    assert_eq!(ids(&all).len(), 300);
}

#[tokio::test]
async fn a_binary_body_is_shown_as_base64_and_a_terminal_is_not_controlled() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let mut binary = support::message("t", "binary", "");
    binary.body = vec![0xFF, 0, 1].into();
    send(&mut client, vec![binary, support::message("t", "escape", "a\u{1b}[2Jb")]).await;
    let shown = json(&proxy, &["message", "show", "t", "--id", "binary"]).await;
    assert_eq!((&shown["body_base64"], &shown["body"]), (&"/wAB".into(), &Value::Null));
    for command in [vec!["message", "peek", "t"], vec!["message", "show", "t", "--id", "escape"]] {
        let output = run(&proxy, &command, "").await;
        assert!(!output.stdout.contains(&0x1B), "{}", text(&output.stdout));
    }
}

#[tokio::test]
async fn clients_are_listed_by_group() {
    let proxy = Proxy::configured(|config| {
        config.groups = vec![toml::from_str("name = 'g'").expect("a group")];
    })
    .await;
    let mut client = proxy.client().await;
    let (commands, mut answers) = telemetry::open(&mut client, "consumer-1").await;
    commands.send(telemetry::consumer("g")).await.expect("sent");
    answers.message().await.expect("an answer").expect("settings");
    let listed = json(&proxy, &["client", "list", "--group", "g"]).await;
    let listed = &listed["clients"][0];
    assert_eq!(
        [&listed["id"], &listed["language"], &listed["role"]],
        ["consumer-1", "RUST", "simple consumer"]
    );
    assert_eq!(listed["connected"], true);
    let others = json(&proxy, &["client", "list", "--group", "other"]).await;
    assert_eq!(others["clients"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn the_store_tells_what_it_takes() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", 5).await;
    let stats = json(&proxy, &["store", "stats"]).await;
    assert_eq!(stats["healthy"], true);
    assert!(stats["free_bytes"].as_u64() <= stats["total_bytes"].as_u64());
    assert_eq!((&stats["topics"][0]["topic"], &stats["topics"][0]["messages"]), (&"t".into(), &5.into()));
    let usage = stats["usage"].as_array().expect("kinds");
    assert!(usage.iter().map(|kind| kind["bytes"].as_u64().expect("bytes")).sum::<u64>() > 0);
}
