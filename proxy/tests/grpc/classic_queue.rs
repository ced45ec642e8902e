//! A consumer of a topic's first queue, by the remoting protocol.

use rocketmq_thin_proxy::remoting::message::{StoredMessage, decode_all};
use rocketmq_thin_proxy::remoting::{RemotingCommand, request, response};
use serde_json::json;

use crate::classic::Classic;
use crate::support::Proxy;

/// How long a pull waits for a message that the test expects, in milliseconds.
const PULL_TIMEOUT_MS: u64 = 20_000;

impl Classic {
    /// Connects a client, and sends its heartbeat.
    pub(crate) async fn consumer(proxy: &Proxy, client_id: &str, consumer: Consumer<'_>) -> Self {
        let mut classic = Self::connect(proxy.address).await;
        let body = json!({
            "clientID": client_id,
            "producerDataSet": [],
            "consumerDataSet": [{
                "groupName": consumer.group,
                "consumeType": consumer.consume_type,
                "messageModel": "CLUSTERING",
                "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET",
                "subscriptionDataSet": [{"topic": consumer.topic, "subString": "*", "expressionType": "TAG"}],
            }],
        });
        let beat = RemotingCommand::request(request::HEART_BEAT).body(body.to_string());
        assert_eq!(classic.call(beat).await.code, response::SUCCESS);
        classic
    }

    /// The offset of the group in the queue.
    pub(crate) async fn offset(&mut self, consumer: Consumer<'_>) -> i64 {
        let command = consumer.about(request::QUERY_CONSUMER_OFFSET);
        self.call(command).await.number("offset").expect("an offset")
    }

    /// Pulls from an offset on.
    pub(crate) async fn pull(&mut self, consumer: Consumer<'_>, offset: i64) -> RemotingCommand {
        let command = consumer
            .about(request::PULL_MESSAGE)
            .field("queueOffset", offset)
            .field("maxMsgNums", 32)
            // A long poll. Pull consumers also send the filter.
            .field("sysFlag", if consumer.consume_type == "CONSUME_ACTIVELY" { 2 | 4 } else { 2 })
            .field("subscription", "*")
            .field("commitOffset", 0)
            .field("suspendTimeoutMillis", PULL_TIMEOUT_MS)
            .field("subVersion", 0);
        self.call(command).await
    }

    /// Pulls messages from an offset on, until there are some.
    pub(crate) async fn messages(&mut self, consumer: Consumer<'_>, offset: i64) -> Vec<StoredMessage> {
        let answer = self.pull(consumer, offset).await;
        assert_eq!(answer.code, response::SUCCESS, "{answer:?}");
        let messages = decode_all(answer.body.clone());
        let next: i64 = answer.number("nextBeginOffset").expect("an offset");
        let offsets: Vec<_> = messages.iter().map(|message| message.queue_offset).collect();
        assert_eq!(offsets, (offset..next).collect::<Vec<_>>());
        messages
    }

    /// Stores an offset of the group.
    pub(crate) async fn commit(&mut self, consumer: Consumer<'_>, offset: i64) {
        let command = consumer.about(request::UPDATE_CONSUMER_OFFSET).field("commitOffset", offset);
        assert_eq!(self.call(command).await.code, response::SUCCESS);
    }
}

/// A consumer of a topic's first queue.
#[derive(Clone, Copy)]
pub(crate) struct Consumer<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) consume_type: &'a str,
}

impl Consumer<'_> {
    /// A request about the consumer's queue.
    pub(crate) fn about(self, code: i32) -> RemotingCommand {
        RemotingCommand::request(code)
            .field("consumerGroup", self.group)
            .field("topic", self.topic)
            .field("queueId", 0)
    }
}

/// The bodies of messages as text.
pub(crate) fn bodies(messages: &[StoredMessage]) -> Vec<&str> {
    messages.iter().map(|message| std::str::from_utf8(&message.body).expect("text")).collect()
}
