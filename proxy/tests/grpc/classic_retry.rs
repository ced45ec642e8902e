//! How classic consumers send back messages that they have read by offset and could not consume.

use rocketmq_thin_proxy::remoting::message::{BatchEntry, StoredMessage, put_batch_entry};
use rocketmq_thin_proxy::remoting::{RemotingCommand, properties, request, response};
use serde_json::{Value, json};

use crate::classic::{Classic, send};
use crate::classic_queue::{Consumer, bodies};
use crate::support::Proxy;

const GROUP: &str = "by-offset";
const READER: Consumer<'_> = Consumer { group: GROUP, topic: "t", consume_type: "CONSUME_ACTIVELY" };
const RETRY: Consumer<'_> = Consumer { topic: "%RETRY%by-offset", ..READER };
const DEAD: Consumer<'_> = Consumer { topic: "%DLQ%by-offset", ..READER };

async fn proxy() -> Proxy {
    Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.remoting.pull_by_offset = vec![GROUP.to_owned()];
        config.backend.embedded.default_queues = 1;
    })
    .await
}

/// A consumer that was sent one message.
async fn reader(proxy: &Proxy) -> Classic {
    let mut client = Classic::consumer(proxy, "client", READER).await;
    let sent = client.call(send("t", 0, &[("UNIQ_KEY", "id"), ("own", "x")], "a").field("h", 7)).await;
    assert_eq!(sent.code, response::SUCCESS, "{:?}", sent.remark);
    client
}

/// The request that sends back a message. As from clients, it names the original topic.
fn back(message: &StoredMessage, level: i32) -> RemotingCommand {
    RemotingCommand::request(request::CONSUMER_SEND_MSG_BACK)
        .field("group", GROUP)
        .field("offset", message.commit_log_offset)
        .field("delayLevel", level)
        .field("originMsgId", "id")
        .field("originTopic", "t")
}

fn property<'a>(message: &'a StoredMessage, name: &str) -> Option<&'a str> {
    properties::decode(&message.properties).find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[tokio::test]
async fn a_message_read_by_offset_is_sent_back_until_it_is_a_dead_letter() {
    let proxy = proxy().await;
    let mut client = reader(&proxy).await;
    let read = client.messages(READER, 0).await.remove(0);
    assert_eq!(client.call(back(&read, 1)).await.code, response::SUCCESS);
    let again = client.messages(RETRY, 0).await.remove(0);
    assert_eq!((again.reconsume_times, again.flag, again.body.as_ref()), (1, 7, &b"a"[..]));
    let properties_again = ["RETRY_TOPIC", "ORIGIN_MESSAGE_ID", "own"].map(|name| property(&again, name));
    assert_eq!(properties_again, [Some("t"), Some("id"), Some("x")]);

    let limited = back(&again, 1).field("maxReconsumeTimes", 2);
    assert_eq!(client.call(limited).await.code, response::SUCCESS);
    let last = client.messages(RETRY, 1).await.remove(0);
    assert_eq!((last.reconsume_times, property(&last, "RETRY_TOPIC")), (2, Some("t")));
    let limited = back(&last, 1).field("maxReconsumeTimes", 2);
    assert_eq!(client.call(limited).await.code, response::SUCCESS);
    assert_eq!(client.call(back(&read, -1)).await.code, response::SUCCESS);
    let dead = client.messages(DEAD, 0).await;
    assert_eq!(bodies(&dead), ["a", "a"]);

    let unknown = StoredMessage { commit_log_offset: read.commit_log_offset + 1, ..read };
    assert_eq!(client.call(back(&unknown, 1)).await.code, response::SYSTEM_ERROR);
}

#[tokio::test]
async fn a_client_may_send_to_the_retry_topic_itself() {
    let proxy = proxy().await;
    let mut client = reader(&proxy).await;
    let route = RemotingCommand::request(request::GET_ROUTEINFO_BY_TOPIC).field("topic", RETRY.topic);
    let route: Value = serde_json::from_slice(&client.call(route).await.body).expect("JSON");
    assert_eq!(route["queueDatas"][0]["perm"], 6);
    let own = |reconsumed: i32| {
        let pairs = [("UNIQ_KEY", "id"), ("RETRY_TOPIC", "t"), ("DELAY", "1")];
        send(RETRY.topic, 0, &pairs, "b").field("j", reconsumed).field("l", 4)
    };
    assert_eq!(client.call(own(4)).await.code, response::SUCCESS);
    assert_eq!(client.messages(RETRY, 0).await[0].reconsume_times, 4);
    assert_eq!(client.call(own(5)).await.code, response::SUCCESS);
    assert_eq!(bodies(&client.messages(DEAD, 0).await), ["b"]);
}

#[tokio::test]
async fn a_message_that_a_consumer_in_order_gives_up_is_a_dead_letter() {
    let proxy = proxy().await;
    let mut client = reader(&proxy).await;
    let queue = json!({"queueId": 0, "topic": "t"});
    let lock = json!({"clientId": "client", "consumerGroup": GROUP, "mqSet": [queue]});
    let lock = RemotingCommand::request(request::LOCK_BATCH_MQ).body(lock.to_string());
    assert_eq!(client.call(lock).await.code, response::SUCCESS);
    let given_up = send(RETRY.topic, 0, &[("RETRY_TOPIC", "t"), ("DELAY", "5")], "a").field("j", 1);
    assert_eq!(client.call(given_up).await.code, response::SUCCESS);
    assert_eq!(bodies(&client.messages(DEAD, 0).await), ["a"]);
}

#[tokio::test]
async fn each_message_of_a_batch_keeps_its_own_flag() {
    let proxy = proxy().await;
    let mut client = reader(&proxy).await;
    let mut batch = bytes::BytesMut::new();
    for flag in [-1, 0, i32::MAX] {
        put_batch_entry(&mut batch, &BatchEntry { flag, properties: String::new(), body: "b".into() });
    }
    let sent = RemotingCommand { body: batch.freeze(), ..send("t", 0, &[], "").field("m", true) };
    assert_eq!(client.call(sent).await.code, response::SUCCESS);
    let flags: Vec<_> = client.messages(READER, 0).await.iter().map(|message| message.flag).collect();
    assert_eq!(flags, [7, -1, 0, i32::MAX]);
}
