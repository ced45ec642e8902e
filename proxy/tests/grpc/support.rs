//! Starts a proxy on a free port, and sends and receives messages through it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::messaging_service_client::MessagingServiceClient;
use rocketmq_thin_proto::v2::receive_message_response::Content;
use rocketmq_thin_proxy::app::App;
use rocketmq_thin_proxy::config::Config;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Request;
use tonic::transport::Channel;

pub(crate) type Client = MessagingServiceClient<Channel>;

/// A running proxy. Dropping it stops it.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) admin_address: Option<SocketAddr>,
    pub(crate) metrics_address: Option<SocketAddr>,
    /// The secret of the first user of a new catalog.
    pub(crate) first_secret: Option<String>,
    entries: HashMap<String, SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
    pub(crate) data: TempDir,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        Self::configured(|_| {}).await
    }

    pub(crate) async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        Self::in_directory(tempfile::tempdir().expect("a directory"), change).await
    }

    pub(crate) async fn in_directory(data: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { listen: "127.0.0.1:0".to_owned(), ..Config::default() };
        config.backend.embedded.data_dir = data.path().to_owned();
        // Allows tests to use short leases.
        config.limits.min_invisible = Duration::from_millis(1);
        config.limits.min_polling = Duration::from_millis(1);
        change(&mut config);
        let names: Vec<_> = config.entries.iter().map(|entry| entry.name.clone()).collect();
        let app = App::start(config).await.expect("a proxy");
        let entry = |name: String| {
            let address = app.address_of(&name).expect("an address").expect("an entry");
            (name, address)
        };
        let entries = names.into_iter().map(entry).collect();
        let address = app.address().expect("an address");
        let admin_address = app.admin_address().expect("an address");
        let metrics_address = app.metrics_address().expect("an address");
        let first_secret = app.first_user().map(|first| first.secret.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async {
            let _ = stopped.await;
        }));
        let stop = Some(stop);
        Self { address, admin_address, metrics_address, first_secret, entries, stop, running, data }
    }

    /// The address of an entry.
    pub(crate) fn entry(&self, name: &str) -> SocketAddr {
        self.entries[name]
    }

    pub(crate) async fn client(&self) -> Client {
        Self::client_at(self.address).await
    }

    /// A client of the entry with this address.
    pub(crate) async fn client_at(address: SocketAddr) -> Client {
        let url = format!("http://{address}");
        Client::connect(url).await.expect("a connection").max_decoding_message_size(1 << 27)
    }

    /// A channel for the clients of other services.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("a URI");
        endpoint.connect().await.expect("a connection")
    }

    /// Stops the proxy, and waits until it has ended. Returns its data directory.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.ask_to_stop();
        let Self { running, data, .. } = self;
        running.await.expect("an orderly end");
        data
    }

    pub(crate) fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// A request with the headers every client sends.
pub(crate) fn request<T>(message: T) -> Request<T> {
    request_of("client", message)
}

pub(crate) fn request_of<T>(client_id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let headers = request.metadata_mut();
    headers.insert("x-mq-client-id", client_id.parse().expect("a header"));
    headers.insert("x-mq-language", "RUST".parse().expect("a header"));
    headers.insert("x-mq-client-version", "5.0.7".parse().expect("a header"));
    request
}

pub(crate) fn resource(name: &str) -> Option<pb::Resource> {
    Some(pb::Resource { resource_namespace: String::new(), name: name.to_owned() })
}

pub(crate) fn message(topic: &str, id: &str, body: &str) -> pb::Message {
    pb::Message {
        topic: resource(topic),
        system_properties: Some(pb::SystemProperties {
            message_id: id.to_owned(),
            message_type: pb::MessageType::Normal.into(),
            ..Default::default()
        }),
        body: body.as_bytes().to_vec().into(),
        ..Default::default()
    }
}

pub(crate) async fn send(client: &mut Client, messages: Vec<pb::Message>) -> pb::SendMessageResponse {
    client.send_message(request(pb::SendMessageRequest { messages })).await.expect("an answer").into_inner()
}

pub(crate) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

/// A receive of up to 32 messages, leased for a minute. It waits long enough for messages that the test expects.
pub(crate) fn receive_request(topic: &str, group: &str) -> pb::ReceiveMessageRequest {
    pb::ReceiveMessageRequest {
        group: resource(group),
        message_queue: Some(pb::MessageQueue { topic: resource(topic), ..Default::default() }),
        batch_size: 32,
        invisible_duration: duration(Duration::from_secs(60)),
        long_polling_timeout: duration(Duration::from_secs(20)),
        ..Default::default()
    }
}

/// Whether this group has nothing to receive now.
pub(crate) async fn is_empty(client: &mut Client, topic: &str, group: &str) -> bool {
    let long_polling_timeout = duration(Duration::from_millis(100));
    let wanted = pb::ReceiveMessageRequest { long_polling_timeout, ..receive_request(topic, group) };
    receive(client, wanted).await.messages.is_empty()
}

/// The answers in the stream of a receive.
#[derive(Debug)]
pub(crate) struct ReceivedStream {
    pub(crate) parts: Vec<&'static str>,
    pub(crate) status: pb::Status,
    pub(crate) messages: Vec<pb::Message>,
}

pub(crate) async fn receive(client: &mut Client, wanted: pb::ReceiveMessageRequest) -> ReceivedStream {
    receive_as(client, request(wanted)).await
}

pub(crate) async fn receive_as(
    client: &mut Client,
    wanted: Request<pb::ReceiveMessageRequest>,
) -> ReceivedStream {
    let mut stream = client.receive_message(wanted).await.expect("an answer").into_inner();
    let mut received =
        ReceivedStream { parts: Vec::new(), status: pb::Status::default(), messages: Vec::new() };
    while let Some(part) = stream.message().await.expect("a part") {
        match part.content.expect("content") {
            Content::Status(status) => {
                received.parts.push("status");
                received.status = status;
            }
            Content::Message(message) => {
                received.parts.push("message");
                received.messages.push(message);
            }
            Content::DeliveryTimestamp(_) => received.parts.push("time"),
        }
    }
    received
}

pub(crate) fn system(message: &pb::Message) -> &pb::SystemProperties {
    message.system_properties.as_ref().expect("system properties")
}

pub(crate) fn handle(message: &pb::Message) -> String {
    system(message).receipt_handle.clone().expect("a handle")
}

/// Acknowledges deliveries of this topic and group.
pub(crate) async fn ack(
    client: &mut Client,
    [topic, group]: [&str; 2],
    handles: &[&str],
) -> pb::AckMessageResponse {
    let entries = handles.iter().map(|handle| pb::AckMessageEntry {
        message_id: "m".to_owned(),
        receipt_handle: (*handle).to_owned(),
        lite_topic: None,
    });
    let acks =
        pb::AckMessageRequest { group: resource(group), topic: resource(topic), entries: entries.collect() };
    client.ack_message(request(acks)).await.expect("an answer").into_inner()
}

/// The code of a status.
pub(crate) fn code(status: Option<pb::Status>) -> pb::Code {
    status.expect("a status").code()
}
