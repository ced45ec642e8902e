//! Requests of Apache's tools over the remoting protocol.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use rocketmq_thin_proxy::config::{TopicSpec, TopicType};
use rocketmq_thin_proxy::remoting::{CommandCodec, RemotingCommand, lenient, message, response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::codec::Framed;

use crate::admin::{run, text};
use crate::classic::{Classic, code, send};
use crate::support::Proxy;

const CLUSTER_INFO: i32 = 106;
const TOPIC_LIST: i32 = 206;
const SYSTEM_TOPICS: i32 = 304;
const PUT_TOPIC: i32 = 17;
const PUT_TOPICS: i32 = 18;
const DELETE_TOPIC: i32 = 215;
const PUT_GROUP: i32 = 200;
const PUT_GROUPS: i32 = 225;
const GROUP: i32 = 352;
const TOPIC_STATS: i32 = 202;
const BROKER_STATS: i32 = 315;
const RUNTIME_INFO: i32 = 28;
const CONSUMER_CONNECTIONS: i32 = 203;
const ALL_PRODUCERS: i32 = 328;
const POSITIONS: i32 = 223;
const POSITIONS_OF_CLIENT: i32 = 221;
const CHANGE_BROKER_CONFIG: i32 = 25;
const QUERY_MESSAGE: i32 = 12;
const VIEW_MESSAGE: i32 = 33;

async fn connected(proxy: &Proxy) -> Classic {
    Classic::connect(proxy.address).await
}

async fn proxy() -> Proxy {
    Proxy::configured(|config| config.remoting.enabled = true).await
}

fn body(answer: &RemotingCommand) -> Value {
    assert_eq!(answer.code, code::SUCCESS, "{:?}", answer.remark);
    lenient::from_slice(&answer.body).expect("JSON")
}

#[tokio::test]
async fn topics_are_created_changed_listed_and_deleted() {
    let proxy = proxy().await;
    let mut tool = connected(&proxy).await;
    let cluster = body(&tool.call(RemotingCommand::request(CLUSTER_INFO)).await);
    let broker = cluster["clusterAddrTable"]["DefaultCluster"][0].as_str().expect("a broker").to_owned();
    assert_eq!(cluster["brokerAddrTable"][&broker]["brokerAddrs"]["0"], proxy.address.to_string());

    let put = |attributes: &str| {
        let put = RemotingCommand::request(PUT_TOPIC).field("topic", "made").field("perm", 6);
        put.field("readQueueNums", 4).field("writeQueueNums", 4).field("attributes", attributes)
    };
    assert_eq!(tool.call(put("+message.type=DELAY")).await.code, code::SUCCESS);
    assert_eq!(tool.call(put("+message.type=NONSENSE")).await.code, code::INVALID_PARAMETER);
    assert_eq!(tool.call(put("+cleanup.policy=COMPACTION")).await.code, code::INVALID_PARAMETER);
    let topics = body(&tool.call(RemotingCommand::request(TOPIC_LIST)).await);
    assert_eq!(topics["topicList"], json!(["made"]));
    // The type stays if a change does not name it.
    assert_eq!(tool.call(put("")).await.code, code::SUCCESS);
    assert_eq!(tool.call(send("made", 3, &[("DELAY", "18")], "later")).await.code, code::SUCCESS);

    let delete = RemotingCommand::request(DELETE_TOPIC).field("topic", "made");
    assert_eq!(tool.call(delete).await.code, code::SUCCESS);
    assert_eq!(body(&tool.call(RemotingCommand::request(TOPIC_LIST)).await)["topicList"], json!([]));
}

#[tokio::test]
async fn lists_of_topics_and_groups_are_created_and_changed() {
    let proxy = proxy().await;
    let mut tool = connected(&proxy).await;
    let topics = |last_type: &str| {
        let list = json!({"topicConfigList": [
            {"topicName": "plain", "readQueueNums": 2, "writeQueueNums": 2, "perm": 6, "order": false},
            {"topicName": "typed", "attributes": {"+message.type": last_type}},
        ]});
        RemotingCommand::request(PUT_TOPICS).body(list.to_string())
    };
    // Nothing is created if one of them is refused.
    assert_eq!(tool.call(topics("NONSENSE")).await.code, code::INVALID_PARAMETER);
    let listed = body(&tool.call(RemotingCommand::request(TOPIC_LIST)).await);
    assert_eq!(listed["topicList"], json!([]));
    for _ in 0..2 {
        assert_eq!(tool.call(topics("FIFO")).await.code, code::SUCCESS);
    }
    let mut listed = body(&tool.call(RemotingCommand::request(TOPIC_LIST)).await)["topicList"].take();
    listed.as_array_mut().expect("a list").sort_by_key(Value::to_string);
    assert_eq!(listed, json!(["plain", "typed"]));

    let groups = json!({"groupConfigList": [
        {"groupName": "first", "retryMaxTimes": 3},
        {"groupName": "second", "consumeMessageOrderly": true},
    ]});
    let put = RemotingCommand::request(PUT_GROUPS).body(groups.to_string());
    assert_eq!(tool.call(put).await.code, code::SUCCESS);
    let second = body(&tool.call(RemotingCommand::request(GROUP).field("group", "second")).await);
    assert_eq!(second["consumeMessageOrderly"], json!(true));
    let first = body(&tool.call(RemotingCommand::request(GROUP).field("group", "first")).await);
    assert_eq!(first["retryMaxTimes"], json!(3));
}

#[tokio::test]
async fn groups_are_created_and_their_members_shown() {
    let proxy = proxy().await;
    let mut tool = connected(&proxy).await;
    let group = json!({"groupName": "g", "consumeEnable": true, "retryMaxTimes": 3});
    assert_eq!(
        tool.call(RemotingCommand::request(PUT_GROUP).body(group.to_string())).await.code,
        code::SUCCESS
    );
    let shown = body(&tool.call(RemotingCommand::request(GROUP).field("group", "g")).await);
    assert_eq!(shown["retryMaxTimes"], 3);
    assert_eq!(
        (&shown["groupRetryPolicy"]["type"], &shown["attributes"]),
        (&json!("CUSTOMIZED"), &json!({}))
    );
    let topics = body(&tool.call(RemotingCommand::request(TOPIC_LIST)).await);
    assert_eq!(topics["topicList"], json!(["%RETRY%g"]));

    // Tools look for a group's brokers in the route of its retry topic. Consumers find no queue there until it is created.
    let route = body(&tool.call(RemotingCommand::request(code::ROUTE).field("topic", "%RETRY%g")).await);
    assert_eq!(
        (&route["queueDatas"][0]["perm"], route["brokerDatas"].as_array().map(Vec::len)),
        (&json!(2), Some(1))
    );

    let connections = RemotingCommand::request(CONSUMER_CONNECTIONS).field("consumerGroup", "g");
    assert_eq!(tool.call(connections.clone()).await.code, code::NOT_ONLINE);
    let mut member = connected(&proxy).await;
    member.heartbeat("one", &[], &["g"]).await;
    let shown = body(&tool.call(connections).await);
    assert_eq!(shown["connectionSet"][0]["clientId"], "one");
    assert_eq!(shown["subscriptionTable"]["t"]["subString"], "*");
}

#[tokio::test]
async fn the_positions_of_clients_are_queried() {
    let proxy = proxy().await;
    let (mut tool, mut member) = (connected(&proxy).await, connected(&proxy).await);
    let ask = RemotingCommand::request(POSITIONS).field("topic", "t").field("group", "g");
    assert_eq!(tool.call(ask.clone()).await.code, code::SYSTEM_ERROR);
    member.heartbeat("one", &["pg"], &["g"]).await;
    assert_eq!(member.pushed().await.code, code::CONSUMERS_CHANGED);
    tool.start(ask).await;
    let asked = member.pushed().await;
    assert_eq!((asked.code, asked.text("topic")), (POSITIONS_OF_CLIENT, Some("t")));
    // The format of Apache's clients.
    let positions = r#"{"brokerName":"broker-a","queueId":3,"topic":"t"}:7"#;
    let reported = format!(r#"{{"consumerTable":{{}},"messageQueueTable":{{{positions}}}}}"#);
    let answer = RemotingCommand { opaque: asked.opaque, flag: 1, ..RemotingCommand::default() };
    member.write(&answer.body(reported)).await;
    let answer = tool.answer().await;
    assert_eq!(answer.code, code::SUCCESS, "{:?}", answer.remark);
    let expected = format!(r#"{{"consumerTable":{{"one":{{{positions}}}}},"messageQueueTable":{{}}}}"#);
    assert_eq!(answer.body, expected);

    let producers = body(&tool.call(RemotingCommand::request(ALL_PRODUCERS)).await);
    assert_eq!(producers["data"]["pg"][0]["clientId"], "one");
}

#[tokio::test]
async fn a_brokers_configuration_can_not_be_changed() {
    let proxy = proxy().await;
    let mut tool = connected(&proxy).await;
    let change = RemotingCommand::request(CHANGE_BROKER_CONFIG).body("flushDiskType=SYNC_FLUSH");
    let refused = tool.call(change).await;
    assert_eq!(refused.code, code::NOT_SUPPORTED);
    assert!(refused.remark.expect("a reason").contains("can't be changed through the proxy"));
}

#[tokio::test]
async fn messages_are_found_by_key_by_id_and_by_position() {
    let proxy = proxy().await;
    let mut tool = connected(&proxy).await;
    let sent =
        tool.call(send("t", 5, &[("UNIQ_KEY", "id-1"), ("KEYS", "red blue"), ("own", "x")], "body")).await;
    assert_eq!(sent.code, code::SUCCESS, "{:?}", sent.remark);
    let query = |key: &str| {
        let query =
            RemotingCommand::request(QUERY_MESSAGE).field("topic", "t").field("key", key).field("maxNum", 10);
        query.field("beginTimestamp", 0).field("endTimestamp", i64::MAX / 1000)
    };
    let by_id = query("id-1").field("_UNIQUE_KEY_QUERY", true);
    // The id of the message contains the address, and its position in the last 16 digits.
    let id = sent.text("msgId").expect("an id");
    let position = i64::from_str_radix(&id[id.len() - 16..], 16).expect("a position");
    let view = RemotingCommand::request(VIEW_MESSAGE).field("topic", "t").field("offset", position);
    for request in [query("blue"), by_id, view] {
        let found = tool.call(request).await;
        assert_eq!(found.code, code::SUCCESS, "{:?}", found.remark);
        let record = message::decode_all(found.body).remove(0);
        assert_eq!((record.topic.as_str(), record.queue_id, record.body.as_ref()), ("t", 5, &b"body"[..]));
        assert_eq!(record.offset_id(), id);
        assert!(record.properties.contains("own\u{1}x\u{2}"));
    }
    assert_eq!(tool.call(query("green")).await.code, code::NOT_FOUND);
    let stats = tool.call(RemotingCommand::request(TOPIC_STATS).field("topic", "t")).await;
    let stats = String::from_utf8(stats.body.to_vec()).expect("text");
    // Apache's tools read objects as keys, which are not JSON.
    let queue = r#"{"brokerName":"broker-a","queueId":5,"topic":"t"}:{"lastUpdateTimestamp":"#;
    assert!(stats.contains(queue) && stats.contains(r#""maxOffset":1,"minOffset":0"#), "{stats}");
}

#[tokio::test]
async fn a_dashboard_gets_the_lists_and_statistics_that_it_shows() {
    let proxy = proxy().await;
    let mut tool = connected(&proxy).await;
    let system = body(&tool.call(RemotingCommand::request(SYSTEM_TOPICS)).await);
    assert_eq!(system, json!({"topicList": ["DefaultCluster", "broker-a"]}));
    let stats = |name: &str, key: &str| {
        RemotingCommand::request(BROKER_STATS).field("statsName", name).field("statsKey", key)
    };
    assert_eq!(tool.call(send("t", 5, &[], "body")).await.code, code::SUCCESS);
    let stored = body(&tool.call(stats("TOPIC_PUT_NUMS", "t")).await);
    assert!(stored["statsMinute"]["tps"].as_f64() > Some(0.0), "{stored}");
    for period in ["statsMinute", "statsHour", "statsDay"] {
        assert_eq!(stored[period]["sum"], 1, "{stored}");
    }
    let unknown = tool.call(stats("BROKER_PUT_NUMS", "t")).await;
    assert_eq!(unknown.remark.as_deref(), Some("The stats <BROKER_PUT_NUMS> <t> not exist"));
    let info = body(&tool.call(RemotingCommand::request(RUNTIME_INFO)).await);
    assert_eq!(info["table"]["getTransferredTps"], "0.0 0.0 0.0");
    let rate = info["table"]["putTps"].as_str().and_then(|rates| rates.split(' ').next());
    assert!(rate.is_some_and(|rate| rate.parse::<f64>().expect("a rate") > 0.0), "{info}");
}

/// Starts a name server that knows a broker and fails for all other requests. Returns its address.
async fn name_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = Framed::new(stream, CommandCodec);
                while let Some(Ok(RemotingCommand { code, opaque, .. })) = stream.next().await {
                    let answer = match code {
                        CLUSTER_INFO => RemotingCommand::response(response::SUCCESS)
                            .body(json!({"brokerAddrTable": {"b": {"cluster": "c"}}}).to_string()),
                        _ => RemotingCommand::response(response::SYSTEM_ERROR),
                    };
                    // The proxy may have disconnected.
                    let _ = stream.send(&RemotingCommand { opaque, flag: 1, ..answer }).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_cluster_is_shown_though_its_rates_are_not_known() {
    let address = name_server().await;
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.backend.remote.name_server = address;
    })
    .await;
    let info = body(&connected(&proxy).await.call(RemotingCommand::request(RUNTIME_INFO)).await);
    for rates in ["putTps", "getTransferredTps"] {
        assert_eq!(info["table"][rates], "0.0 0.0 0.0", "{info}");
    }
}

#[tokio::test]
async fn tools_are_refused_if_administration_has_its_own_port() {
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.admin_listen = Some("127.0.0.1:0".to_owned());
    })
    .await;
    let mut tool = connected(&proxy).await;
    let delete = RemotingCommand::request(DELETE_TOPIC).field("topic", "t");
    assert_eq!(tool.call(delete).await.code, code::NOT_SUPPORTED);
}

#[tokio::test]
async fn a_change_keeps_the_settings_that_it_does_not_name() {
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.topics = vec![TopicSpec {
            name: "kept".to_owned(),
            kind: TopicType::Delay,
            retention: Some(Duration::from_secs(7 * 24 * 3600)),
            ..TopicSpec::default()
        }];
        let group = json!({"name": "kept", "fifo": true, "start": "latest"});
        config.groups = vec![serde_json::from_value(group).expect("a group")];
    })
    .await;
    let mut tool = connected(&proxy).await;
    let put = RemotingCommand::request(PUT_TOPIC).field("topic", "kept").field("perm", 6);
    let put = put.field("readQueueNums", 16).field("writeQueueNums", 16);
    assert_eq!(tool.call(put).await.code, code::SUCCESS);
    let group = json!({"groupName": "kept", "retryMaxTimes": 3});
    assert_eq!(
        tool.call(RemotingCommand::request(PUT_GROUP).body(group.to_string())).await.code,
        code::SUCCESS
    );
    let shown = run(&proxy, &["topic", "show", "kept"], "").await;
    let shown = text(&shown.stdout);
    for line in ["type = \"delay\"", "queues = 16", "retention = \"7days\""] {
        assert!(shown.contains(line), "{shown}");
    }
    let shown = run(&proxy, &["group", "show", "kept"], "").await;
    let shown = text(&shown.stdout);
    for line in ["fifo = true", "max_retries = 3", "start = \"latest\""] {
        assert!(shown.contains(line), "{shown}");
    }
}
