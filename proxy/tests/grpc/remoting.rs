//! The remoting protocol: routes, sends, groups, transactions and replies, hostile frames, shutdown.

use std::net::SocketAddr;
use std::time::Duration;

use rocketmq_thin_proxy::config::{TopicSpec, TopicType};
use rocketmq_thin_proxy::remoting::{HeaderType, RemotingCommand, message, properties};
use serde_json::Value;

use crate::classic::{Classic, code, send};
use crate::support::{Proxy, receive, receive_request};

async fn proxy() -> Proxy {
    Proxy::configured(|config| {
        config.remoting.enabled = true;
        // The clients of the group divide its queues among each other.
        config.remoting.pull_by_offset = vec!["g".to_owned()];
        let topic = |name: &str, kind| TopicSpec { name: name.to_owned(), kind, ..TopicSpec::default() };
        config.topics = vec![
            topic("tx", TopicType::Transaction),
            topic("late", TopicType::Delay),
            topic("normal", TopicType::Normal),
        ];
        config.backend.embedded.transaction_timeout = Duration::from_millis(1);
    })
    .await
}

fn route(topic: &str) -> RemotingCommand {
    RemotingCommand::request(code::ROUTE).field("topic", topic)
}

#[tokio::test]
async fn routes_name_the_address_that_the_client_uses_in_both_kinds_of_headers() {
    let proxy = proxy().await;
    let mut client = Classic::connect(proxy.address).await;
    for header in [HeaderType::Json, HeaderType::Binary] {
        let answer = client.call(route("t").header(header)).await;
        assert_eq!((answer.code, answer.header_type), (code::SUCCESS, header));
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(body["brokerDatas"][0]["brokerAddrs"]["0"], proxy.address.to_string());
        assert_eq!(body["queueDatas"][0]["brokerName"], body["brokerDatas"][0]["brokerName"]);
        assert_eq!(body["queueDatas"][0]["perm"], 6);
    }
    assert_eq!(client.call(route("TBW102")).await.code, code::TOPIC_NOT_EXIST);
}

#[tokio::test]
async fn a_message_is_stored_in_the_queue_that_its_producer_chose() {
    let proxy = proxy().await;
    let mut producer = Classic::connect(proxy.address).await;
    for offset in 0..2 {
        let sent =
            producer.call(send("t", 3, &[("UNIQ_KEY", "id"), ("TAGS", "a"), ("WAIT", "true")], "body")).await;
        assert_eq!(sent.code, code::SUCCESS, "{:?}", sent.remark);
        assert_eq!((sent.text("queueId"), sent.number("queueOffset")), (Some("3"), Some(offset)));
        assert_eq!(sent.text("MSG_REGION"), Some("DefaultRegion"));
    }
    assert_eq!(producer.call(send("t", 99, &[], "body")).await.code, code::INVALID_PARAMETER);
    assert_eq!(producer.call(send("t", 0, &[], "")).await.code, code::MESSAGE_ILLEGAL);

    let mut consumer = proxy.client().await;
    let received = receive(&mut consumer, receive_request("t", "g")).await;
    let system = received.messages[0].system_properties.clone().expect("properties");
    assert_eq!((system.message_id.as_str(), system.tag.as_deref(), system.queue_id), ("id", Some("a"), 3));
    assert!(received.messages[0].user_properties.is_empty());
}

#[tokio::test]
async fn a_topic_takes_its_own_type_only_if_it_has_one() {
    let proxy = proxy().await;
    let mut producer = Classic::connect(proxy.address).await;
    let delayed = [("DELAY", "18")];
    let refused = producer.call(send("normal", 0, &delayed, "body")).await;
    assert_eq!(refused.code, code::MESSAGE_ILLEGAL);
    for topic in ["late", "created-by-this"] {
        let sent = producer.call(send(topic, 0, &delayed, "body")).await;
        assert_eq!(sent.code, code::SUCCESS);
        assert!(sent.text("recallHandle").is_some());
    }
}

#[tokio::test]
async fn members_of_a_group_are_notified_of_changes() {
    let proxy = proxy().await;
    let (mut one, mut other) = (Classic::connect(proxy.address).await, Classic::connect(proxy.address).await);
    assert!(one.members("g").await.is_err());
    one.heartbeat("one", &[], &["g"]).await;
    assert_eq!(one.pushed().await.text("consumerGroup"), Some("g"));
    other.heartbeat("other", &[], &["g"]).await;
    let notified = one.pushed().await;
    assert_eq!((notified.code, notified.text("consumerGroup")), (code::CONSUMERS_CHANGED, Some("g")));
    assert_eq!(one.members("g").await.expect("members"), ["one", "other"]);

    let unregister = RemotingCommand::request(code::UNREGISTER_CLIENT);
    let unregister = unregister.field("clientID", "other").field("consumerGroup", "g");
    assert_eq!(other.call(unregister).await.code, code::SUCCESS);
    assert_eq!(one.pushed().await.code, code::CONSUMERS_CHANGED);
    assert_eq!(one.members("g").await.expect("members"), ["one"]);
    other.heartbeat("other", &[], &["g"]).await;
    assert_eq!(one.pushed().await.code, code::CONSUMERS_CHANGED);
    drop(other);
    assert_eq!(one.pushed().await.code, code::CONSUMERS_CHANGED);
    assert_eq!(one.members("g").await.expect("members"), ["one"]);
}

#[tokio::test]
async fn an_undecided_transaction_is_checked_and_committed_without_its_topic() {
    let proxy = proxy().await;
    let mut producer = Classic::connect(proxy.address).await;
    producer.heartbeat("p", &["txg"], &[]).await;
    let half = [("UNIQ_KEY", "half"), ("TRAN_MSG", "true"), ("PGROUP", "txg")];
    let sent = producer.call(send("tx", 0, &half, "body")).await;
    assert_eq!(sent.code, code::SUCCESS, "{:?}", sent.remark);

    let check = producer.pushed().await;
    assert_eq!((check.code, check.text("msgId")), (code::CHECK_TRANSACTION_STATE, Some("half")));
    let record = message::decode_all(check.body.clone()).remove(0);
    assert_eq!((record.topic.as_str(), record.body.as_ref()), ("tx", &b"body"[..]));
    let transaction_id = check.text("transactionId").expect("an id");
    for property in [("PGROUP", "txg"), ("__transactionId__", transaction_id)] {
        assert!(properties::decode(&record.properties).any(|found| found == property), "{property:?}");
    }
    // The answer of clients before 5.0.
    let end = RemotingCommand::request(code::END_TRANSACTION)
        .field("producerGroup", "txg")
        .field("commitOrRollback", 8)
        .field("fromTransactionCheck", true)
        .field("msgId", "half")
        .field("transactionId", transaction_id);
    assert_eq!(producer.call(end).await.code, code::SUCCESS);
    let mut consumer = proxy.client().await;
    let received = receive(&mut consumer, receive_request("tx", "g")).await;
    assert_eq!(received.messages[0].body.as_ref(), b"body");
}

#[tokio::test]
async fn a_reply_goes_to_the_client_that_waits_for_it() {
    let proxy = proxy().await;
    let mut requester = Classic::connect(proxy.address).await;
    let mut replier = Classic::connect(proxy.address).await;
    requester.heartbeat("asks", &["pg"], &[]).await;
    let pairs = [("REPLY_TO_CLIENT", "asks"), ("CORRELATION_ID", "7")];
    let reply =
        RemotingCommand { code: code::SEND_REPLY_MESSAGE_V2, ..send("c_REPLY_TOPIC", 0, &pairs, "answer") };
    let replying = replier.start(reply.clone()).await;
    let push = requester.pushed().await;
    assert_eq!((push.code, push.body.as_ref()), (code::PUSH_REPLY, &b"answer"[..]));
    assert!(push.text("properties").expect("properties").contains("CORRELATION_ID\u{1}7"));
    let accepted = RemotingCommand { opaque: push.opaque, flag: 1, ..RemotingCommand::default() };
    requester.write(&accepted).await;
    let answer = replier.answer().await;
    assert_eq!((answer.opaque, answer.code), (replying, code::SUCCESS));
    drop(requester);
    // Wait until the proxy has noticed that the requester is disconnected.
    while replier.call(reply.clone()).await.code != code::SYSTEM_ERROR {}
}

#[tokio::test]
async fn an_unknown_code_is_refused_as_by_apaches_brokers() {
    let proxy = proxy().await;
    let mut client = Classic::connect(proxy.address).await;
    let answer = client.call(RemotingCommand::request(9999)).await;
    assert_eq!(answer.code, code::NOT_SUPPORTED);
    assert_eq!(answer.remark.as_deref(), Some(" request type 9999 not supported"));
    // A one-way request gets no answer, so the next frame answers the next request.
    client.write(&RemotingCommand::request(9999).one_way()).await;
    assert_eq!(client.call(route("t")).await.code, code::SUCCESS);
}

/// Connects, sends these bytes, and waits until the proxy closes the connection.
async fn is_closed_after(address: SocketAddr, bytes: &[u8]) {
    let mut client = Classic::connect(address).await;
    client.write_bytes(bytes).await;
    client.closed().await;
}

#[tokio::test]
async fn invalid_frames_end_their_connection_only() {
    let proxy = proxy().await;
    let mut honest = Classic::connect(proxy.address).await;
    assert_eq!(honest.call(route("t")).await.code, code::SUCCESS);
    let stopped: Vec<_> = futures::future::join_all((0..100).map(async |cut: usize| {
        let mut stopped = Classic::connect(proxy.address).await;
        // A frame of 15 MiB that never arrives completely.
        let frame = [0, 0xF0, 0, 0, 0, 0, 0, 10, b'{'];
        stopped.write_bytes(&frame[..1 + cut % frame.len()]).await;
        stopped
    }))
    .await;
    for bytes in [
        // Longer than 16 MiB.
        &[0, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1][..],
        // A header that is longer than its frame.
        &[0, 0, 0, 8, 0, 0, 0, 9, 1, 2, 3, 4],
        // An unknown kind of header.
        &[0, 0, 0, 8, 7, 0, 0, 2, b'{', b'}', 0, 0],
        // A header that is not JSON.
        &[0, 0, 0, 6, 0, 0, 0, 2, b'{', b'!'],
        // A binary header that ends too early.
        &[0, 0, 0, 6, 1, 0, 0, 2, 0, 1],
    ] {
        is_closed_after(proxy.address, bytes).await;
    }
    assert_eq!(honest.call(route("t")).await.code, code::SUCCESS);
    drop(stopped);
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections() {
    let mut proxy = proxy().await;
    let mut client = Classic::connect(proxy.address).await;
    assert_eq!(client.call(route("t")).await.code, code::SUCCESS);
    proxy.ask_to_stop();
    assert!(client.read().await.is_none());
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn a_shutdown_sends_go_away_to_new_clients_and_serves_old_ones() {
    // Apache's clients 5.3.2 and 4.9.3.
    let of_version = |version, command| RemotingCommand { version, ..command };
    let (newer, older) = (|command| of_version(477, command), |command| of_version(399, command));
    let mut proxy = proxy().await;
    let (mut new, mut old) = (Classic::connect(proxy.address).await, Classic::connect(proxy.address).await);
    for client in [&mut new, &mut old] {
        assert_eq!(client.call(newer(route("t"))).await.code, code::SUCCESS);
    }
    proxy.ask_to_stop();
    loop {
        assert_eq!(old.call(older(send("t", 0, &[], "body"))).await.code, code::SUCCESS);
        let answer = new.call(newer(send("t", 0, &[], "body"))).await;
        if answer.code == code::GO_AWAY {
            break;
        }
        assert_eq!(answer.code, code::SUCCESS);
    }
    assert_eq!(old.call(older(send("t", 0, &[], "body"))).await.code, code::SUCCESS);
    // A pull, which would wait for messages, is not answered.
    old.start(older(RemotingCommand::request(code::PULL_MESSAGE))).await;
    assert!(old.read().await.is_none() && new.read().await.is_none());
    drop((old, new));
    proxy.stop().await;
}

#[tokio::test]
async fn the_protocol_can_be_switched_off() {
    let proxy = Proxy::configured(|config| config.remoting.enabled = false).await;
    is_closed_after(proxy.address, &[0, 0, 0, 6, 0, 0, 0, 2, b'{', b'}']).await;
}
