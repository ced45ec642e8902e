//! What classic clients can make the proxy hold, and how large messages reach them.

use std::io::Write;

use bytes::BytesMut;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::config::Config;
use rocketmq_thin_proxy::remoting::message::{BatchEntry, StoredMessage, flags, put_batch_entry};
use rocketmq_thin_proxy::remoting::{RemotingCommand, properties, request, response};
use serde_json::json;

use crate::classic::{Classic, send};
use crate::classic_queue::Consumer;
use crate::support::{Proxy, message, send as send_by_grpc};

const PUSH: Consumer<'_> = Consumer { group: "g", topic: "t", consume_type: "CONSUME_PASSIVELY" };
const PULL: Consumer<'_> = Consumer { consume_type: "CONSUME_ACTIVELY", ..PUSH };

async fn proxy(change: impl FnOnce(&mut Config)) -> Proxy {
    Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.backend.embedded.default_queues = 1;
        change(config);
    })
    .await
}

fn gzip(bytes: usize) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&vec![7; bytes]).expect("memory");
    gzip.finish().expect("memory")
}

async fn send_compressed(proxy: &Proxy, ids: &[&str], body: &[u8]) {
    let mut sender = proxy.client().await;
    for id in ids {
        let mut message = pb::Message { body: body.to_vec().into(), ..message("t", id, "") };
        let system = message.system_properties.as_mut().expect("system properties");
        system.body_encoding = pb::Encoding::Gzip.into();
        let sent = send_by_grpc(&mut sender, vec![message]).await;
        assert_eq!(crate::support::code(sent.status), pb::Code::Ok);
    }
}

/// Pulls until this many messages have come. Returns how many each answer had, and all of them.
async fn pull_all(proxy: &Proxy, consumer: Consumer<'_>, count: usize) -> (Vec<usize>, Vec<StoredMessage>) {
    let mut client = Classic::consumer(proxy, "client", consumer).await;
    let mut next = client.offset(consumer).await;
    let (mut sizes, mut all) = (Vec::new(), Vec::new());
    while all.len() < count {
        let messages = client.messages(consumer, next).await;
        next += messages.len() as i64;
        sizes.push(messages.len());
        all.extend(messages);
    }
    (sizes, all)
}

#[tokio::test]
async fn compressed_bodies_are_counted_as_they_are_delivered() {
    const BYTES: usize = 5 << 20;
    let proxy = proxy(|_| ()).await;
    send_compressed(&proxy, &["a", "b", "c", "d"], &gzip(BYTES)).await;
    for consumer in [PULL, PUSH] {
        let (sizes, messages) = pull_all(&proxy, consumer, 4).await;
        // Together they would not fit into a frame.
        assert_eq!(sizes, [2, 2]);
        assert!(messages.iter().all(|message| message.body.len() == BYTES && message.body[0] == 7));
    }
}

#[tokio::test]
async fn bodies_that_are_too_long_for_a_classic_client_do_not_block_the_others() {
    let bomb = gzip(16 << 20);
    let proxy = proxy(|_| ()).await;
    send_compressed(&proxy, &["a", "b", "c"], &bomb).await;
    send_compressed(&proxy, &["d"], &gzip(10)).await;
    for consumer in [PULL, PUSH] {
        let (_, messages) = pull_all(&proxy, consumer, 4).await;
        let with = |body: &[u8]| messages.iter().filter(|message| message.body == body).count();
        assert_eq!((with(&bomb), with(&[7; 10])), (3, 1));
        assert!(messages.iter().all(|message| message.system_flags & flags::COMPRESSED == 0));
    }
}

#[tokio::test]
async fn without_memory_messages_are_given_back() {
    let bytes = 4 << 20;
    let proxy = proxy(|config| config.transport.bytes_per_connection = bytes).await;
    send_compressed(&proxy, &["a"], &gzip(3 << 20)).await;
    let mut poor = Classic::consumer(&proxy, "poor", PUSH).await;
    let start = poor.offset(PUSH).await;
    // The body and its copy in the answer.
    assert_eq!(poor.pull(PUSH, start).await.code, response::SYSTEM_BUSY);
    let mut consumer = proxy.client().await;
    let received = crate::support::receive(&mut consumer, crate::support::receive_request("t", "g")).await;
    assert_eq!(received.messages.len(), 1);
}

fn batch(entries: usize, properties: &str) -> bytes::Bytes {
    let mut batch = BytesMut::new();
    for _ in 0..entries {
        let properties = properties.to_owned();
        put_batch_entry(&mut batch, &BatchEntry { flag: 0, properties, body: "b".into() });
    }
    batch.freeze()
}

#[tokio::test]
async fn the_messages_of_a_batch_and_the_values_of_a_body_are_bounded() {
    let proxy = proxy(|config| {
        config.transport.request_fields = 100;
        config.transport.bytes_per_connection = 16 << 20;
    })
    .await;
    let mut client = Classic::connect(proxy.address).await;
    let send_batch = |topic: &str, body: bytes::Bytes| {
        RemotingCommand { code: request::SEND_BATCH_MESSAGE, ..send(topic, 0, &[], "") }.body(body)
    };
    let sent = client.call(send_batch("t", batch(100, ""))).await;
    assert_eq!(sent.code, response::SUCCESS, "{:?}", sent.remark);
    let refused = client.call(send_batch("t", batch(101, ""))).await;
    assert_eq!(refused.code, response::MESSAGE_ILLEGAL);
    assert!(refused.remark.expect("a reason").contains("transport.request_fields"));
    // Each message has a copy of the topic's name, and a property takes many times the bytes that it has in a frame.
    let long = "t".repeat(300_000);
    let pairs = properties::encode([("k", "v")].repeat(8000));
    for (topic, body) in [(&*long, batch(100, "")), ("t", batch(100, &pairs))] {
        assert_eq!(client.call(send_batch(topic, body)).await.code, response::SYSTEM_BUSY);
    }

    let queues = |count: usize| vec![json!({"brokerName": "broker-a", "queueId": 0, "topic": "t"}); count];
    for (count, expected) in [(20, response::SUCCESS), (101, response::SYSTEM_ERROR)] {
        for code in [request::LOCK_BATCH_MQ, request::UNLOCK_BATCH_MQ] {
            let body = json!({"clientId": "c", "consumerGroup": "g", "mqSet": queues(count)});
            let answer = client.call(RemotingCommand::request(code).body(body.to_string())).await;
            assert_eq!(answer.code, expected, "{:?}", answer.remark);
        }
    }
}

#[tokio::test]
async fn numbers_that_can_not_be_read_are_refused() {
    let proxy = proxy(|_| ()).await;
    let mut client = Classic::connect(proxy.address).await;
    for (field, value) in [("f", "x"), ("h", "1.5"), ("j", "x"), ("l", "x")] {
        let refused = client.call(send("t", 0, &[], "body").field(field, value)).await;
        assert_eq!(refused.code, response::SYSTEM_ERROR, "{field}");
        assert!(refused.remark.expect("a reason").contains(&format!("the field {field} ")));
    }
    for key in ["DELAY", "TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS"] {
        let refused = client.call(send("t", 0, &[(key, "soon")], "body")).await;
        assert_eq!(refused.code, response::MESSAGE_ILLEGAL, "{key}");
    }
}
