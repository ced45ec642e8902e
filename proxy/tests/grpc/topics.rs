//! What an administrator sees of all topics and groups, and of lite topics; settings that change.

use std::sync::Arc;

use futures::future::join_all;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::front::grpc::RemoteAdmin;
use rocketmq_thin_proxy::service::{GroupConfig, GroupField, GroupUpdate};

use crate::admin::{run, text};
use crate::inspect::{ids, json, send_keyed};
use crate::support::{self, Client, Proxy, receive, receive_request, send};

async fn send_lite(client: &mut Client, lite_topic: &str, id: &str) {
    let mut message = support::message("chats", id, "body");
    let properties = message.system_properties.as_mut().expect("properties");
    properties.message_type = pb::MessageType::Lite.into();
    properties.lite_topic = Some(lite_topic.to_owned());
    let answer = send(client, vec![message]).await;
    assert_eq!(support::code(answer.status), pb::Code::Ok);
}

#[tokio::test]
async fn all_topics_and_groups_are_shown_in_a_line_each() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    assert_eq!(text(&run(&proxy, &["topic", "stats"], "").await.stdout), "no topics\n");
    send_keyed(&mut client, "a", 3).await;
    send_keyed(&mut client, "b", 2).await;
    receive(&mut client, receive_request("a", "g")).await;
    let topics = json(&proxy, &["topic", "stats"]).await;
    let line = |index: usize, name: &str| topics["topics"][index][name].clone();
    assert_eq!([line(0, "topic"), line(1, "topic")], ["a", "b"]);
    assert_eq!([line(0, "messages"), line(1, "messages")], [3, 2]);
    assert!(line(0, "bytes")["count"].as_u64() > Some(0));
    let limited = run(&proxy, &["topic", "stats", "--limit", "1"], "").await;
    let limited = text(&limited.stdout);
    assert!(limited.contains("a      8") && limited.contains("see --limit"), "{limited}");
    let groups = json(&proxy, &["group", "stats"]).await;
    let group = &groups["groups"][0];
    assert_eq!((&group["group"], &group["topics"], &group["lag"]), (&"g".into(), &1.into(), &3.into()));
    let shown = run(&proxy, &["group", "stats"], "").await;
    assert!(text(&shown.stdout).starts_with("GROUP  TOPICS  LAG"), "{}", text(&shown.stdout));
}

#[tokio::test]
async fn lite_topics_are_listed_and_their_messages_are_read() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    assert!(run(&proxy, &["topic", "create", "chats", "--type", "lite"], "").await.status.success());
    for (name, id) in [("one", "m1"), ("two", "m2"), ("one", "m3"), ("zero", "m4")] {
        send_lite(&mut client, name, id).await;
    }
    let stats = json(&proxy, &["topic", "stats", "chats", "--lite-count", "2"]).await;
    let shown = &stats["lite_topics"]["shown"];
    assert_eq!(
        (&stats["lite_topics"]["count"], &stats["lite_topics"]["truncated"]),
        (&3.into(), &true.into())
    );
    assert_eq!([&shown[0]["lite_topic"], &shown[1]["lite_topic"]], ["one", "two"]);
    assert_eq!([&shown[0]["messages"], &shown[1]["messages"]], [2, 1]);
    let rest = run(&proxy, &["topic", "stats", "chats", "--lite-after", "two"], "").await;
    let rest = text(&rest.stdout);
    assert!(
        rest.starts_with("chats: 3 lite topics") && rest.contains("zero") && !rest.contains("two"),
        "{rest}"
    );
    let one = json(&proxy, &["topic", "stats", "chats", "--lite-topic", "one"]).await;
    assert_eq!((&one["messages"], &one["lite_topic"]), (&2.into(), &"one".into()));
    let one = ["--lite-topic", "one"];
    let peeked = json(&proxy, &[&["message", "peek", "chats"], &one[..]].concat()).await;
    assert_eq!(ids(&peeked), ["m1", "m3"]);
    let found = json(&proxy, &[&["message", "find", "chats", "--id", "m3"], &one[..]].concat()).await;
    assert_eq!(ids(&found), ["m3"]);
    let nameless = run(&proxy, &["message", "peek", "chats"], "").await;
    assert!(text(&nameless.stderr).contains("name one of them"), "{}", text(&nameless.stderr));
    let absent = run(&proxy, &["message", "peek", "chats", "--lite-topic", "absent"], "").await;
    assert!(text(&absent.stderr).contains("no lite topic absent"), "{}", text(&absent.stderr));
}

#[tokio::test]
async fn a_group_is_told_how_far_it_is_behind_in_its_lite_topics() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    for create in [
        &["topic", "create", "chats", "--type", "lite"][..],
        &["group", "create", "phones", "--lite-bind-topic", "chats"],
    ] {
        assert!(run(&proxy, create, "").await.status.success());
    }
    for (name, id) in [("one", "m1"), ("one", "m2"), ("two", "m3"), ("unsubscribed", "m4")] {
        send_lite(&mut client, name, id).await;
    }
    let subscribe = pb::SyncLiteSubscriptionRequest {
        action: pb::LiteSubscriptionAction::CompleteAdd.into(),
        topic: support::resource("chats"),
        group: support::resource("phones"),
        lite_topic_set: vec!["one".to_owned(), "two".to_owned()],
        ..Default::default()
    };
    let answer = client.sync_lite_subscription(support::request(subscribe)).await.expect("an answer");
    assert_eq!(support::code(answer.into_inner().status), pb::Code::Ok);
    let one = pb::ReceiveMessageRequest { batch_size: 1, ..receive_request("chats", "phones") };
    receive(&mut client, one).await;

    let stats = json(&proxy, &["group", "stats", "phones"]).await;
    let [topic] = &stats["topics"].as_array().expect("a list")[..] else { panic!("{stats}") };
    assert_eq!([&topic["topic"], &stats["truncated"]], [&"chats".into(), &serde_json::Value::from(false)]);
    assert_eq!([&topic["lag"], &topic["in_flight"]], [3, 1]);
    assert!(topic["oldest_unsettled"].is_string(), "{stats}");
    let all = json(&proxy, &["group", "stats"]).await;
    assert_eq!([&all["groups"][0]["lag"], &all["groups"][0]["in_flight"]], [3, 1]);
}

#[tokio::test]
async fn updates_at_the_same_time_do_not_overwrite_each_other() {
    let proxy = Proxy::start().await;
    assert!(run(&proxy, &["group", "create", "g"], "").await.status.success());
    let fields = [GroupField::Fifo, GroupField::MaxRetries, GroupField::LiteQuota, GroupField::LiteExclusive];
    let values = GroupConfig {
        fifo: true,
        max_retries: 7,
        lite_quota: 9,
        lite_exclusive: true,
        ..GroupConfig::named("g")
    };
    let values = Arc::new(values);
    for _ in 0..10 {
        assert!(run(&proxy, &["apply", "-"], "[[groups]]\nname = 'g'").await.status.success());
        join_all(fields.map(|field| {
            let (values, server) = (values.clone(), proxy.address.to_string());
            async move {
                let mut admin = RemoteAdmin::connect(&server, None, None).await.expect("a connection");
                let update = GroupUpdate { values: values.as_ref().clone(), fields: vec![field] };
                admin.update_group(update).await.expect("updated");
            }
        }))
        .await;
        let shown = json(&proxy, &["group", "show", "g"]).await;
        let group = &shown["groups"][0];
        let settings =
            [&group["fifo"], &group["max_retries"], &group["lite_quota"], &group["lite_exclusive"]];
        assert_eq!(settings, [&true.into(), &7.into(), &9.into(), &serde_json::Value::from(true)]);
    }
}

#[tokio::test]
async fn a_topic_says_how_long_and_how_many_messages_it_keeps() {
    let proxy = Proxy::start().await;
    let create = ["topic", "create", "audit", "--retention", "30d", "--retention-bytes", "10GiB"];
    assert!(run(&proxy, &create, "").await.status.success());
    let shown = run(&proxy, &["topic", "show", "audit"], "").await;
    let shown = text(&shown.stdout).to_owned();
    assert!(shown.contains("retention = \"1month") || shown.contains("retention = \"30d"), "{shown}");
    assert!(shown.contains("retention_bytes = 10737418240"), "{shown}");
    assert!(run(&proxy, &["topic", "update", "audit", "--retention", "default"], "").await.status.success());
    let changed = json(&proxy, &["topic", "show", "audit"]).await;
    let topic = &changed["topics"][0];
    assert_eq!(
        (&topic["retention"], &topic["retention_bytes"]),
        (&serde_json::Value::Null, &(10u64 << 30).into())
    );
    let nothing = run(&proxy, &["topic", "update", "audit", "--retention", "0s"], "").await;
    assert!(text(&nothing.stderr).contains("must be longer than zero"), "{}", text(&nothing.stderr));
    // What `show` printed is what `apply` reads.
    assert!(run(&proxy, &["apply", "-"], &shown).await.status.success());
    assert_eq!(text(&run(&proxy, &["topic", "show", "audit"], "").await.stdout), shown);
}
