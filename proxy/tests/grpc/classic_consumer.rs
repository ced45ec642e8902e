//! Classic consumers: pulls that are pops, and pulls by offset.

use rocketmq_thin_proxy::remoting::message::decode_all;
use rocketmq_thin_proxy::remoting::{RemotingCommand, properties, request, response};
use serde_json::{Value, json};

use crate::classic::Classic;
use crate::classic_queue::{Consumer, bodies};
use crate::support::send as send_by_grpc;
use crate::support::{Proxy, message};

const PUSH: Consumer<'_> =
    Consumer { group: "classic-group", topic: "classic-topic", consume_type: "CONSUME_PASSIVELY" };
const PULL: Consumer<'_> = Consumer { consume_type: "CONSUME_ACTIVELY", ..PUSH };

/// A proxy whose topic has one queue with these messages.
async fn proxy_with(ids: &[&str]) -> Proxy {
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.backend.embedded.default_queues = 1;
    })
    .await;
    send(&proxy, ids).await;
    proxy
}

async fn send(proxy: &Proxy, ids: &[&str]) {
    let mut sender = proxy.client().await;
    for id in ids {
        send_by_grpc(&mut sender, vec![message(PUSH.topic, id, id)]).await;
    }
}

#[tokio::test]
async fn a_queue_serves_all_push_consumers_of_a_group() {
    let proxy = proxy_with(&["a", "b"]).await;
    let mut first = Classic::consumer(&proxy, "first", PUSH).await;
    let mut second = Classic::consumer(&proxy, "second", PUSH).await;
    let start = first.offset(PUSH).await;
    assert_eq!(bodies(&first.messages(PUSH, start).await), ["a", "b"]);

    let other_start = second.offset(PUSH).await;
    let waiting = second.messages(PUSH, other_start);
    let (got, ()) = tokio::join!(waiting, send(&proxy, &["c"]));
    assert_eq!(bodies(&got), ["c"]);
}

#[tokio::test]
async fn commits_acknowledge_and_a_closed_connection_gives_back_the_other_messages() {
    let proxy = proxy_with(&["a", "b", "c"]).await;
    let mut first = Classic::consumer(&proxy, "first", PUSH).await;
    let start = first.offset(PUSH).await;
    assert_eq!(bodies(&first.messages(PUSH, start).await), ["a", "b", "c"]);
    first.commit(PUSH, start + 2).await;
    // The answer to a commit does not wait for the acknowledgement.
    drop(first);
    let mut second = Classic::consumer(&proxy, "second", PUSH).await;
    let mut next = second.offset(PUSH).await;
    loop {
        let got = second.messages(PUSH, next).await;
        next += got.len() as i64;
        if bodies(&got).contains(&"c") {
            break;
        }
    }
}

#[tokio::test]
async fn a_repeated_pull_returns_the_messages_again() {
    let proxy = proxy_with(&["a"]).await;
    let mut client = Classic::consumer(&proxy, "client", PUSH).await;
    let start = client.offset(PUSH).await;
    for _ in 0..3 {
        assert_eq!(bodies(&client.messages(PUSH, start).await), ["a"]);
    }
}

#[tokio::test]
async fn a_message_that_is_sent_back_is_delivered_later_as_another_attempt() {
    let proxy = proxy_with(&["a"]).await;
    let mut client = Classic::consumer(&proxy, "client", PUSH).await;
    let start = client.offset(PUSH).await;
    let got = client.messages(PUSH, start).await;
    let back = |level: i32, log_position: i64| {
        RemotingCommand::request(request::CONSUMER_SEND_MSG_BACK)
            .field("group", PUSH.group)
            .field("offset", log_position)
            .field("delayLevel", level)
            .field("originMsgId", "a")
            .field("originTopic", PUSH.topic)
    };
    let unknown = client.call(back(1, got[0].commit_log_offset + 1)).await;
    assert_eq!(unknown.code, response::SYSTEM_ERROR);
    assert_eq!(client.call(back(1, got[0].commit_log_offset)).await.code, response::SUCCESS);
    client.commit(PUSH, start + 1).await;
    let again = client.messages(PUSH, start + 1).await;
    assert_eq!((bodies(&again), again[0].reconsume_times), (vec!["a"], 1));
    assert_eq!(client.call(back(-1, again[0].commit_log_offset)).await.code, response::SUCCESS);
    let dead = Consumer { topic: "%DLQ%classic-group", ..PULL };
    assert_eq!(bodies(&client.messages(dead, 0).await), ["a"]);
}

#[tokio::test]
async fn a_consumer_that_chooses_its_offsets_reads_the_queue_itself() {
    let proxy = proxy_with(&["a", "b", "c"]).await;
    let mut client = Classic::consumer(&proxy, "client", PULL).await;
    assert_eq!(client.offset(PULL).await, 0);
    assert_eq!(bodies(&client.messages(PULL, 1).await), ["b", "c"]);
    client.commit(PULL, 2).await;
    assert_eq!(client.offset(PULL).await, 2);
    let beyond = client.pull(PULL, 9).await;
    assert_eq!((beyond.code, beyond.number("nextBeginOffset")), (response::PULL_OFFSET_MOVED, Some(3)));
    for (code, offset) in [(request::GET_MIN_OFFSET, 0), (request::GET_MAX_OFFSET, 3)] {
        assert_eq!(client.call(PULL.about(code)).await.number("offset"), Some(offset));
    }
}

#[tokio::test]
async fn a_consumer_that_locks_its_queues_reads_them_itself() {
    let proxy = proxy_with(&["a", "b"]).await;
    let lock = |client: &str| {
        let queue = json!({"queueId": 0, "topic": PUSH.topic});
        let body = json!({"clientId": client, "consumerGroup": PUSH.group, "mqSet": [queue]});
        RemotingCommand::request(request::LOCK_BATCH_MQ).body(body.to_string())
    };
    let mut first = Classic::consumer(&proxy, "first", PUSH).await;
    let mut second = Classic::consumer(&proxy, "second", PUSH).await;
    for (client, id, has_it) in [(&mut first, "first", true), (&mut second, "second", false)] {
        let locked: Value = serde_json::from_slice(&client.call(lock(id)).await.body).expect("JSON");
        assert_eq!(locked["lockOKMQSet"].as_array().map(Vec::len), Some(usize::from(has_it)), "{locked}");
    }
    assert_eq!(first.offset(PUSH).await, 0);
    assert_eq!(bodies(&first.messages(PUSH, 0).await), ["a", "b"]);
}

#[tokio::test]
async fn members_are_listed_together_unless_they_consume_concurrently() {
    let proxy = proxy_with(&["a"]).await;
    let mut first = Classic::consumer(&proxy, "first", PUSH).await;
    assert_eq!(first.pushed().await.code, request::NOTIFY_CONSUMER_IDS_CHANGED);
    let mut second = Classic::consumer(&proxy, "second", PUSH).await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.pushed().await.code, request::NOTIFY_CONSUMER_IDS_CHANGED);
        let both = vec!["first".to_owned(), "second".to_owned()];
        assert_eq!(client.members(PUSH.group).await, Ok(both));
    }
    // The first client queries an offset without a lock.
    first.offset(PUSH).await;
    for (client, id) in [(&mut first, "first"), (&mut second, "second")] {
        assert_eq!(client.pushed().await.code, request::NOTIFY_CONSUMER_IDS_CHANGED);
        assert_eq!(client.members(PUSH.group).await, Ok(vec![id.to_owned()]));
    }
}

#[tokio::test]
async fn members_that_lock_their_queues_are_listed_together() {
    let proxy = proxy_with(&["a"]).await;
    let mut first = Classic::consumer(&proxy, "first", PUSH).await;
    let queue = json!({"queueId": 0, "topic": PUSH.topic});
    let body = json!({"clientId": "first", "consumerGroup": PUSH.group, "mqSet": [queue]});
    first.call(RemotingCommand::request(request::LOCK_BATCH_MQ).body(body.to_string())).await;
    let mut second = Classic::consumer(&proxy, "second", PUSH).await;
    for client in [&mut first, &mut second] {
        for _ in 0..2 {
            let both = vec!["first".to_owned(), "second".to_owned()];
            assert_eq!(client.members(PUSH.group).await, Ok(both));
        }
    }
}

#[tokio::test]
async fn a_member_that_gets_no_queue_is_listed_alone_when_it_divides_the_queues_again() {
    let proxy = proxy_with(&["a"]).await;
    let _other = Classic::consumer(&proxy, "1", PUSH).await;
    let mut client = Classic::connect(proxy.address).await;
    let retry_topic = format!("%RETRY%{}", PUSH.group);
    let subscriptions = [PUSH.topic, &retry_topic].map(|topic| json!({"topic": topic, "subString": "*"}));
    let group = json!({
        "groupName": PUSH.group,
        "consumeType": PUSH.consume_type,
        "messageModel": "CLUSTERING",
        "subscriptionDataSet": subscriptions,
    });
    let beat = json!({"clientID": "2", "producerDataSet": [], "consumerDataSet": [group]});
    let beat = RemotingCommand::request(request::HEART_BEAT).body(beat.to_string());
    assert_eq!(client.call(beat).await.code, response::SUCCESS);
    // The first time, it queries once for each topic, before it can lock a queue.
    for _ in &subscriptions {
        assert_eq!(client.members(PUSH.group).await, Ok(vec!["1".to_owned(), "2".to_owned()]));
    }
    assert_eq!(client.members(PUSH.group).await, Ok(vec!["2".to_owned()]));
}

#[tokio::test]
async fn a_group_can_be_configured_to_pull_by_offset() {
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.remoting.pull_by_offset = vec!["classic-*".to_owned()];
        config.backend.embedded.default_queues = 1;
    })
    .await;
    send(&proxy, &["a"]).await;
    let mut client = Classic::consumer(&proxy, "client", PUSH).await;
    assert_eq!(client.offset(PUSH).await, 0);
    assert_eq!(bodies(&client.messages(PUSH, 0).await), ["a"]);
    let position = 1 << 60;
    let moved = client.pull(PUSH, position).await;
    assert_eq!((moved.code, moved.number("nextBeginOffset")), (response::PULL_OFFSET_MOVED, Some(0)));
}

#[tokio::test]
async fn a_popped_message_is_settled_by_its_extra_info() {
    let proxy = proxy_with(&["a"]).await;
    let mut client =
        Classic::consumer(&proxy, "client", Consumer { consume_type: "CONSUME_POP", ..PUSH }).await;
    let pop = || {
        PUSH.about(request::POP_MESSAGE)
            .field("maxMsgNums", 32)
            .field("invisibleTime", 60_000)
            .field("pollTime", 20_000)
            .field("bornTime", 0)
            .field("initMode", 0)
            .field("expType", "TAG")
            .field("exp", "*")
    };
    let popped = client.call(pop()).await;
    assert_eq!(popped.code, response::SUCCESS, "{popped:?}");
    let messages = decode_all(popped.body.clone());
    assert_eq!(bodies(&messages), ["a"]);
    let info = properties::decode(&messages[0].properties).find(|(key, _)| *key == "POP_CK");
    let info = info.expect("a handle").1.to_owned();
    let settle = |code: i32, info: &str| PUSH.about(code).field("extraInfo", info).field("offset", 0);

    let change = settle(request::CHANGE_MESSAGE_INVISIBLE_TIME, &info).field("invisibleTime", 1);
    assert_eq!(client.call(change).await.code, response::SUCCESS);
    let stale = client.call(settle(request::ACK_MESSAGE, "0 1 2 0 0 broker-a 0 0")).await;
    assert_eq!(stale.code, response::NO_MESSAGE);
    let popped = client.call(pop()).await;
    let messages = decode_all(popped.body.clone());
    assert_eq!((bodies(&messages), messages[0].reconsume_times), (vec!["a"], 1));

    // The client builds the text of a changed lease itself.
    let info =
        properties::decode(&messages[0].properties).find(|(key, _)| *key == "POP_CK").expect("a handle").1;
    let change = settle(request::CHANGE_MESSAGE_INVISIBLE_TIME, info).field("invisibleTime", 60_000);
    let changed = client.call(change).await;
    let (time, queue) =
        (changed.text("popTime").expect("a time"), changed.text("reviveQid").expect("a queue"));
    let made = format!("0 {time} 60000 {queue} 0 broker-a 0 0");
    assert_eq!(client.call(settle(request::ACK_MESSAGE, &made)).await.code, response::SUCCESS);

    for empty in ["", "null", "{}", r#"{"acks":null}"#, r#"{"acks":[]}"#] {
        let answer = client.call(RemotingCommand::request(request::BATCH_ACK_MESSAGE).body(empty)).await;
        assert_eq!(answer.code, response::NO_MESSAGE, "{empty:?}: {answer:?}");
    }
}
