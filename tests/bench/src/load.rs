//! The load generator: plain gRPC calls of the contract, as cheap as possible.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::try_join_all;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::messaging_service_client::MessagingServiceClient;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// The topic that clients send to.
pub(crate) const TOPIC: &str = "bench";
/// The topic of idle consumers.
pub(crate) const IDLE_TOPIC: &str = "bench-idle";
/// Bytes of a message's body.
pub(crate) const BODY: usize = 1024;
/// The time limit of an offered send.
const ANSWER: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The topic and group of a load.
#[derive(Clone)]
pub(crate) struct Names {
    pub(crate) topic: String,
    /// The group that consumes it.
    pub(crate) group: String,
}

impl Default for Names {
    fn default() -> Self {
        Self { topic: TOPIC.to_owned(), group: "bench-group".to_owned() }
    }
}

/// One connection to a server.
#[derive(Clone)]
pub(crate) struct Load {
    client: MessagingServiceClient<Channel>,
    names: Arc<Names>,
    client_id: &'static str,
    next_id: Arc<AtomicU64>,
    body: Bytes,
}

/// A send of [`Load::offer`].
pub(crate) struct Sent {
    pub(crate) took: Duration,
    /// When it was answered, since the first send was due.
    pub(crate) answered: Duration,
    /// Whether it was accepted; otherwise it was refused because of a limit.
    pub(crate) accepted: bool,
}

impl Load {
    pub(crate) async fn connect(address: &str, names: &Names) -> Result<Self, Failure> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect().await?;
        let client = MessagingServiceClient::new(channel)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20);
        let body = Bytes::from(vec![b'x'; BODY]);
        let names = Arc::new(names.clone());
        Ok(Self { client, names, client_id: "bench@1@1@1", next_id: Arc::default(), body })
    }

    /// The same connection as another client.
    pub(crate) fn with_client_id(self, client_id: &'static str) -> Self {
        Self { client_id, ..self }
    }

    /// Waits until the server knows the topic.
    pub(crate) async fn serving(&self, within: Duration) -> Result<(), Failure> {
        let begin = Instant::now();
        loop {
            let route = pb::QueryRouteRequest { topic: resource(&self.names.topic), ..Default::default() };
            let answered = match self.client.clone().query_route(self.request(route)).await {
                Ok(answer) => expect_ok(answer.into_inner().status),
                Err(status) => Err(status.into()),
            };
            if answered.is_ok() || begin.elapsed() > within {
                return answered;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Announces a consumer over telemetry, as Apache's proxy requires before a receive. The announcement lasts as
    /// long as the returned stream is kept.
    pub(crate) async fn register(&self) -> Result<Streaming<pb::TelemetryCommand>, Failure> {
        let subscription = pb::Subscription {
            group: resource(&self.names.group),
            subscriptions: vec![pb::SubscriptionEntry {
                topic: resource(&self.names.topic),
                expression: Some(everything()),
            }],
            ..Default::default()
        };
        let settings = pb::Settings {
            client_type: Some(pb::ClientType::SimpleConsumer as i32),
            request_timeout: Some(seconds(3)),
            pub_sub: Some(pb::settings::PubSub::Subscription(subscription)),
            user_agent: Some(pb::Ua { language: pb::Language::Rust as i32, ..Default::default() }),
            ..Default::default()
        };
        let command = Some(pb::telemetry_command::Command::Settings(settings));
        let first = pb::TelemetryCommand { command, ..Default::default() };
        let commands = futures::stream::iter([first]).chain(futures::stream::pending());
        let mut answers = self.client.clone().telemetry(self.request(commands)).await?.into_inner();
        answers.message().await?.ok_or("the telemetry stream ended at once")?;
        Ok(answers)
    }

    /// Sends `count` messages, `per_request` in each request, with `in_flight` requests under way.
    pub(crate) async fn send(
        &self,
        count: usize,
        per_request: usize,
        in_flight: usize,
    ) -> Result<(), Failure> {
        let requests = count / per_request / in_flight;
        try_join_all((0..in_flight).map(|_| {
            let load = self.clone();
            tokio::spawn(async move {
                for _ in 0..requests {
                    load.send_request(per_request).await?;
                }
                Ok::<_, Failure>(())
            })
        }))
        .await?
        .into_iter()
        .collect()
    }

    /// Sends messages one after the other, and returns how long each took.
    pub(crate) async fn send_timed(&self, count: usize) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let begin = Instant::now();
            self.send_request(1).await?;
            times.push(begin.elapsed());
        }
        Ok(times)
    }

    /// Sends single messages at a fixed rate for a while, and returns how long each took from the moment it
    /// was due, so that a stall counts for all that had to wait behind it.
    pub(crate) async fn send_at(&self, rate: u32, lasting: Duration) -> Result<Vec<Duration>, Failure> {
        let step = Duration::from_secs(1) / rate;
        let begin = Instant::now() + Duration::from_millis(10);
        let count = (lasting.as_secs_f64() * f64::from(rate)) as u32;
        let mut sends = Vec::new();
        for n in 0..count {
            let due = begin + step * n;
            tokio::time::sleep_until(due.into()).await;
            let load = self.clone();
            sends.push(tokio::spawn(async move {
                load.send_request(1).await?;
                Ok::<_, Failure>(due.elapsed())
            }));
        }
        try_join_all(sends).await?.into_iter().collect()
    }

    /// Sends single messages at a fixed rate for a while, over several connections in turn. Answers are not awaited before
    /// the next send.
    pub(crate) async fn offer(loads: &[Self], rate: u32, lasting: Duration) -> Result<Vec<Sent>, Failure> {
        let begin = Instant::now();
        let count = (lasting.as_secs_f64() * f64::from(rate)) as u32;
        let mut sends = Vec::new();
        for (n, load) in (0..count).zip(loads.iter().cycle()) {
            tokio::time::sleep_until((begin + lasting * n / count).into()).await;
            let load = load.clone();
            sends.push(tokio::spawn(async move {
                let sent = Instant::now();
                let status = tokio::time::timeout(ANSWER, load.answer(1)).await??;
                let is_refused = |status: &pb::Status| status.code == pb::Code::TooManyRequests as i32;
                let accepted = !status.as_ref().is_some_and(is_refused);
                if accepted {
                    expect_ok(status)?;
                }
                Ok::<_, Failure>(Sent { took: sent.elapsed(), answered: begin.elapsed(), accepted })
            }));
        }
        try_join_all(sends).await?.into_iter().collect()
    }

    async fn send_request(&self, messages: usize) -> Result<(), Failure> {
        expect_ok(self.answer(messages).await?)
    }

    /// Sends these messages in a request, and returns the status of the answer.
    async fn answer(&self, messages: usize) -> Result<Option<pb::Status>, Failure> {
        let messages = (0..messages).map(|_| self.message()).collect();
        let send = self.request(pb::SendMessageRequest { messages });
        Ok(self.client.clone().send_message(send).await?.into_inner().status)
    }

    fn request<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        for (key, value) in [
            ("x-mq-client-id", self.client_id),
            ("x-mq-language", "RUST"),
            ("x-mq-client-version", "5.0.7"),
            ("x-mq-protocol", "v2"),
        ] {
            request.metadata_mut().insert(key, MetadataValue::from_static(value));
        }
        request
    }

    fn message(&self) -> pb::Message {
        let n = self.next_id.fetch_add(1, Ordering::Relaxed);
        pb::Message {
            topic: resource(&self.names.topic),
            user_properties: [("origin".to_owned(), "bench".to_owned())].into(),
            system_properties: Some(pb::SystemProperties {
                tag: Some("t".to_owned()),
                keys: vec!["key".to_owned()],
                message_id: format!("01{n:032X}"),
                message_type: pb::MessageType::Normal as i32,
                body_encoding: pb::Encoding::Identity as i32,
                born_timestamp: Some(std::time::SystemTime::now().into()),
                born_host: "bench".to_owned(),
                ..Default::default()
            }),
            body: self.body.clone(),
        }
    }

    /// Receives and acknowledges `count` messages, up to `batch` in one request, by `consumers` at once.
    pub(crate) async fn consume(&self, count: usize, batch: usize, consumers: usize) -> Result<(), Failure> {
        let left = Arc::new(std::sync::atomic::AtomicI64::new(count as i64));
        try_join_all((0..consumers).map(|_| {
            let (load, left) = (self.clone(), left.clone());
            tokio::spawn(async move {
                while left.load(Ordering::Relaxed) > 0 {
                    let entries = load.receive(batch).await?;
                    left.fetch_sub(entries.len() as i64, Ordering::Relaxed);
                    if !entries.is_empty() {
                        load.ack(entries).await?;
                    }
                }
                Ok::<_, Failure>(())
            })
        }))
        .await?
        .into_iter()
        .collect()
    }

    async fn receive(&self, batch: usize) -> Result<Vec<pb::AckMessageEntry>, Failure> {
        let mut receive = self.request(pb::ReceiveMessageRequest {
            group: resource(&self.names.group),
            message_queue: Some(pb::MessageQueue {
                topic: resource(&self.names.topic),
                ..Default::default()
            }),
            filter_expression: Some(everything()),
            batch_size: batch as i32,
            invisible_duration: Some(seconds(60)),
            long_polling_timeout: Some(seconds(5)),
            ..Default::default()
        });
        receive.set_timeout(Duration::from_secs(15));
        let mut stream = self.client.clone().receive_message(receive).await?.into_inner();
        let mut entries = Vec::new();
        while let Some(part) = stream.message().await? {
            if let Some(pb::receive_message_response::Content::Message(message)) = part.content {
                let system = message.system_properties.unwrap_or_default();
                entries.push(pb::AckMessageEntry {
                    message_id: system.message_id,
                    receipt_handle: system.receipt_handle.unwrap_or_default(),
                    lite_topic: None,
                });
            }
        }
        Ok(entries)
    }

    async fn ack(&self, entries: Vec<pb::AckMessageEntry>) -> Result<(), Failure> {
        let ack = pb::AckMessageRequest {
            group: resource(&self.names.group),
            topic: resource(&self.names.topic),
            entries,
        };
        expect_ok(self.client.clone().ack_message(self.request(ack)).await?.into_inner().status)
    }
}

fn everything() -> pb::FilterExpression {
    pb::FilterExpression { r#type: pb::FilterType::Tag as i32, expression: "*".to_owned() }
}

fn resource(name: &str) -> Option<pb::Resource> {
    Some(pb::Resource { resource_namespace: String::new(), name: name.to_owned() })
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn expect_ok(status: Option<pb::Status>) -> Result<(), Failure> {
    match status {
        Some(status) if status.code == pb::Code::Ok as i32 => Ok(()),
        other => Err(Status::internal(format!("answered {other:?}")).into()),
    }
}
