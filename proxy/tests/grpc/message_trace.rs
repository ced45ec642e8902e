//! Message trace: what has happened to a message.

use std::time::Duration;

use http::Method;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::config::{Config, GroupSpec};
use rocketmq_thin_proxy::remoting::{RemotingCommand, message as stored};
use serde_json::Value;

use crate::access::{offline, signed, signed_command};
use crate::admin::{run, text};
use crate::classic::{Classic, code as classic_code, send as classic_send};
use crate::http::call;
use crate::support::{
    Proxy, ack, code, duration, handle, message, receive, receive_request, request, resource, send, system,
};

const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
const QUERY_MESSAGE: i32 = 12;

async fn tracing(change: impl FnOnce(&mut Config)) -> Proxy {
    Proxy::configured(|config| {
        config.message_trace.topics = vec!["orders*".to_owned()];
        config.remoting.enabled = true;
        config.http.enabled = true;
        change(config);
    })
    .await
}

/// The steps of a message, as the command shows them.
async fn steps(proxy: &Proxy, id: &str) -> Vec<Value> {
    loop {
        let shown = run(proxy, &["message", "trace", id, "--json"], "").await;
        assert!(shown.status.success(), "{}", text(&shown.stderr));
        let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        // A slow disk may not have all of it yet.
        if shown["complete"] == true {
            return shown["events"].as_array().expect("events").clone();
        }
    }
}

fn names(steps: &[Value]) -> Vec<&str> {
    steps.iter().map(|step| step["step"].as_str().expect("a name")).collect()
}

/// A message of its own topic, with a key.
fn order(id: &str) -> pb::Message {
    let mut order = message("orders", id, "body");
    order.system_properties.as_mut().expect("properties").keys = vec!["customer-7".to_owned()];
    order
}

#[tokio::test]
async fn a_trace_tells_who_has_sent_got_and_settled_a_message() {
    let proxy = tracing(|_| {}).await;
    let mut client = proxy.client().await;
    assert_eq!(code(send(&mut client, vec![order("one"), order("two")]).await.status), pb::Code::Ok);
    send(&mut client, vec![message("other", "three", "x")]).await;
    let received = receive(&mut client, receive_request("orders", "billing")).await.messages;
    assert_eq!(received.len(), 2);
    // Handles tell which messages these are, not what the client says.
    let handles: Vec<_> = received.iter().map(handle).collect();
    let handles: Vec<_> = handles.iter().map(String::as_str).collect();
    ack(&mut client, ["orders", "billing"], &handles).await;

    for id in ["one", "two"] {
        let steps = steps(&proxy, id).await;
        let [sent, delivered, acked] = &steps[..] else { panic!("three steps: {steps:#?}") };
        assert_eq!(
            names(&[sent.clone(), delivered.clone(), acked.clone()]),
            ["sent", "delivered", "acknowledged"]
        );
        for step in &steps {
            assert_eq!((&step["client"], &step["result"]), (&"client".into(), &"ok".into()));
            assert!(step["address"].as_str().expect("an address").starts_with("127.0.0.1:"));
            assert!(humantime::parse_rfc3339(step["at"].as_str().expect("a time")).is_ok());
            assert_eq!(step["keys"], serde_json::json!(["customer-7"]));
        }
        assert_eq!((&delivered["group"], &delivered["attempt"]), (&"billing".into(), &1.into()));
        assert_eq!(delivered["delivery_id"], acked["delivery_id"]);
    }
    assert!(steps(&proxy, "three").await.is_empty(), "another topic");
    let shown = run(&proxy, &["message", "trace", "one"], "").await;
    assert!(text(&shown.stdout).contains("acknowledged"), "{}", text(&shown.stdout));
    let answer = call(proxy.address, (Method::GET, "/v1/messages/one/trace"), &[], "").await.json();
    assert_eq!(names(answer["events"].as_array().expect("events")), ["sent", "delivered", "acknowledged"]);
}

#[tokio::test]
async fn retries_dead_letters_and_failures_are_told() {
    let proxy = tracing(|_| {}).await;
    let mut client = proxy.client().await;
    send(&mut client, vec![order("one")]).await;
    let received = receive(&mut client, receive_request("orders", "billing")).await.messages;
    let changed = client
        .change_invisible_duration(request(pb::ChangeInvisibleDurationRequest {
            group: resource("billing"),
            topic: resource("orders"),
            receipt_handle: handle(&received[0]),
            invisible_duration: duration(Duration::from_millis(1)),
            message_id: "one".to_owned(),
            ..Default::default()
        }))
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(code(changed.status), pb::Code::Ok);
    let again = receive(&mut client, receive_request("orders", "billing")).await.messages;
    assert_eq!(system(&again[0]).delivery_attempt, Some(2));
    let forward = pb::ForwardMessageToDeadLetterQueueRequest {
        group: resource("billing"),
        topic: resource("orders"),
        receipt_handle: handle(&again[0]),
        message_id: "one".to_owned(),
        ..Default::default()
    };
    client.forward_message_to_dead_letter_queue(request(forward)).await.expect("an answer");
    let traced = steps(&proxy, "one").await;
    assert_eq!(names(&traced), ["sent", "delivered", "retried", "delivered", "dead_lettered"], "{traced:#?}");

    // Refused by the rules: the message has no body that fits its topic.
    let mut fifo = message("orders", "two", "x");
    fifo.system_properties.as_mut().expect("properties").message_group = Some("g".to_owned());
    let refused = send(&mut client, vec![fifo]).await;
    assert_eq!(code(refused.status), pb::Code::MessagePropertyConflictWithType);
    assert_eq!(steps(&proxy, "two").await[0]["result"], "type_mismatch");
}

#[tokio::test]
async fn a_message_that_nobody_settles_is_traced_to_its_end() {
    let proxy = tracing(|config| {
        let group = GroupSpec { max_retries: 0, ..GroupSpec::named("billing") };
        config.groups = vec![group];
    })
    .await;
    let mut client = proxy.client().await;
    send(&mut client, vec![order("one")]).await;
    let wanted = pb::ReceiveMessageRequest {
        invisible_duration: duration(Duration::from_millis(1)),
        ..receive_request("orders", "billing")
    };
    assert_eq!(receive(&mut client, wanted).await.messages.len(), 1);
    // The group does not receive any more: the broker moves the message on its own.
    let dead_lettered = loop {
        let steps = steps(&proxy, "one").await;
        if let [_, _, last] = &steps[..] {
            break last.clone();
        }
    };
    assert_eq!(
        (&dead_lettered["step"], &dead_lettered["group"]),
        (&"dead_lettered".into(), &"billing".into())
    );
}

#[tokio::test]
async fn consoles_find_records_by_key_and_classic_clients_write_their_own() {
    let proxy = tracing(|_| {}).await;
    let mut client = proxy.client().await;
    send(&mut client, vec![order("one")]).await;
    assert_eq!(steps(&proxy, "one").await.len(), 1);
    let mut console = Classic::connect(proxy.address).await;
    for key in ["one", "customer-7"] {
        let query = RemotingCommand::request(QUERY_MESSAGE).field("topic", TRACE_TOPIC).field("key", key);
        let query =
            query.field("maxNum", 10).field("beginTimestamp", 0).field("endTimestamp", i64::MAX / 1000);
        let found = console.call(query).await;
        assert_eq!(found.code, classic_code::SUCCESS, "{:?}", found.remark);
        let record = stored::decode_all(found.body).remove(0);
        let body = String::from_utf8(record.body.to_vec()).expect("text");
        let fields: Vec<_> = body.trim_end_matches('\u{2}').split('\u{1}').collect();
        assert_eq!((fields[0], fields[4], fields[5], fields[7]), ("Pub", "orders", "one", "customer-7"));
        assert!(fields[14].starts_with("127.0.0.1:"));
    }
    // As Apache's client of version 5 traces itself, between records that nobody can read.
    let own = "garbage\u{1}\u{2}\u{1}\u{2}SubAfter\u{1}x\u{2}\
               Pub\u{1}1700000000000\u{1}r\u{1}pg\u{1}t\u{1}own\u{1}tag\u{1}k\u{1}h:1\u{1}9\u{1}12\u{1}0\u{1}off\u{1}true\u{2}";
    for body in [own, "\u{FFFD}\u{2}"] {
        let sent =
            console.call(classic_send(TRACE_TOPIC, 0, &[("UNIQ_KEY", "t-1"), ("KEYS", "own k")], body)).await;
        assert_eq!(sent.code, classic_code::SUCCESS, "{:?}", sent.remark);
    }
    let steps = steps(&proxy, "own").await;
    let [sent] = &steps[..] else { panic!("one step: {steps:#?}") };
    assert_eq!((&sent["group"], &sent["cost_ms"], &sent["topic"]), (&"pg".into(), &12.into(), &"t".into()));
    // Anybody who may write there can make up more steps than an answer has.
    let made_up = "SubAfter\u{1}r\u{1}flooded\u{1}1\u{1}true\u{1}k\u{1}0\u{2}".repeat(1001);
    let sent = classic_send(TRACE_TOPIC, 0, &[("UNIQ_KEY", "t-2"), ("KEYS", "flooded")], &made_up);
    assert_eq!(console.call(sent).await.code, classic_code::SUCCESS);
    let shown = run(&proxy, &["message", "trace", "flooded", "--json"], "").await;
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!((shown["events"].as_array().map(Vec::len), &shown["complete"]), (Some(1000), &false.into()));
    // Others may not name the topic at all, and it is not traced itself.
    let refused = send(&mut client, vec![message(TRACE_TOPIC, "x", "x")]).await;
    assert_eq!(code(refused.status), pb::Code::IllegalTopic);
    let listed = run(&proxy, &["topic", "list"], "").await;
    assert!(!text(&listed.stdout).contains(TRACE_TOPIC));
}

#[tokio::test]
async fn names_forge_no_records_and_the_end_loses_none() {
    let proxy = tracing(|config| config.message_trace.topics = vec!["*".to_owned()]).await;
    let mut classic = Classic::connect(proxy.address).await;
    let forged = "SubAfter\u{1}r\u{1}victim\u{1}1\u{1}true\u{1}k\u{1}0\u{1}1\u{1}g";
    let mut client = proxy.client().await;
    let hostile = format!("x\u{2}{forged}\u{2}");
    send(&mut client, vec![message("orders", &hostile, "x")]).await;
    let sent = classic.call(classic_send("orders", 0, &[("UNIQ_KEY", "c-1"), ("KEYS", "victim")], "x")).await;
    assert_eq!(sent.code, classic_code::SUCCESS, "{:?}", sent.remark);
    assert!(steps(&proxy, "victim").await.is_empty());
    assert_eq!(names(&steps(&proxy, &hostile).await), ["sent"]);
    assert_eq!(names(&steps(&proxy, "c-1").await), ["sent"]);
    assert!(steps(&proxy, "c-2").await.is_empty());

    // What was not written yet is written at the end.
    send(&mut client, vec![message("orders", "last", "x")]).await;
    let data = proxy.stop().await;
    let again = Proxy::in_directory(data, |_| {}).await;
    assert_eq!(names(&steps(&again, "last").await), ["sent"]);
}

#[tokio::test]
async fn a_share_of_messages_is_traced_from_first_to_last() {
    let proxy = tracing(|config| config.message_trace.sample = 0.5).await;
    let mut client = proxy.client().await;
    let ids: Vec<_> = (0..32).map(|number| format!("m-{number}")).collect();
    send(&mut client, ids.iter().map(|id| message("orders", id, "x")).collect()).await;
    let mut received = 0;
    while received < ids.len() {
        received += receive(&mut client, receive_request("orders", "billing")).await.messages.len();
    }
    let mut traced = 0;
    for id in &ids {
        match &names(&steps(&proxy, id).await)[..] {
            [] => {}
            ["sent", "delivered"] => traced += 1,
            others => panic!("{id}: {others:?}"),
        }
    }
    assert!(0 < traced && traced < ids.len(), "{traced}");
}

#[tokio::test]
async fn what_a_user_does_is_traced_and_rights_decide_who_reads_and_writes_traces() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.toml");
    let users: [(&str, &[[&str; 2]]); 3] = [
        ("shop", &[["Topic:orders", "pub"]]),
        ("guest", &[["Topic:*", "pub"]]),
        ("ops", &[["Cluster:*", "get"]]),
    ];
    let [shop, guest, ops] = users.map(|(user, policies)| {
        let added = offline(&file, &["user", "add", user]);
        for [resource, actions] in policies {
            offline(&file, &["acl", "add", user, resource, actions]);
        }
        added["secret"].as_str().expect("a secret").to_owned()
    });
    let proxy = tracing(|config| {
        config.message_trace.topics.clear();
        config.message_trace.users = vec!["gue*".to_owned()];
        config.access.file = Some(file.clone());
    })
    .await;
    let mut client = proxy.client().await;
    for (user, secret) in [("shop", &shop), ("guest", &guest)] {
        let order = request(pb::SendMessageRequest { messages: vec![message("orders", user, "x")] });
        let sent = client.send_message(signed(order, user, secret)).await.expect("an answer").into_inner();
        assert_eq!(code(sent.status), pb::Code::Ok);
    }
    let trace = async |user: &str, secret: &str, id: &str| {
        run(&proxy, &["message", "trace", id, "--access-key", user, "--secret-key", secret], "").await
    };
    let shown = trace("ops", &ops, "guest").await;
    assert!(text(&shown.stdout).contains("sent"), "{}", text(&shown.stderr));
    assert!(!text(&trace("ops", &ops, "shop").await.stdout).contains("sent"));
    let refused = trace("guest", &guest, "guest").await;
    assert!(text(&refused.stderr).contains("User:guest has no permission"), "{}", text(&refused.stderr));

    // Classic clients with a trace of their own need the right to publish to its topic.
    let mut classic = Classic::connect(proxy.address).await;
    for (user, secret, expected) in
        [("shop", &shop, classic_code::NO_PERMISSION), ("guest", &guest, classic_code::SUCCESS)]
    {
        let own = classic_send(TRACE_TOPIC, 0, &[("UNIQ_KEY", "t")], "x");
        assert_eq!(classic.call(signed_command(own, user, secret)).await.code, expected, "{user}");
    }
}
