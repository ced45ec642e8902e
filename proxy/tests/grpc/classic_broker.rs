//! Requests of tools and clients to a broker, except for sending and consuming.

use rocketmq_thin_proxy::remoting::{RemotingCommand, message, request, response};
use serde_json::{Value, json};

use crate::classic::{Classic, send};
use crate::classic_queue::{Consumer, bodies};
use crate::support::Proxy;

const PUSH: Consumer<'_> = Consumer { group: "g", topic: "t", consume_type: "CONSUME_PASSIVELY" };
const PULL: Consumer<'_> = Consumer { consume_type: "CONSUME_ACTIVELY", ..PUSH };

async fn proxy() -> Proxy {
    with_queues(1).await
}

/// A proxy whose topics have this many queues.
async fn with_queues(queues: i32) -> Proxy {
    Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.backend.embedded.default_queues = queues;
    })
    .await
}

async fn put(client: &mut Classic, texts: &[&str]) -> RemotingCommand {
    let mut last = RemotingCommand::default();
    for text in texts {
        last = client.call(send("t", 0, &[], text)).await;
        assert_eq!(last.code, response::SUCCESS, "{:?}", last.remark);
    }
    last
}

fn body(answer: &RemotingCommand) -> Value {
    assert_eq!(answer.code, response::SUCCESS, "{:?}", answer.remark);
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[tokio::test]
async fn a_peek_shows_messages_and_leaves_them() {
    let proxy = with_queues(2).await;
    let mut client = Classic::consumer(&proxy, "client", PULL).await;
    let peek = |queue: i32| {
        let peek =
            RemotingCommand::request(request::PEEK_MESSAGE).field("consumerGroup", "g").field("topic", "t");
        peek.field("queueId", queue).field("maxMsgNums", 2)
    };
    put(&mut client, &["a", "b", "c"]).await;
    assert_eq!(client.call(send("t", 1, &[], "d")).await.code, response::SUCCESS);
    // The rest is that of all queues that were asked for.
    for (queue, rest) in [(0, 1), (-1, 2), (0, 1)] {
        let peeked = client.call(peek(queue)).await;
        assert_eq!((peeked.code, peeked.number("restNum")), (response::SUCCESS, Some(rest)));
        assert_eq!(bodies(&message::decode_all(peeked.body)), ["a", "b"]);
    }
    client.commit(PULL, 3).await;
    assert_eq!(client.call(peek(0)).await.code, response::PULL_NOT_FOUND);
    assert_eq!(client.call(peek(0).field("maxMsgNums", 33)).await.code, response::INVALID_PARAMETER);
}

#[tokio::test]
async fn a_client_can_wait_for_messages_to_pop() {
    let proxy = proxy().await;
    let mut client = Classic::consumer(&proxy, "client", PUSH).await;
    let wait = PUSH.about(request::NOTIFICATION).field("queueId", -1).field("pollTime", 20_000);
    let waiting = client.start(wait).await;
    let mut sender = Classic::connect(proxy.address).await;
    put(&mut sender, &["a"]).await;
    let notified = client.answer().await;
    assert_eq!((notified.opaque, notified.text("hasMsg")), (waiting, Some("true")));
    let start = client.offset(PUSH).await;
    let got = client.messages(PUSH, start).await;
    assert_eq!((bodies(&got), got[0].reconsume_times), (vec!["a"], 0));
}

#[tokio::test]
async fn the_clients_of_a_group_can_be_switched_to_pop() {
    let proxy = proxy().await;
    let mut client = Classic::consumer(&proxy, "client", PUSH).await;
    put(&mut client, &["a"]).await;
    let ask = json!({"clientId": "client", "consumerGroup": "g", "topic": "t", "messageModel": "CLUSTERING",
        "strategyName": "AVG"});
    let ask = RemotingCommand::request(request::QUERY_ASSIGNMENT).body(ask.to_string());
    let set = |mode: &str, topic: &str| {
        let mode = json!({"consumerGroup": "g", "topic": topic, "mode": mode, "popShareQueueNum": 0});
        RemotingCommand::request(request::SET_MESSAGE_REQUEST_MODE).body(mode.to_string())
    };
    for (mode, queue) in [("PULL", 0), ("POP", -1), ("PULL", 0)] {
        assert_eq!(client.call(set(mode, "t")).await.code, response::SUCCESS);
        let assigned = body(&client.call(ask.clone()).await);
        let queue = json!({"brokerName": "broker-a", "queueId": queue, "topic": "t"});
        assert_eq!(assigned["messageQueueAssignments"], json!([{"messageQueue": queue, "mode": mode}]));
    }
    assert_eq!(client.call(set("POP", "%RETRY%g")).await.code, response::NO_PERMISSION);
}

#[tokio::test]
async fn tools_read_the_settings_of_a_broker_and_the_groups_of_a_topic() {
    let proxy = proxy().await;
    let mut client = Classic::consumer(&proxy, "client", PUSH).await;
    put(&mut client, &["a"]).await;
    let asked = RemotingCommand::request(request::GET_BROKER_CONFIG);
    let config = client.call(asked).await;
    assert!(config.body.starts_with(b"brokerName=broker-a\n"), "{config:?}");
    let who = RemotingCommand::request(request::QUERY_TOPIC_CONSUME_BY_WHO).field("topic", "t");
    assert_eq!(body(&client.call(who).await), json!({"groupList": ["g"]}));
    let earliest = PUSH.about(request::GET_EARLIEST_MSG_STORE_TIME);
    assert!(client.call(earliest.clone()).await.number("timestamp").is_some_and(|at: i64| at > 0));
    assert_eq!(client.call(earliest.field("queueId", 9)).await.number("timestamp"), Some(-1));
    let start = client.offset(PUSH).await;
    client.messages(PUSH, start).await;
    let topics = RemotingCommand::request(request::QUERY_TOPICS_BY_CONSUMER).field("group", "g");
    assert_eq!(body(&client.call(topics).await), json!({"topicList": ["t"]}));
}

#[tokio::test]
async fn a_consumer_can_be_made_to_consume_a_stored_message() {
    let proxy = proxy().await;
    let mut client = Classic::consumer(&proxy, "client", PUSH).await;
    let mut tool = Classic::connect(proxy.address).await;
    let id = put(&mut tool, &["a"]).await.text("msgId").expect("an id").to_owned();
    let consume = RemotingCommand::request(request::CONSUME_MESSAGE_DIRECTLY)
        .field("consumerGroup", "g")
        .field("clientId", "client")
        .field("topic", "t")
        .field("msgId", &id);
    let opaque = tool.start(consume.clone()).await;
    let asked = loop {
        let asked = client.pushed().await;
        if asked.code == request::CONSUME_MESSAGE_DIRECTLY {
            break asked;
        }
    };
    assert_eq!(bodies(&message::decode_all(asked.body.clone())), ["a"]);
    client
        .write(&RemotingCommand {
            opaque: asked.opaque,
            flag: 1,
            body: "done".into(),
            ..RemotingCommand::default()
        })
        .await;
    let answer = tool.answer().await;
    assert_eq!((answer.opaque, answer.body.as_ref()), (opaque, &b"done"[..]));
    let nonsense = tool.call(consume.field("msgId", "\u{e9}0123456789abcdef")).await;
    assert_eq!(nonsense.code, response::SYSTEM_ERROR);
}

#[tokio::test]
async fn a_reset_moves_consumers_that_read_by_offset() {
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.remoting.pull_by_offset = vec!["g".to_owned()];
        config.backend.embedded.default_queues = 1;
    })
    .await;
    let mut client = Classic::consumer(&proxy, "client", PUSH).await;
    let mut tool = Classic::connect(proxy.address).await;
    put(&mut tool, &["a", "b"]).await;
    client.commit(PUSH, 2).await;
    let reset = RemotingCommand::request(request::INVOKE_BROKER_TO_RESET_OFFSET).field("topic", "t");
    let reset = reset.field("group", "g").field("timestamp", 0).field("isForce", true);
    let answer = tool.call(reset).await;
    assert_eq!(answer.code, response::SUCCESS, "{answer:?}");
    let notified = loop {
        let notified = client.pushed().await;
        if notified.code == request::RESET_CONSUMER_CLIENT_OFFSET {
            break notified;
        }
    };
    assert_eq!((notified.body.as_ref(), notified.text("group")), (answer.body.as_ref(), Some("g")));
    assert_eq!(client.offset(PUSH).await, 0);
}

#[tokio::test]
async fn a_reset_of_one_queue_leaves_the_others() {
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.remoting.pull_by_offset = vec!["g".to_owned()];
        config.backend.embedded.default_queues = 2;
    })
    .await;
    let mut client = Classic::consumer(&proxy, "client", PULL).await;
    for queue in [0, 1] {
        assert_eq!(client.call(send("t", queue, &[], "a")).await.code, response::SUCCESS);
        let commit = PULL.about(request::UPDATE_CONSUMER_OFFSET).field("queueId", queue);
        assert_eq!(client.call(commit.field("commitOffset", 1)).await.code, response::SUCCESS);
    }
    let reset = |queue: &str, offset: &str| {
        RemotingCommand::request(request::INVOKE_BROKER_TO_RESET_OFFSET)
            .field("topic", "t")
            .field("group", "g")
            .field("timestamp", 0)
            .field("isForce", true)
            .field("queueId", queue)
            .field("offset", offset)
    };
    for (queue, offset) in [("x1", "-1"), ("1", "x"), ("", "0")] {
        assert_eq!(client.call(reset(queue, offset)).await.code, response::SYSTEM_ERROR, "{queue} {offset}");
    }
    let answer = client.call(reset("1", "-1")).await;
    assert_eq!(answer.code, response::SUCCESS, "{answer:?}");
    assert_eq!(answer.body, r#"{"offsetTable":{{"brokerName":"broker-a","queueId":1,"topic":"t"}:0}}"#);
    for (queue, offset) in [(0, 1), (1, 0)] {
        let query = PULL.about(request::QUERY_CONSUMER_OFFSET).field("queueId", queue);
        assert_eq!(client.call(query).await.number("offset"), Some(offset));
    }
}

#[tokio::test]
async fn a_group_that_consumes_in_order_needs_no_locks() {
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.backend.embedded.default_queues = 1;
        config.groups = vec![serde_json::from_value(json!({"name": "g", "fifo": true})).expect("a group")];
    })
    .await;
    let mut first = Classic::consumer(&proxy, "first", PUSH).await;
    let mut second = Classic::consumer(&proxy, "second", PUSH).await;
    put(&mut first, &["a", "b"]).await;
    for (client, id) in [(&mut first, "first"), (&mut second, "second")] {
        let queue = json!({"brokerName": "broker-a", "queueId": 0, "topic": "t"});
        let lock = json!({"clientId": id, "consumerGroup": "g", "mqSet": [queue]});
        let lock = RemotingCommand::request(request::LOCK_BATCH_MQ).body(lock.to_string());
        assert_eq!(body(&client.call(lock).await), json!({"lockOKMQSet": [queue]}));
    }
    let start = first.offset(PUSH).await;
    assert_eq!(bodies(&first.messages(PUSH, start).await), ["a", "b"]);
    put(&mut first, &["c"]).await;
    // The third message is blocked until the client has committed the first two.
    assert_eq!(first.pull(PUSH, start + 2).await.code, response::PULL_NOT_FOUND);
    first.commit(PUSH, start + 2).await;
    let other = second.offset(PUSH).await;
    assert_eq!(bodies(&second.messages(PUSH, other).await), ["c"]);
}
