//! A client of the remoting protocol that sends and reads single frames.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::BytesMut;
use rocketmq_thin_proxy::remoting::{CommandCodec, HeaderType, RemotingCommand, properties};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::{Decoder, Encoder};

/// Codes of requests and answers (Apache's `RequestCode` and `ResponseCode`).
pub(crate) mod code {
    pub(crate) const PULL_MESSAGE: i32 = 11;
    pub(crate) const SEND_MESSAGE_V2: i32 = 310;
    pub(crate) const SEND_REPLY_MESSAGE_V2: i32 = 325;
    pub(crate) const HEART_BEAT: i32 = 34;
    pub(crate) const UNREGISTER_CLIENT: i32 = 35;
    pub(crate) const END_TRANSACTION: i32 = 37;
    pub(crate) const CONSUMER_LIST: i32 = 38;
    pub(crate) const CHECK_TRANSACTION_STATE: i32 = 39;
    pub(crate) const CONSUMERS_CHANGED: i32 = 40;
    pub(crate) const ROUTE: i32 = 105;
    pub(crate) const PUSH_REPLY: i32 = 326;
    pub(crate) const SUCCESS: i32 = 0;
    pub(crate) const SYSTEM_ERROR: i32 = 1;
    pub(crate) const SYSTEM_BUSY: i32 = 2;
    pub(crate) const NOT_SUPPORTED: i32 = 3;
    pub(crate) const NO_PERMISSION: i32 = 16;
    pub(crate) const TOPIC_NOT_EXIST: i32 = 17;
    pub(crate) const MESSAGE_ILLEGAL: i32 = 13;
    pub(crate) const NOT_FOUND: i32 = 22;
    pub(crate) const NOT_ONLINE: i32 = 206;
    pub(crate) const INVALID_PARAMETER: i32 = 29;
    pub(crate) const GO_AWAY: i32 = 1500;
}

/// A connection.
pub(crate) struct Classic {
    stream: TcpStream,
    buffer: BytesMut,
    pushed: VecDeque<RemotingCommand>,
    next: i32,
}

impl Classic {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        Self { stream, buffer: BytesMut::new(), pushed: VecDeque::new(), next: 0 }
    }

    /// Sends a request, and returns its `opaque`.
    pub(crate) async fn start(&mut self, mut request: RemotingCommand) -> i32 {
        self.next += 1;
        request.opaque = self.next;
        self.write(&request).await;
        self.next
    }

    pub(crate) async fn write(&mut self, command: &RemotingCommand) {
        let mut frame = BytesMut::new();
        CommandCodec.encode(command, &mut frame).expect("a frame");
        self.stream.write_all(&frame).await.expect("a connection");
    }

    /// Sends a request, and waits for its answer.
    pub(crate) async fn call(&mut self, request: RemotingCommand) -> RemotingCommand {
        let opaque = self.start(request).await;
        let answer = self.answer().await;
        assert_eq!(answer.opaque, opaque);
        answer
    }

    /// The next answer. Requests of the proxy that arrive before it wait for [`Classic::pushed`].
    pub(crate) async fn answer(&mut self) -> RemotingCommand {
        loop {
            let command = self.read().await.expect("an answer");
            if command.is_response() {
                return command;
            }
            self.pushed.push_back(command);
        }
    }

    /// The next request of the proxy.
    pub(crate) async fn pushed(&mut self) -> RemotingCommand {
        match self.pushed.pop_front() {
            Some(command) => command,
            None => self.read().await.expect("a request of the proxy"),
        }
    }

    /// The next frame. `None` if the proxy has closed the connection.
    pub(crate) async fn read(&mut self) -> Option<RemotingCommand> {
        loop {
            if let Some(command) = CommandCodec.decode(&mut self.buffer).expect("a frame") {
                return Some(command);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads and ignores frames until the proxy closes the connection.
    pub(crate) async fn closed(&mut self) {
        let mut ignored = Vec::new();
        // The connection may also be reset.
        let _ = self.stream.read_to_end(&mut ignored).await;
    }

    /// Writes bytes that need not be a frame.
    pub(crate) async fn write_bytes(&mut self, bytes: &[u8]) {
        // The proxy may have closed the connection already.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends the heartbeat of a client in these groups.
    pub(crate) async fn heartbeat(&mut self, client: &str, producers: &[&str], consumers: &[&str]) {
        let consumers: Vec<_> = consumers.iter().map(|group| consumer(group)).collect();
        let producers: Vec<_> = producers.iter().map(|group| json!({"groupName": group})).collect();
        let body = json!({"clientID": client, "producerDataSet": producers, "consumerDataSet": consumers});
        let answer = self.call(RemotingCommand::request(code::HEART_BEAT).body(body.to_string())).await;
        assert_eq!(answer.code, code::SUCCESS, "{:?}", answer.remark);
    }

    /// The client ids of a group's members, or the remark of the refusal.
    pub(crate) async fn members(&mut self, group: &str) -> Result<Vec<String>, String> {
        let answer =
            self.call(RemotingCommand::request(code::CONSUMER_LIST).field("consumerGroup", group)).await;
        if answer.code != code::SUCCESS {
            return Err(answer.remark.unwrap_or_default());
        }
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let ids = body["consumerIdList"].as_array().expect("a list").iter();
        Ok(ids.map(|id| id.as_str().expect("an id").to_owned()).collect())
    }
}

fn consumer(group: &str) -> Value {
    json!({
        "groupName": group,
        "consumeType": "CONSUME_PASSIVELY",
        "messageModel": "CLUSTERING",
        "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET",
        "subscriptionDataSet": [{"topic": "t", "subString": "*", "subVersion": 1}],
    })
}

/// A send of one message to a queue.
pub(crate) fn send(topic: &str, queue: i32, pairs: &[(&str, &str)], body: &str) -> RemotingCommand {
    RemotingCommand::request(code::SEND_MESSAGE_V2)
        .header(HeaderType::Binary)
        .field("a", "pg")
        .field("b", topic)
        .field("c", "TBW102")
        .field("d", 4)
        .field("e", queue)
        .field("f", 0)
        .field("g", 1_700_000_000_000i64)
        .field("h", 0)
        .field("i", properties::encode(pairs.iter().copied()))
        .body(body.to_owned())
}
